"""Questions of records: the conversation that a mapping makes of an entry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from data_prep.conversations.multiple_choice import (
    inline_options,
    lettered,
    options_of,
    right_letters,
    same_text,
)
from data_prep.conversations.questions import ask, choose, yes_no_is_closed
from data_prep.conversations.turns import FOREIGN
from data_prep.errors import BadRow
from data_prep.readers.fields import says_something
from data_prep.readers.tables.cells import literal_in
from data_prep.sources.questions.records.mapping import AnswerTerm, OptionsTerm
from data_prep.sources.questions.records.rows import RecordEntry, RowReader, answer_texts, number_of
from medvlp.shards import Conversation
from medvlp.shards.vocabulary import IMAGE_TOKEN

NUMBER_TYPES = ("decimal", "integer", "date", "weeks")
WEEKS_AND_DAYS = re.compile(r"\d\s*weeks?\b.*\d\s*days?\b", re.IGNORECASE)
EQUAL = "questions with equal options"


def conversation_of(reader: RowReader, entry: RecordEntry, id: str, images: int) -> Conversation:
    """The question of an entry with its answer.

    Raises BadRow: missing_, empty_, bad_, long_<column>, not_utf8; no_options, unknown_option, answer_mismatch,
    ambiguous_answer, no_answer, bad_number; placeholder_count.
    """
    mapping = reader.mapping
    assert mapping.question is not None
    assert mapping.answer is not None
    question = mapping.question.text or entry.needed(mapping.question.column)
    options: dict[str, str] = {}
    if mapping.options and mapping.options.inline:
        question, options = inline_options(question)
    elif mapping.options:
        options = _options(entry, mapping.options)
    if mapping.question.end:
        question = question.partition(mapping.question.end)[0].strip() or question
    answer, kinds = _answer(reader, entry, mapping.answer, options)
    context = [text for term in mapping.context if (text := entry.prose(term))]
    kinds |= {
        "question_type": entry.note(mapping.question_type).replace("\n", "; "),
        "subject": entry.note(mapping.subject).replace("\n", "; "),
        "language": entry.constant(mapping.language),
        "rationale": entry.note(mapping.explanation),
        **reader.fields(entry, mapping.fields),
    }
    text = "\n".join([*context, question])
    placed = placed_images(text, images, options.values())
    return ask(text if placed is None else placed, answer, id, kinds, images if placed is None else None)


def _options(entry: RecordEntry, term: OptionsTerm) -> dict[str, str]:
    """Name → text; {} where the row has none. Raises BadRow no_options for what is in no form that is known."""
    if term.fixed:
        return {chr(ord("A") + number): text for number, text in enumerate(term.fixed)}
    if term.columns:
        texts = {letter: entry.text(column) for letter, column in term.columns.items()}
        return {letter: text for letter, text in texts.items() if text}
    value = entry.value(term.column)
    if not says_something(value) or (isinstance(value, str) and literal_in(value) in ([], {})):
        return {}
    options = {name: text for name, text in options_of(value).items() if not {name, text} & {*term.skip}}
    if not options:
        raise BadRow("no_options", f"{term.column} is {str(value)[:80]!r}, in no form of options that is known")
    return options


def _answer(
    reader: RowReader, entry: RecordEntry, term: AnswerTerm, options: dict[str, str]
) -> tuple[str, dict[str, Any]]:
    """(the last turn, metadata of the question)."""
    column = term.column
    value = term.column if term.kind == "option" else entry.value(term.column)
    if term.kind == "number":
        return _number(entry, term)
    texts = answer_texts(value, column)
    if term.kind == "set":
        return _set(texts, value)
    if term.kind == "index" and term.open and len(options) == 1:
        texts, options = list(options.values()), {}
    if not texts:
        raise BadRow("no_answer", f"{column} is empty")
    if term.names:
        texts = [_renamed(text, term) for text in texts]
    if not options:
        if (term.kind != "text" and not term.open) or (reader.mapping.options and reader.mapping.options.inline):
            raise BadRow("no_options", "the row has no options, but its answer names one")
        alternatives = {"answers": texts[1:]} if len(texts) > 1 else {}
        return texts[0], {"answer_type": yes_no_is_closed(texts[0]), **alternatives}
    if len(options) < 2 or len(options) > 26:
        raise BadRow("no_options", f"{len(options)} options, expected 2 to 26")
    letter_by_name = lettered(options)
    by_letter = {letter_by_name[name]: text for name, text in options.items()}
    if len({text.casefold() for text in by_letter.values()}) < len(by_letter):
        reader.counts[EQUAL] += 1
    if term.kind == "letter":
        letters = right_letters(texts, letter_by_name)
    elif term.kind == "index":
        letters = _by_index(texts, term, list(by_letter))
    else:
        letters = _by_text(texts, by_letter)
    if len(letters) == 1:
        return choose(by_letter, letters[0], "")
    return ", ".join(letters), {"answer_type": "multiple_choice", "options": by_letter, "answer_letters": letters}


def _renamed(text: str, term: AnswerTerm) -> str:
    if text not in term.names:
        raise BadRow("no_answer", f"{term.column} is {text[:40]!r}, expected one of {', '.join(term.names)}")
    return term.names[text]


def _by_index(texts: Sequence[str], term: AnswerTerm, letters: Sequence[str]) -> list[str]:
    # Letters stay with their columns where an option between is empty, so the index counts columns, not what is left.
    numbers = [number_of(text) for text in texts]
    positions = [int(number) - term.first for number in numbers if number is not None and number == int(number)]
    names = {chr(ord("A") + position) if 0 <= position < 26 else "" for position in positions}
    if len(positions) < len(texts) or not names or not names <= set(letters):
        expected = f"{term.first} to {term.first + len(letters) - 1}"
        raise BadRow("unknown_option", f"{term.column} is {', '.join(texts)[:40]}, expected {expected}")
    return [letter for letter in letters if letter in names]


def _by_text(texts: Sequence[str], options: dict[str, str]) -> list[str]:
    letters = []
    for text in texts:
        matches = [letter for letter, option in options.items() if same_text(option, text)]
        if len(matches) > 1:
            raise BadRow("ambiguous_answer", f"the answer {text[:40]!r} is the text of {', '.join(matches)}")
        if not matches:
            raise BadRow("answer_mismatch", f"the answer {text[:40]!r} is none of {str(options)[:200]}")
        letters += matches
    return [letter for letter in options if letter in letters]


def _number(entry: RecordEntry, term: AnswerTerm) -> tuple[str, dict[str, Any]]:
    text = entry.needed(term.column)
    words = entry.constant(term.number_type).lower()
    number_type = next((name for name in NUMBER_TYPES if name.rstrip("s") in words), "" if words else "decimal")
    if not number_type:
        raise BadRow("bad_number", f"{term.number_type} is {words[:40]!r}, expected one of {', '.join(NUMBER_TYPES)}")
    if WEEKS_AND_DAYS.search(text):  # MedCalc-Bench's calculator of dates has one answer that is an age
        number_type = "weeks"
    kinds: dict[str, Any] = {"answer_type": "number", "number_type": number_type}
    if number_type in ("decimal", "integer"):
        if number_of(text) is None:
            raise BadRow("bad_number", f"{term.column} is {text[:40]!r}, expected a number")
        bounds = {name: entry.text(column) for name, column in (("lower", term.lower), ("upper", term.upper)) if column}
        numbers = {name: number_of(bound) for name, bound in bounds.items() if bound}
        if None in numbers.values():
            raise BadRow("bad_number", f"the bounds are {', '.join(bounds.values())[:60]}, expected numbers")
        kinds |= numbers
    return text, kinds


def _set(texts: list[str], value: Any) -> tuple[str, dict[str, Any]]:
    """All of several answers, or none; yes and no alone are a closed question's."""
    if value is None:
        raise BadRow("no_answer", "the answer is missing")
    if len(texts) == 1 and texts[0].lower() in ("yes", "no"):
        return texts[0], {"answer_type": "closed"}
    distinct = list(dict.fromkeys(texts))
    return ", ".join(distinct) or "none", {"answer_type": "set", "answer_set": distinct}


def placed_images(text: str, images: int, options: Any) -> str | None:
    """A question that says itself where each of its images stands, with our placeholders; None for one that does not.

    Numbered marks (<image 1>) count where they name every image once and in order, and no option has one; else they stay
    as they are. Raises BadRow placeholder_count for our own placeholder in another number than there are images.
    """
    if images and text.count(IMAGE_TOKEN) == images:
        return text
    if IMAGE_TOKEN in text:
        raise BadRow("placeholder_count", f"{text.count(IMAGE_TOKEN)} {IMAGE_TOKEN} in the question, {images} images")
    marks = [match for match in FOREIGN.finditer(text) if match[1]]
    in_options = any(re.search(r"<image[ _]?\d+>", option) for option in options)
    if in_options or [int(mark[1]) for mark in marks] != list(range(1, images + 1)) or not images:
        return None
    return re.sub(r"<image[ _]?\d+>", IMAGE_TOKEN, text)
