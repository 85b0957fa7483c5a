"""Held-out samples whose picture is in train, and pictures that are labelled in two ways.

One count is meant wherever leakage is told: the samples of a split of which an image is in train, as the same bytes or as
the same picture (re-encoded, resized, brightened, slightly cropped).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.dedup.duplicates import EXACT, Copies
from data_prep.dedup.fingerprints import Marks

BYTES, PICTURE = "bytes", "picture"
"""How a sample's image is in train; the same bytes are not counted as the same picture again."""


@dataclass(frozen=True)
class Leak:
    """A held-out sample and the training sample that shows its picture."""

    row: int
    other: int
    match: str
    likeness: float


@dataclass(frozen=True)
class Conflict:
    """Two samples of one picture whose labels differ."""

    row: int
    other: int
    match: str
    labels: dict[str, list[Any]]
    """Label → the values of both, where they differ."""


def leaks(copies: Copies, is_train_N: NDArray[np.bool_], is_held_out_N: NDArray[np.bool_]) -> list[Leak]:
    """Every held-out sample with an image that a training sample has too, in order, each once.

    Of several training samples one with the same bytes is named, else the most alike, then the earliest.
    """
    row_I = copies.rows()
    trained_I = np.flatnonzero(is_train_N[row_I])
    train_D = np.full(int(copies.content_I.max(initial=-1)) + 1, -1)
    """Content → the first training sample that has it."""
    train_D[copies.content_I[trained_I][::-1]] = row_I[trained_I][::-1]
    found = []
    for row in copies.involved().tolist():
        if not is_held_out_N[row]:
            continue
        contents = copies.contents(row)
        same = [(BYTES, 1.0, int(train_D[content])) for content in contents]
        near = [
            (PICTURE, likeness, int(train_D[other]))
            for content in contents
            for other, (_, likeness) in copies.neighbours.get(content, {}).items()
        ]
        matches = [match for match in same + near if match[2] >= 0]
        if matches:
            kind, likeness, other = min(matches, key=lambda match: (match[0], -match[1], match[2]))
            found.append(Leak(row, other, kind, likeness))
    return found


def conflicts(copies: Copies, marks: Marks) -> list[Conflict]:
    """Pairs of samples of one picture that have a label in common and say different things by it.

    Each picture's samples are compared with its first one, and the first samples of pictures that are alike.
    """
    pairs = [(row, other, BYTES if kind == EXACT else PICTURE) for row, other, kind, *_ in copies.pairs()]
    labels = _labels(marks, {row for pair in pairs for row in pair[:2]})
    found = []
    for row, other, match in sorted(pairs):
        ours, theirs = labels[row], labels[other]
        differing = {name: [ours[name], theirs[name]] for name in ours if name in theirs and ours[name] != theirs[name]}
        if differing:
            found.append(Conflict(row, other, match, differing))
    return found


def _labels(marks: Marks, rows: set[int]) -> Mapping[int, dict[str, Any]]:
    return {row: json.loads(text) if text else {} for row, text in _numbered(marks) if row in rows}


def _numbered(marks: Marks) -> Iterator[tuple[int, str]]:
    start = 0
    for table in marks.columns("labels"):
        yield from enumerate(table["labels"].to_pylist(), start=start)
        start += table.num_rows
