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
from data_prep.dedup.fingerprints import Fingerprints

BYTES, PICTURE = "bytes", "picture"
"""How a sample's image is in train; the same bytes are not counted as the same picture again."""


@dataclass(frozen=True)
class Leak:
    """A held-out sample and the training sample that shows its picture."""

    row: int
    train_row: int
    match: str
    similarity: float


@dataclass(frozen=True)
class Conflict:
    """Two samples of one picture whose labels differ."""

    row: int
    original: int
    match: str
    labels: dict[str, list[Any]]
    """Label → the values of both, where they differ."""


def find_leaks(copies: Copies, is_train_N: NDArray[np.bool_], is_held_out_N: NDArray[np.bool_]) -> list[Leak]:
    """Every held-out sample with an image that a training sample has too, in order, each once.

    Of several training samples one with the same bytes is named, else the most similar, then the earliest.
    """
    row_I = copies.rows()
    trained_I = np.flatnonzero(is_train_N[row_I])
    train_D = np.full(int(copies.content_I.max(initial=-1)) + 1, -1)
    """Content → the first training sample that has it."""
    train_D[copies.content_I[trained_I][::-1]] = row_I[trained_I][::-1]
    leaks = []
    for row in copies.involved().tolist():
        if not is_held_out_N[row]:
            continue
        contents = copies.contents(row)
        same = [(BYTES, 1.0, int(train_D[content])) for content in contents]
        near = [
            (PICTURE, similarity, int(train_D[neighbour]))
            for content in contents
            for neighbour, (_, similarity) in copies.neighbours.get(content, {}).items()
        ]
        matches = [match for match in same + near if match[2] >= 0]
        if matches:
            kind, similarity, train_row = min(matches, key=lambda match: (match[0], -match[1], match[2]))
            leaks.append(Leak(row, train_row, kind, similarity))
    return leaks


def find_conflicts(copies: Copies, fingerprints: Fingerprints) -> list[Conflict]:
    """Pairs of samples of one picture that have a label in common and say different things by it.

    Each picture's samples are compared with its first one, and the first samples of near-duplicate pictures.
    """
    pairs = [(row, original, BYTES if kind == EXACT else PICTURE) for row, original, kind, *_ in copies.pairs()]
    labels = _labels(fingerprints, {row for pair in pairs for row in pair[:2]})
    conflicts = []
    for row, original, match in sorted(pairs):
        labels_of_row, labels_of_original = labels[row], labels[original]
        differences = {
            name: [labels_of_row[name], labels_of_original[name]]
            for name in labels_of_row
            if name in labels_of_original and labels_of_row[name] != labels_of_original[name]
        }
        if differences:
            conflicts.append(Conflict(row, original, match, differences))
    return conflicts


def _labels(fingerprints: Fingerprints, rows: set[int]) -> Mapping[int, dict[str, Any]]:
    return {row: json.loads(text) if text else {} for row, text in _numbered(fingerprints) if row in rows}


def _numbered(fingerprints: Fingerprints) -> Iterator[tuple[int, str]]:
    first_row = 0
    for table in fingerprints.columns("labels"):
        yield from enumerate(table["labels"].to_pylist(), start=first_row)
        first_row += table.num_rows
