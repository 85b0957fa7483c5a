"""What lies behind a number: confusions, the best and the worst retrievals, and the protocol."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvlp.report.files import NotARun, Row, read_jsonl
from medvlp.report.run.questions import Asked, TypeTable, question_galleries, type_table
from medvlp.report.thumbnails import Album, Picture

SHOWN = 4
"""Best, and worst, retrievals shown in each direction; and twice as many confident mistakes of a classification."""

DIRECTIONS = {"image_to_text": "Image to text", "text_to_image": "Text to image"}


@dataclass(frozen=True)
class Example:
    """A query beside what was right and what was found. Pictures carry both, the image and the caption."""

    query: Picture
    right: Picture | None
    found: Picture | None
    verdict: str


@dataclass(frozen=True)
class Gallery:
    """Examples under a heading."""

    title: str
    direction: str
    """Which halves of the pictures matter: image_to_text, text_to_image, or empty for a classification."""
    examples: list[Example]


@dataclass(frozen=True)
class Confusion:
    """Counts of a classification: a row a true class, a column a prediction."""

    columns: list[str]
    rows: list[tuple[str, list[int], int, str]]
    """(true class, counts in the order of columns, total, recall as text)."""


@dataclass(frozen=True)
class TaskDetails:
    """Everything that the page says of one checkpoint on one task, beside its row in the table."""

    checkpoint: str
    task: str
    protocol: dict[str, Any]
    confusion: Confusion | None = None
    galleries: list[Gallery] = field(default_factory=list)
    pictures_missing: str = ""
    notes: list[str] = field(default_factory=list)
    types: TypeTable | None = None
    asked: list[tuple[str, list[Asked]]] = field(default_factory=list)


def task_details(folder: Path, checkpoint: str, task: str, protocol: dict[str, Any]) -> TaskDetails:
    """Read the records that a protocol names, and the pictures of those that are shown.

    Raises:
        NotARun: the records are damaged.
        KeyError: a record lacks one of its fields.
    """
    if not protocol.get("records"):
        return TaskDetails(checkpoint, task, protocol)
    path = folder / protocol["records"]
    if not path.resolve().is_relative_to(folder.resolve()):
        raise NotARun(f"{folder}: the records of {task} are said to be at {path}, outside of the folder")
    if not path.is_file():
        missing = f"{protocol['records']} is missing: no examples of {task}."
        return TaskDetails(checkpoint, task, protocol, notes=[missing])
    records = read_jsonl(path)
    album = Album(str(protocol.get("data", "")), str(protocol.get("split_hash", "")), protocol.get("text"))
    notes = [records.note] if records.note else []
    if protocol.get("kind") == "vqa":
        asked = [] if album.problem else question_galleries(records.rows, album)
        types = type_table(records.rows)
        return TaskDetails(checkpoint, task, protocol, None, [], album.problem, notes, types, asked)
    ranked = [row for row in records.rows if "rank" in row]
    classified = [row for row in records.rows if "rank" not in row]
    galleries = [] if album.problem else retrieval_galleries(ranked, album) + mistakes(classified, album)
    return TaskDetails(
        checkpoint,
        task,
        protocol,
        confusion(classified, list(protocol.get("classes", {}))) if classified else None,
        galleries,
        album.problem,
        notes,
    )


def confusion(records: list[Row], classes: list[str]) -> Confusion:
    """Classes in the protocol's order; predictions without a single best class stand in a column of their own."""
    counts = Counter((row["target"], row["prediction"]) for row in records)
    predictions: list[str | None] = [*classes, None] if any(found is None for _, found in counts) else [*classes]
    rows = []
    for target in classes:
        cells = [counts[target, found] for found in predictions]
        total = sum(cells)
        rows.append((target, cells, total, f"{counts[target, target] / total:.3f}" if total else "–"))
    return Confusion([found if found is not None else "(tie)" for found in predictions], rows)


def retrieval_galleries(records: list[Row], album: Album) -> list[Gallery]:
    """For each direction the surest hits and the farthest misses."""
    galleries = []
    for direction, title in DIRECTIONS.items():
        rows = [row for row in records if row["direction"] == direction]
        hits = sorted((row for row in rows if row["rank"] == 1), key=lambda row: (-row["score"], row["id"]))
        misses = sorted((row for row in rows if row["rank"] > 1), key=lambda row: (-row["rank"], row["id"]))
        for name, chosen in (("best", hits[:SHOWN]), ("worst", misses[:SHOWN])):
            if chosen:
                examples = [_retrieved(row, album, len(rows)) for row in chosen]
                galleries.append(Gallery(f"{title}: {name}", direction, examples))
    return galleries


def mistakes(records: list[Row], album: Album) -> list[Gallery]:
    """The wrong classifications of highest probability."""
    wrong = [row for row in records if row["prediction"] not in (None, row["target"])]
    chosen = sorted(wrong, key=lambda row: (-row["score"], row["id"]))[: 2 * SHOWN]
    examples = [
        Example(
            album.picture(row["id"]), None, None, f"{row['target']} taken for {row['prediction']} ({row['score']:.2f})"
        )
        for row in chosen
    ]
    return [Gallery("Most confident mistakes", "", examples)] if examples else []


def _retrieved(row: Row, album: Album, queries: int) -> Example:
    right, found = album.picture(row["target"][0]), album.picture(row["prediction"])
    return Example(album.picture(row["id"]), right, found, f"rank {row['rank']} ({queries} queries)")
