"""Copies that a preparation found, inside the data and against evaluation sets, from `copies.jsonl` and `pairs.json`."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from medvlp.jsonl import read_rows
from medvlp.report.files import NotARun, Row, explained

PAIRS_SHOWN = 48
MAX_PAIRS_BYTES = 2**26


@dataclass(frozen=True)
class CopyCount:
    """Copies of one kind between two places."""

    kind: str
    split: str
    origin: str
    """A split, or the name of an evaluation set."""
    is_evaluation: bool
    action: str
    count: int


@dataclass(frozen=True)
class Pair:
    """A copy and what it is a copy of."""

    kind: str
    distance: str
    action: str
    keys: tuple[str, str]
    origins: tuple[str, str]
    images: tuple[str, str]
    """data: URIs of JPEGs, or empty."""
    captions: tuple[str, str]


@dataclass(frozen=True)
class Conflict:
    """Two samples of one picture whose labels differ."""

    key: str
    split: str
    original: str
    original_split: str
    match: str
    """bytes or picture."""
    labels: str
    """`tumour: glioma or meningioma`."""


def read_conflicts(folder: Path) -> list[Conflict]:
    """The rows of conflicts.jsonl; none where nobody looked.

    Raises:
        NotARun, BrokenLine: a line is not such a pair.
    """
    path = folder / "conflicts.jsonl"
    with explained(path):
        return [
            Conflict(
                str(row["key"]),
                str(row["split"]),
                str(row["other"]),
                str(row["other_split"]),
                str(row["match"]),
                "; ".join(f"{name}: {first} or {second}" for name, (first, second) in row["labels"].items()),
            )
            for row in read_rows(path)
        ]


def read_copy_counts(folder: Path) -> list[CopyCount]:
    """How many copies of which kind were found, read line by line; none where nobody looked.

    Raises:
        NotARun, BrokenLine: a line is not a row of a copy.
    """
    path = folder / "copies.jsonl"
    counts: Counter[tuple[str, str, str, bool, str]] = Counter()
    for number, row in enumerate(read_rows(path), start=1):
        if "kind" not in row:
            raise NotARun(f"{path}, line {number}: not a row of a copy (it has no kind)")
        action = str(row.get("action", ""))
        counts[str(row["kind"]), str(row.get("split", "")), _origin(row), bool(row.get("folder")), action] += 1
    return [CopyCount(*group, count) for group, count in sorted(counts.items())]


def read_pairs(folder: Path) -> list[Pair]:
    """Some copies with both pictures. Raises NotARun for a file of another shape."""
    path = folder / "pairs.json"
    if not path.is_file():
        return []
    with explained(path):
        if path.stat().st_size > MAX_PAIRS_BYTES:
            raise ValueError(f"it has more than {MAX_PAIRS_BYTES} bytes")
        return [_pair(entry) for entry in json.loads(path.read_bytes())[:PAIRS_SHOWN]]


def _pair(entry: Row) -> Pair:
    row = entry["row"]
    distance = row.get("distance")
    return Pair(
        kind=str(row["kind"]),
        distance="" if distance is None else str(distance),
        action=str(row.get("action", "")),
        keys=(str(row.get("key", "")), str(row.get("other", ""))),
        origins=(str(row.get("split", "")), _origin(row)),
        images=(_image(entry.get("image")), _image(entry.get("other_image"))),
        captions=(str(entry.get("caption") or ""), str(entry.get("other_caption") or "")),
    )


def _origin(row: Row) -> str:
    return str(row.get("folder") or row.get("other_split") or "")


def _image(value: object) -> str:
    return value if isinstance(value, str) and value.startswith("data:image/jpeg;base64,") else ""
