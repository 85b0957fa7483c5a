"""Multiple-choice questions: an entry's options, in the forms in which people write them."""

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


def choice_of(entry: Entry, last_answer: str) -> tuple[dict[str, Any], list[str]]:
    """(metadata of a multiple-choice question, fields that were ignored).

    last_answer: the conversation's last answer. Which option is right, a field with a letter says, else a field with a text or
    the last answer, if they name exactly one. Where nothing tells, or the options are in no form that is known, the
    question is as without options, and the fields count as ignored.

    Raises BadRow: answer_mismatch (letter and answer name different options), not_utf8.
    """
    key = next((key for key in OPTIONS if says_something(entry.get(key))), "")
    options = options_of(entry.get(key)) if key else {}
    letter_fields = [(name, as_text(entry.get(name))) for name in LETTERS if entry.get(name) is not None]
    letters = {letter for _, text in letter_fields if text and (letter := letter_of(text, options))}
    if len(options) < 2:
        return {}, [name for name in (key, *(name for name, _ in letter_fields)) if name]
    answer_letter = letter_of(last_answer.rpartition("</think>")[2], options)
    if not letters:
        texts = [as_text(entry.get(name)) for name in TEXTS if entry.get(name) is not None]
        letters = {letter for text in texts if text and (letter := letter_of(text, options))}
    if len(letters) > 1 or (letters and answer_letter and answer_letter not in letters):
        listing = ", ".join(sorted({*letters, answer_letter} - {""}))
        raise BadRow("answer_mismatch", f"the entry and its last answer name different options: {listing}")
    letter = next(iter(letters), answer_letter)
    if not letter:
        return {}, [key, *(name for name, _ in letter_fields)]
    return choose(options, letter, "")[1], []


def options_of(value: Any) -> dict[str, str]:
    """Letter → text; {} for what is in no form that is known. Raises BadRow not_utf8."""
    if isinstance(value, str):
        value = [line for line in value.splitlines() if line.strip()]
    if isinstance(value, Mapping):
        pairs = [(str(name).strip(), as_text(text)) for name, text in value.items()]
    elif isinstance(value, list) and len(value) <= 26:
        texts = [as_text(text) for text in value]
        labels = [LABEL.fullmatch(text) if text else None for text in texts]
        letters = [chr(ord("A") + position) for position in range(len(texts))]
        if all(label and label[1].upper() == letter for label, letter in zip(labels, letters, strict=True)):
            texts = [label[2] for label in labels if label]
        pairs = list(zip(letters, texts, strict=True))
    else:
        return {}
    if not all(name and text and text.strip() for name, text in pairs):
        return {}
    return {name: check_utf8(text or "", "options").strip() for name, text in pairs}


def letter_of(answer: str, options: Mapping[str, str]) -> str:
    """The option that a text names: its letter, its text, or both together; "" if none, or several."""
    bare = answer.strip().strip("().:").strip()
    by_letter = [letter for letter in options if letter.casefold() == bare.casefold()]
    if by_letter:
        return by_letter[0]
    label = LABEL.fullmatch(answer.strip())
    if label and (matches := [letter for letter in options if letter.casefold() == label[1].casefold()]):
        return matches[0] if _same(options[matches[0]], label[2]) else ""
    by_text = [letter for letter, text in options.items() if _same(text, answer)]
    return by_text[0] if len(by_text) == 1 else ""


def _same(text: str, second: str) -> bool:
    return text.strip().rstrip(".").casefold() == second.strip().rstrip(".").casefold()
