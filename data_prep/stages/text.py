"""Stages that look at the texts alone."""

from __future__ import annotations

import re
import unicodedata

from data_prep.captions.templates import CAPTIONS, numbered
from data_prep.draft import Draft, Drop
from data_prep.readers.tables.cells import says_nothing


def clean_text(draft: Draft) -> Draft:
    """Every text in NFC, without control characters and direction marks, white space as single blanks."""
    sample = draft.sample
    sample.texts = {name: tidy(text) for name, text in sample.texts.items()}
    for conversation in sample.conversations:
        for turn in conversation.turns:
            turn.text = tidy(turn.text, keep_lines=True)
    return draft


# Marks that steer the direction of text (and zero-width ones) are invisible, survive copying from PDFs, and make equal
# captions differ. Zero-width joiners stay: scripts such as Persian or Devanagari spell with them.
_INVISIBLE = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")


def tidy(text: str, keep_lines: bool = False) -> str:
    """The text as `clean_text` leaves it; keep_lines spares line breaks, which matter in answers with lists."""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFC", text.replace("\r\n", "\n")))
    text = "".join(c if not unicodedata.category(c).startswith("C") or c in "\n\t\u200c\u200d" else " " for c in text)
    if keep_lines:
        return "\n".join(" ".join(line.split()) for line in text.split("\n")).strip()
    return " ".join(text.split())


def need_text(draft: Draft) -> Draft:
    """Drop what says nothing: no conversation, and no caption or none with words in it (None, -, .).

    Of several captions, and beside a conversation, those without words are taken away and counted.
    """
    texts = draft.sample.texts
    captions = {name: text for name, text in texts.items() if CAPTIONS.fullmatch(name)}
    spoken = [text for text in captions.values() if not says_nothing(text)]
    if not spoken and not draft.sample.conversations:
        if any(captions.values()):
            raise Drop("need_text", "wordless_caption", f"the caption is {texts.get('caption', '')[:40]!r}")
        raise Drop("need_text", "empty_caption", "neither a caption nor a conversation")
    if len(spoken) < len(captions):
        draft.count("need_text", "captions without words taken away", len(captions) - len(spoken))
        kept = {name: text for name, text in texts.items() if name not in captions}
        draft.sample.texts = {**numbered(spoken), **kept}
    return draft
