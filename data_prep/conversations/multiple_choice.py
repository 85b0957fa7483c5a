"""Multiple-choice questions: an entry's options, in the forms in which people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.conversations.questions import choose
from data_prep.errors import BadRow
from data_prep.readers.fields import Entry, as_text, check_utf8, says_something
from data_prep.readers.tables.cells import literal_in

OPTIONS = ("options", "choices")
"""Keys of {letter: text}, [text, ...] or one text with a line for each."""

LETTERS = ("answer_letter", "answer_label", "correct_option", "answer_idx", "correct_letter")
RIGHT_LETTERS = "answer_letters"
TEXTS = ("answer", "correct_answer", "gt_answer", "answer_text")
ITEM_NAMES, ITEM_TEXTS = ("key", "label", "letter", "id"), ("value", "text", "option", "content")
"""Keys of an option that is an object: its name, its text."""

LETTERED_LINE = re.compile(r"\s*\(?([A-Za-z])(?:\s*[.:)．、：]\s*|\s+)(\S.*)")
INLINE = re.compile(r"(?:(?<=\s)|(?<=^))\(?([A-Za-z])\s*(?:[.)．、:：](?!\w\.)\)?)\s*")
"""A letter set off from what follows, at the start of a text or after a blank."""

LABEL = re.compile(r"\s*\(?([A-Za-z])\s*[.:)]\s*(\S.*)", re.DOTALL)
"""A letter set off from a text: "A. text", "(a) text", "B: text"."""


def choice_of(entry: Entry, last_answer: str) -> tuple[dict[str, Any], list[str]]:
    """(metadata of a multiple-choice question, fields that were ignored).

    last_answer: the conversation's last answer. Which option is right, a field with a letter says, else a field with a text or
    the last answer, if they name exactly one; `answer_letters` names several that are right. Where nothing tells, or the
    options are in no form that is known, the question is as without options, and the fields count as ignored; so does a field
    for a letter that names no option.

    Raises BadRow: answer_mismatch (letter and answer name different options), unknown_option (`answer_letters` has others),
    not_utf8.
    """
    key = next((key for key in OPTIONS if says_something(entry.get(key))), "")
    options = options_of(entry.get(key)) if key else {}
    letter_fields = [(name, as_text(entry.get(name))) for name in LETTERS if entry.get(name) is not None]
    letters = {letter for _, text in letter_fields if text and (letter := letter_of(text, options))}
    if len(options) < 2:
        return {}, [name for name in (key, *(name for name, _ in letter_fields)) if name]
    if RIGHT_LETTERS in entry and says_something(entry[RIGHT_LETTERS]):
        letter_by_name = {name: name for name in options}
        letters_of_answer = right_letters(entry[RIGHT_LETTERS], letter_by_name)
        return {"answer_type": "multiple_choice", "options": options, "answer_letters": letters_of_answer}, []
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
    unclear = [name for name, text in letter_fields if not letter_of(text or "", options)]
    return choose(options, letter, "")[1], unclear


def options_of(value: Any) -> dict[str, str]:
    """Name → text of options, in order; {} for what is in no form that is known. Raises BadRow not_utf8.

    Forms: {"A": text}; [text, ...], where letters in front of all texts are taken off; [{"key": "A", "value": text}, ...];
    one text: any of these as JSON or Python writes it, a line for each option, or letters in front of them on one line.
    Of a mapping, options without text are none.
    """
    if isinstance(value, str):
        value = _options_in(value)
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        value = _keyed(value)
    if isinstance(value, Mapping):
        pairs = [(str(name).strip(), as_text(text)) for name, text in value.items() if says_something(text)]
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


def _options_in(text: str) -> Any:
    """A mapping or a list of what a text says."""
    content = literal_in(text)
    if isinstance(content, list | tuple | Mapping):
        return list(content) if isinstance(content, tuple) else content
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or not all(LETTERED_LINE.match(line) for line in lines):
        return inline_options(text)[1] or lines
    options = {match[1]: match[2] for line in lines if (match := LETTERED_LINE.match(line))}
    return options if len(options) == len(lines) else lines


def _keyed(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """[{"key": "A", "value": text}, ...] as a mapping; {} where an item has no such keys, or two have one name."""
    pairs: dict[str, Any] = {}
    for item in items:
        names = [item[key] for key in ITEM_NAMES if says_something(item.get(key))]
        texts = [item[key] for key in ITEM_TEXTS if key in item]
        if len(names) != 1 or len(texts) != 1 or str(names[0]) in pairs:
            return {}
        pairs[str(names[0])] = texts[0]
    return pairs


def inline_options(text: str) -> tuple[str, dict[str, str]]:
    """(what stands before them, options) of a text that ends with options "A. …", "B. …", in order, from A on.

    Of several runs of letters the last one counts. Without two options, the text itself and {}.
    """
    marks = list(INLINE.finditer(text))
    for start in reversed([position for position, mark in enumerate(marks) if mark[1] in "Aa"]):
        run = [marks[start]]
        for mark in marks[start + 1 :]:
            if mark[1] == chr(ord(run[-1][1]) + 1) and _style(mark) == _style(run[0]):
                run.append(mark)
        if len(run) >= 2:
            ends = [*(mark.start() for mark in run[1:]), len(text)]
            texts = [text[mark.end() : end].strip() for mark, end in zip(run, ends, strict=True)]
            if all(texts):
                letters = [mark[1].upper() for mark in run]
                return text[: run[0].start()].strip(), dict(zip(letters, texts, strict=True))
    return text, {}


def _style(mark: re.Match[str]) -> str:
    """How a letter is set off: "(A)", "A.", ..."""
    return "".join(mark[0].replace(mark[1], "A", 1).split())


def lettered(options: Mapping[str, str]) -> dict[str, str]:
    """Name → letter: its own where all names are single letters, else A, B, … in order. At most 26 options."""
    names = list(options)
    if all(len(name) == 1 and name.isascii() and name.isalpha() for name in names):
        letters = [name.upper() for name in names]
        if len(set(letters)) == len(letters):
            return dict(zip(names, letters, strict=True))
    return {name: chr(ord("A") + position) for position, name in enumerate(names)}


def right_letters(answer: Any, letter_by_name: Mapping[str, str]) -> list[str]:
    """The options that an answer names: "B", "(b)", "ABD", "A,C", ["a", "c"], "option2". In the options' order.

    Raises BadRow unknown_option.
    """
    if isinstance(answer, str) and isinstance(content := literal_in(answer), list | tuple):
        answer = list(content)
    parts = answer if isinstance(answer, list) else [answer]
    by_folded = {name.casefold(): letter for name, letter in letter_by_name.items()}
    by_folded |= {letter.casefold(): letter for letter in letter_by_name.values()}
    letters: set[str] = set()
    for part in parts:
        text = (as_text(part) or "").strip()
        bare = text.strip("().: ").casefold()
        names = [bare] if bare in by_folded else [name for name in re.split(r"[\s,;/|&、，；]+|\band\b", bare) if name]
        if len(names) == 1 and names[0] not in by_folded:
            names = list(names[0])
        if not names or not all(name in by_folded for name in names):
            listing = ", ".join(letter_by_name)
            raise BadRow("unknown_option", f"the answer is {text[:40]!r}, the options are {listing}")
        letters.update(by_folded[name] for name in names)
    return [letter for letter in letter_by_name.values() if letter in letters]


def letter_of(answer: str, options: Mapping[str, str]) -> str:
    """The option that a text names: its letter, its text, or both together; "" if none, or several."""
    bare = answer.strip().strip("().:").strip()
    by_letter = [letter for letter in options if letter.casefold() == bare.casefold()]
    if by_letter:
        return by_letter[0]
    label = LABEL.fullmatch(answer.strip())
    if label and (matches := [letter for letter in options if letter.casefold() == label[1].casefold()]):
        return matches[0] if same_text(options[matches[0]], label[2]) else ""
    by_text = [letter for letter, text in options.items() if same_text(text, answer)]
    return by_text[0] if len(by_text) == 1 else ""


def same_text(text: str, second: str) -> bool:
    """Whether two texts are equal but for case, blanks at their ends and a last full stop."""
    return text.strip().rstrip(".").casefold() == second.strip().rstrip(".").casefold()
