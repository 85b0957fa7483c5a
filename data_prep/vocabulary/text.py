"""Texts of a sample: their clean form, the names of captions, and what stands for no text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

CAPTIONS = re.compile(r"caption(_[0-9]+)?")
"""Texts of a sample that hold its captions, as `numbered_captions` names them."""

NO_VALUE = frozenset(("nan", "none", "null", "na", "n/a", "<na>", "nat", "#n/a"))
"""How pandas and others write that there is no value, in lower case. Of labels they are names: a class may be None."""

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


def says_nothing(text: str) -> bool:
    """Whether prose has no words: neither letter nor digit of any script, or a word that stands for no value."""
    return text.strip().lower() in NO_VALUE or not any(character.isalnum() for character in text)


def numbered_captions(captions: Sequence[str]) -> dict[str, str]:
    """Texts of a sample: "caption", then "caption_1", "caption_2", …"""
    return {f"caption_{number}" if number else "caption": text for number, text in enumerate(captions)}
