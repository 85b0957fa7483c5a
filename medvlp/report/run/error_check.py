"""Examples of error checks: responses next to the text, the sentence that they name, and what is right."""

import hashlib
from collections.abc import Callable

from medvlp.report.files import Row
from medvlp.report.run import prompting
from medvlp.report.run.galleries import Examples, QuestionExample, clipped_text
from medvlp.report.run.prompting import ExampleTexts, folded_prompting, voting_words
from medvlp.report.shapes import NULL, NUMBER, OBJECT, TEXT, Shape, mapping_of, row_of
from medvlp.report.thumbnails import Thumbnails

TEXTS = 4
"""Texts in a gallery."""
CHARACTERS = 2000
"""Of a text on a page."""

_FLAG = Shape("true or false", lambda value: isinstance(value, bool))
_VERDICT = row_of({"has_error": _FLAG, "sentence": NUMBER | NULL, "correction": TEXT})
RECORD = {
    **dict.fromkeys(("id", "question", "prediction", "target"), TEXT),
    "verdict": _VERDICT | NULL,
    "truth": _VERDICT,
    "scores": mapping_of(NUMBER | NULL),
    "controls": mapping_of(TEXT),
}
"""What a record has."""
OPTIONAL = {"sentences": mapping_of(TEXT), "extraction": OBJECT, **prompting.RECORD}
"""What records of newer evaluations have, and those of prompting protocols."""

GALLERIES: tuple[tuple[str, Callable[[Row], bool]], ...] = (
    ("Error found, in its sentence", lambda row: _flags(row) == (True, True) and _names_the_sentence(row)),
    (
        "Error seen, in another sentence or in none",
        lambda row: _flags(row) == (True, True) and not _names_the_sentence(row),
    ),
    ("Error overlooked", lambda row: _flags(row) == (True, False)),
    ("Right text, said to have an error", lambda row: _flags(row) == (False, True)),
    ("Right text, said to be right", lambda row: _flags(row) == (False, False)),
    ("No verdict that can be read", lambda row: row["verdict"] is None),
)
"""Heading → which texts."""


def error_examples(
    records: list[Row], protocol: Row, thumbnails: Thumbnails | None, most: int | None = None
) -> Examples:
    """Of an error check, some texts of each outcome. Their images are shown where they have some."""
    if thumbnails is None:
        return Examples()
    examples = ExampleTexts(protocol)
    # In the order of a hash: the first ones of a file are often of one kind.
    by_hash = sorted(records, key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    galleries = [
        (title, [_example(row, thumbnails, examples) for row in list(filter(is_member, by_hash))[: most or TEXTS]])
        for title, is_member in GALLERIES
    ]
    return Examples(questions=[(title, rows) for title, rows in galleries if rows])


def _flags(row: Row) -> tuple[bool, bool] | None:
    """(whether there is an error, whether the reply says so); None where it says nothing that can be read."""
    return None if row["verdict"] is None else (row["truth"]["has_error"], row["verdict"]["has_error"])


def _names_the_sentence(row: Row) -> bool:
    return bool(row["verdict"]["sentence"] == row["truth"]["sentence"])


def _example(row: Row, thumbnails: Thumbnails, examples: ExampleTexts) -> QuestionExample:
    return QuestionExample(
        thumbnails.of(row["id"].partition("#")[0]),
        clipped_text(row["question"], CHARACTERS),
        clipped_text(row["prediction"], CHARACTERS),
        "",
        [],
        [(name, clipped_text(text, CHARACTERS)) for name, text in row["controls"].items()],
        words=[*_verdicts(row), *voting_words(row)],
        folded=folded_prompting(row, examples),
        heading="Text",
    )


def _verdicts(row: Row) -> list[tuple[str, str]]:
    """(heading, text): the sentence and the correction of the reply, each next to what is right."""
    rule = (row.get("extraction") or {}).get("rule")
    unread = f"no verdict: {rule}" if isinstance(rule, str) and rule else "no verdict"
    verdict = unread if row["verdict"] is None else _sentence(row, "verdict")
    words = [("Read as", verdict), ("Right", _sentence(row, "truth"))]
    if row["verdict"] and row["verdict"]["correction"]:
        words.append(("Its correction", row["verdict"]["correction"]))
    if row["truth"]["correction"]:
        words.append(("Right correction", row["truth"]["correction"]))
    return [(heading, clipped_text(text, CHARACTERS)) for heading, text in words]


def _sentence(row: Row, side: str) -> str:
    verdict = row[side]
    if not verdict["has_error"]:
        return "the text is right"
    number = verdict["sentence"]
    if number is None:
        return "an error, in no sentence that is named"
    sentence = row.get("sentences", {}).get(str(number), "")
    return f"an error in sentence {number}" + (f": {sentence}" if sentence else "")
