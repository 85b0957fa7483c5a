"""Examples of visual question answering: scores by type, and questions with their answers."""

import hashlib
from collections.abc import Callable

from medvlp.report.files import Row
from medvlp.report.run import boxes_svg, judging, prompting
from medvlp.report.run.boxes_svg import box_picture, box_words
from medvlp.report.run.galleries import Examples, QuestionExample, TypeTable
from medvlp.report.run.judging import folded_verdicts, verdict_words
from medvlp.report.run.prompting import ExampleTexts, folded_prompting, voting_words
from medvlp.report.shapes import NULL, NUMBER, OBJECT, TEXT, mapping_of
from medvlp.report.thumbnails import Thumbnails

QUESTIONS = 8
"""Questions on a page that were answered right, and as many that were answered wrong."""
TYPES = 40
"""Question types in a table, those with most questions first; some sets have hundreds of spellings."""
NOT_IN_TABLE = ("llava_med/",)

RECORD = {
    **dict.fromkeys(("id", "question", "prediction", "target", "answer_type", "question_type"), TEXT),
    "score": NUMBER | NULL,
    "scores": mapping_of(NUMBER | NULL),
    "controls": mapping_of(TEXT),
}
"""What a record has."""
OPTIONAL = {
    "options": mapping_of(TEXT) | NULL,
    "extraction": OBJECT,
    **boxes_svg.RECORD,
    **prompting.RECORD,
    **judging.RECORD,
}
"""What some records have: those of multiple choice, of questions for boxes, of prompting protocols, and of judges."""


def question_examples(
    records: list[Row], protocol: Row, thumbnails: Thumbnails | None, most: int | None = None
) -> Examples:
    """Of visual question answering."""
    questions = question_galleries(records, protocol, thumbnails, most) if thumbnails else []
    return Examples(types=type_table(records), questions=questions)


def type_table(records: list[Row]) -> TypeTable:
    """Means by answer type, then by question type."""
    columns = list(dict.fromkeys(name for row in records for name in row["scores"]))
    columns = [name for name in columns if not name.startswith(NOT_IN_TABLE)]
    rows, skipped = [], 0
    for field, title in (("answer_type", "answer type"), ("question_type", "question type")):
        groups: dict[str, list[Row]] = {}
        for row in records:
            groups.setdefault(str(row[field]), []).append(row)
        if set(groups) == {""}:
            continue
        ordered = sorted(groups, key=lambda name: (-len(groups[name]), name))
        skipped += len(ordered[TYPES:])
        for name in ordered[:TYPES]:
            means = [_mean(groups[name], column) for column in columns]
            rows.append((title, name or "(not stated)", len(groups[name]), means))
    return TypeTable(columns, rows, skipped)


def _mean(rows: list[Row], column: str) -> str:
    scores = [row["scores"][column] for row in rows if row["scores"].get(column) is not None]
    return f"{sum(scores) / len(scores):.3f}" if scores else "–"


def question_galleries(
    records: list[Row], protocol: Row, thumbnails: Thumbnails, most: int | None = None
) -> list[tuple[str, list[QuestionExample]]]:
    """Some questions that were answered right and some that were answered wrong, an image at most once in each."""
    examples = ExampleTexts(protocol)

    def sample(is_member: Callable[[Row], bool]) -> list[QuestionExample]:
        # In the order of a hash: the first ones of a file are often about one image, or one kind of image.
        by_hash = sorted(filter(is_member, records), key=lambda row: hashlib.sha256(row["id"].encode()).digest())
        of_image: dict[str, Row] = {}
        for row in by_hash:
            of_image.setdefault(_key(row), row)
        return [_example(row, thumbnails, examples) for row in list(of_image.values())[: most or QUESTIONS]]

    galleries = [
        ("Answered right", sample(lambda row: row["score"] == 1)),
        ("Answered wrong", sample(lambda row: row["score"] == 0)),
    ]
    return [(title, rows) for title, rows in galleries if rows]


def _key(row: Row) -> str:
    return str(row["id"]).partition("#")[0]  # keys hold no #


def _example(row: Row, thumbnails: Thumbnails, examples: ExampleTexts) -> QuestionExample:
    thumbnail = thumbnails.of(_key(row), row.get("box_image", 0))
    return QuestionExample(
        thumbnail,
        row["question"],
        row["prediction"],
        row["target"],
        list((row.get("options") or {}).items()),
        list(row["controls"].items()),
        box_picture(row, thumbnail),
        [*box_words(row), *voting_words(row), *verdict_words(row)],
        [*folded_prompting(row, examples), *folded_verdicts(row)],
    )
