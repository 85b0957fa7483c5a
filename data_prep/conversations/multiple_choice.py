"""Options of an entry as a question of multiple choice, in the forms in which people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from data_prep.conversations.questions import choose
from data_prep.errors import BadRow
from data_prep.readers.fields import Entry, as_text, check_utf8, says_something

OPTIONS = ("options", "choices")
"""Keys of {letter: text}, [text, ...] or one text with a line for each."""

LETTERS = ("answer_letter", "answer_label", "correct_option", "answer_idx", "correct_letter")
TEXTS = ("answer", "correct_answer", "gt_answer", "answer_text")
LABEL = re.compile(r"\s*\(?([A-Za-z])\s*[.:)]\s*(\S.*)", re.DOTALL)
"""A letter set off from a text: "A. text", "(a) text", "B: text"."""


def choice_of(entry: Entry, said: str) -> tuple[dict[str, Any], list[str]]:
    """(metadata of a multiple-choice question, fields that were left out).

    said: the conversation's last answer. Which option is right, a field with a letter says, else a field with a text or
    the last answer, if they name exactly one. Where nothing tells, or the options are in no form that is known, the
    question is as without options, and the fields count as ignored.

    Raises BadRow: answer_mismatch (letter and answer name different options), not_utf8.
    """
    key = next((key for key in OPTIONS if says_something(entry.get(key))), "")
    options = options_of(entry.get(key)) if key else {}
    marked = [(name, as_text(entry.get(name))) for name in LETTERS if entry.get(name) is not None]
    stated = {letter for _, text in marked if text and (letter := letter_of(text, options))}
    if len(options) < 2:
        return {}, [name for name in (key, *(name for name, _ in marked)) if name]
    spoken = letter_of(said.rpartition("</think>")[2], options)
    if not stated:
        texts = [as_text(entry.get(name)) for name in TEXTS if entry.get(name) is not None]
        stated = {letter for text in texts if text and (letter := letter_of(text, options))}
    if len(stated) > 1 or (stated and spoken and spoken not in stated):
        named = ", ".join(sorted({*stated, spoken} - {""}))
        raise BadRow("answer_mismatch", f"the entry and its last answer name different options: {named}")
    letter = next(iter(stated), spoken)
    if not letter:
        return {}, [key, *(name for name, _ in marked)]
    return choose(options, letter, "")[1], []


def options_of(value: Any) -> dict[str, str]:
    """Letter → text; {} for what is in no form that is known. Raises BadRow not_utf8."""
    if isinstance(value, str):
        value = [line for line in value.splitlines() if line.strip()]
    if isinstance(value, Mapping):
        pairs = [(str(name).strip(), as_text(text)) for name, text in value.items()]
    elif isinstance(value, list) and len(value) <= 26:
        texts = [as_text(text) for text in value]
        marks = [LABEL.fullmatch(text) if text else None for text in texts]
        letters = [chr(ord("A") + position) for position in range(len(texts))]
        if all(mark and mark[1].upper() == letter for mark, letter in zip(marks, letters, strict=True)):
            texts = [mark[2] for mark in marks if mark]
        pairs = list(zip(letters, texts, strict=True))
    else:
        return {}
    if not all(name and text and text.strip() for name, text in pairs):
        return {}
    return {name: check_utf8(text or "", "options").strip() for name, text in pairs}


def letter_of(said: str, options: Mapping[str, str]) -> str:
    """The option that a text names: its letter, its text, or both together; "" if none, or several."""
    bare = said.strip().strip("().:").strip()
    by_letter = [letter for letter in options if letter.casefold() == bare.casefold()]
    if by_letter:
        return by_letter[0]
    label = LABEL.fullmatch(said.strip())
    if label and (both := [letter for letter in options if letter.casefold() == label[1].casefold()]):
        return both[0] if _same(options[both[0]], label[2]) else ""
    by_text = [letter for letter, text in options.items() if _same(text, said)]
    return by_text[0] if len(by_text) == 1 else ""


def _same(text: str, other: str) -> bool:
    return text.strip().rstrip(".").casefold() == other.strip().rstrip(".").casefold()
