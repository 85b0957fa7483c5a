"""Stages that look at the texts alone."""

from __future__ import annotations

import re
import unicodedata

from data_prep.readers.cells import says_nothing
from data_prep.stages.draft import Draft, Drop


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
    """Drop what says nothing: no caption, or one without words (None, -, .), and no conversation.

    Beside a conversation, a caption without words is taken away and counted.
    """
    caption = draft.sample.texts.get("caption", "")
    if caption and not says_nothing(caption):
        return draft
    if not draft.sample.conversations:
        if caption:
            raise Drop(
                "need_text", "wordless_caption", f"the caption is {caption[:40]!r}, and there is no conversation"
            )
        raise Drop("need_text", "empty_caption", "neither a caption nor a conversation")
    if caption:
        del draft.sample.texts["caption"]
        draft.count("need_text", "captions without words taken away")
    return draft
