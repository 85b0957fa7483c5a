"""Text stages: cleaning, and the samples without a text."""

from __future__ import annotations

from data_prep.draft import Draft, Drop
from data_prep.vocabulary.text import CAPTIONS, numbered_captions, says_nothing, tidy
from medvlp.shards.vocabulary import RETRIEVAL_ROLES


def clean_text(draft: Draft) -> Draft:
    """Every text in NFC, without control characters and direction marks, white space as single blanks."""
    sample = draft.sample
    sample.texts = {name: tidy(text) for name, text in sample.texts.items()}
    for conversation in sample.conversations:
        for turn in conversation.turns:
            turn.text = tidy(turn.text, keep_lines=True)
    return draft


def need_text(draft: Draft) -> Draft:
    """Drop samples without words: no conversation, and no caption or none with words in it (None, -, .).

    Of several captions, and next to a conversation, those without words are taken away and counted. What is looked for in
    retrieval, and its queries, have other texts, or an image alone.
    """
    if draft.sample.metadata.get("role") in RETRIEVAL_ROLES:
        return draft
    texts = draft.sample.texts
    captions = {name: text for name, text in texts.items() if CAPTIONS.fullmatch(name)}
    worded = [text for text in captions.values() if not says_nothing(text)]
    if not worded and not draft.sample.conversations:
        if any(captions.values()):
            raise Drop("need_text", "wordless_caption", f"the caption is {texts.get('caption', '')[:40]!r}")
        raise Drop("need_text", "empty_caption", "neither a caption nor a conversation")
    if len(worded) < len(captions):
        draft.count("need_text", "captions without words taken away", len(captions) - len(worded))
        other_texts = {name: text for name, text in texts.items() if name not in captions}
        draft.sample.texts = {**numbered_captions(worded), **other_texts}
    return draft
