"""What lies behind the numbers of visual question answering: scores by type, and questions with what was answered."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from medvlp.report.files import Row
from medvlp.report.thumbnails import Album, Picture

SHOWN = 8
"""Questions shown that were answered right, and as many that were answered wrong."""
TYPES = 40
"""Question types in a table, those with most questions first; some sets have hundreds of spellings."""
NOT_IN_TABLE = ("llava_med/",)


@dataclass(frozen=True)
class TypeTable:
    """Mean scores of the questions of each type."""

    columns: list[str]
    rows: list[tuple[str, str, int, list[str]]]
    """(answer type or question type, its name, questions, a mean for each column; "–" where no question has one)."""
    left_out: int
    """Question types beyond the first `TYPES`."""


@dataclass(frozen=True)
class Asked:
    """A question beside its answers. `controls`: (image-blind control, what was answered there)."""

    picture: Picture
    question: str
    prediction: str
    target: str
    options: list[tuple[str, str]]
    controls: list[tuple[str, str]]


def type_table(records: list[Row]) -> TypeTable:
    """Means by answer type, then by question type."""
    columns = list(dict.fromkeys(name for row in records for name in row["scores"]))
    columns = [name for name in columns if not name.startswith(NOT_IN_TABLE)]
    rows, left_out = [], 0
    for field, title in (("answer_type", "answer type"), ("question_type", "question type")):
        groups: dict[str, list[Row]] = {}
        for row in records:
            groups.setdefault(str(row[field]), []).append(row)
        if set(groups) == {""}:
            continue
        ordered = sorted(groups, key=lambda name: (-len(groups[name]), name))
        left_out += len(ordered[TYPES:])
        for name in ordered[:TYPES]:
            means = [_mean(groups[name], column) for column in columns]
            rows.append((title, name or "(not stated)", len(groups[name]), means))
    return TypeTable(columns, rows, left_out)


def _mean(rows: list[Row], column: str) -> str:
    scores = [row["scores"][column] for row in rows if row["scores"].get(column) is not None]
    return f"{sum(scores) / len(scores):.3f}" if scores else "–"


def question_galleries(records: list[Row], album: Album) -> list[tuple[str, list[Asked]]]:
    """Some questions that were answered right and some that were answered wrong, an image at most once in each."""

    def some(wanted: Callable[[Row], bool]) -> list[Asked]:
        # In the order of a hash: the first ones of a file are often about one image, or one kind of image.
        found = sorted(
            (row for row in records if wanted(row)), key=lambda row: hashlib.sha256(row["id"].encode()).digest()
        )
        of_image: dict[str, Row] = {}
        for row in found:
            of_image.setdefault(_key(row), row)
        return [_asked(row, album) for row in list(of_image.values())[:SHOWN]]

    galleries = [
        ("Answered right", some(lambda row: row["score"] == 1)),
        ("Answered wrong", some(lambda row: row["score"] == 0)),
    ]
    return [(title, shown) for title, shown in galleries if shown]


def _key(row: Row) -> str:
    return str(row["id"]).partition("#")[0]  # keys hold no #


def _asked(row: Row, album: Album) -> Asked:
    return Asked(
        album.picture(_key(row)),
        row["question"],
        row["prediction"],
        row["target"],
        list(row.get("options", {}).items()),
        list(row["controls"].items()),
    )
