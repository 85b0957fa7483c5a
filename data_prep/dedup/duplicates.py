"""Copies inside a data set: equal bytes, or pictures that differ by re-encoding, scale, brightness or a small crop.

Who is kept is decided greedily, held-out splits first and then the earliest: a sample goes if it is a copy of one that
is kept already. So no chain of small steps lets a sample go for one that it does not resemble. Samples of splits from which
nothing may be dropped stay, and stand for others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.dedup.fingerprints import Marks
from data_prep.dedup.visual_matches import AT_ONCE, Alike, Ints, Limits, Pictures, alike, confirmed

EXACT, NEAR = "exact_duplicate", "near_duplicate"

CROWD = 16
"""Pictures of one hash that are compared with all others; a larger crowd is compared with this many of its own."""


@dataclass(frozen=True)
class Copy:
    """A sample that is a copy of another: `distance` in bits of the hash, `likeness` as in similarity.py."""

    row: int
    other: int
    kind: str
    distance: int
    likeness: float


class _How(NamedTuple):
    """How one image matches another; the least is the best."""

    is_near: bool
    distance: int
    likeness: float


@dataclass
class Copies:
    """What was found: which images of which samples have equal content, and which contents look alike."""

    starts_N: Ints
    content_I: Ints
    alike: Alike
    crowded: int = 0
    """Pictures that were compared only with some of a crowd that shares their hash."""

    def __post_init__(self) -> None:
        self.neighbours: dict[int, dict[int, tuple[int, float]]] = defaultdict(dict)
        """Content → other contents that look like it, with distance and likeness."""
        pairs = (self.alike.first_E, self.alike.second_E, self.alike.distance_E, self.alike.likeness_E)
        for first, second, distance, score in zip(*(column.tolist() for column in pairs), strict=True):
            self.neighbours[first][second] = self.neighbours[second][first] = (distance, score)

    def rows(self) -> Ints:
        """(I,) the sample of each image."""
        return np.repeat(np.arange(len(self.starts_N) - 1), np.diff(self.starts_N))

    def contents(self, row: int) -> list[int]:
        """The contents of a sample's images."""
        found: list[int] = self.content_I[self.starts_N[row] : self.starts_N[row + 1]].tolist()
        return found

    def involved(self) -> Ints:
        """Samples with an image that is or resembles one of another sample."""
        count_D = np.bincount(self.content_I)
        concerned_D = count_D > 1
        concerned_D[self.alike.first_E] = concerned_D[self.alike.second_E] = True
        return np.unique(self.rows()[concerned_D[self.content_I]])

    def pairs(self) -> Iterator[tuple[int, int, str, int, float]]:
        """(row, other row, kind, distance, likeness), for a list: each content's samples against its first sample, and
        the first samples of contents that look alike."""
        row_I = self.rows()
        first_D = np.full(int(self.content_I.max(initial=-1)) + 1, -1)
        for image, content in enumerate(self.content_I.tolist()):
            if first_D[content] < 0:
                first_D[content] = row_I[image]
            elif first_D[content] != row_I[image]:
                yield int(row_I[image]), int(first_D[content]), EXACT, 0, 1.0
        pairs = (self.alike.first_E, self.alike.second_E, self.alike.distance_E, self.alike.likeness_E)
        for first, second, distance, score in zip(*(column.tolist() for column in pairs), strict=True):
            if first_D[first] != first_D[second]:
                yield int(first_D[second]), int(first_D[first]), NEAR, distance, score


def find(marks: Marks, limits: Limits | None = None, scratch: Path | None = None) -> Copies:
    """All copies among the samples. limits None: equal bytes only. scratch: a folder for thumbnails, 16 KB an image."""
    pictures = Pictures(marks, scratch)
    if limits is None:
        nobody = np.zeros(0, np.int64)
        return Copies(pictures.starts_N, pictures.content_I, alike(pictures, pictures, Limits(), nobody, nobody))
    apart, linked, crowded = _thin_crowds(pictures, limits)
    found = alike(pictures, pictures, limits, apart, apart)
    columns = (
        np.concatenate([ours, theirs])
        for ours, theirs in zip(
            (found.first_E, found.second_E, found.distance_E, found.likeness_E),
            (linked.first_E, linked.second_E, linked.distance_E, linked.likeness_E),
            strict=True,
        )
    )
    return Copies(pictures.starts_N, pictures.content_I, Alike(*columns), crowded)


def _thin_crowds(pictures: Pictures, limits: Limits) -> tuple[Ints, Alike, int]:
    """Pictures to compare with all others, pairs found inside crowds, and how many were left to a crowd's leaders.

    A million near-black frames with one hash would be 5e11 pairs. In a crowd the first picture takes all its copies, then the
    first that is left takes its own, up to `CROWD` such leaders; they alone are compared with other hashes.
    """
    there_D = np.flatnonzero(pictures.comparable_D)
    order = there_D[np.argsort(pictures.hash_D[there_D], kind="stable")]
    edges = np.concatenate([[0], np.flatnonzero(np.diff(pictures.hash_D[order])) + 1, [len(order)]])
    size = np.diff(edges)
    apart, leaders, members, scores, crowded = [order[np.repeat(size <= CROWD, size)]], [], [], [], 0
    for large in np.flatnonzero(size > CROWD).tolist():
        left = order[edges[large] : edges[large + 1]]
        for _ in range(CROWD):
            leader, left = left[0], left[1:]
            apart.append(leader[None])
            score = _against(pictures, leader, left, limits)
            taken = score > 0
            leaders.append(np.full(taken.sum(), leader))
            members.append(left[taken])
            scores.append(score[taken])
            left = left[~taken]
            if not len(left):
                break
        crowded += len(left)
    none = np.zeros(0, np.int64)
    first, second = np.concatenate([none, *leaders]), np.concatenate([none, *members])
    linked = Alike(first, second, np.zeros(len(first), np.uint8), np.concatenate([np.zeros(0, np.float32), *scores]))
    return np.sort(np.concatenate([none, *apart])), linked, crowded


def _against(pictures: Pictures, leader: int, others: Ints, limits: Limits) -> NDArray[np.float32]:
    scores = [np.zeros(0, np.float32)]
    for start in range(0, len(others), AT_ONCE):
        some = others[start : start + AT_ONCE]
        scores.append(confirmed(pictures, pictures, np.full(len(some), leader), some, 1.0, False, limits))
    return np.concatenate(scores)


def decide(
    copies: Copies,
    split_N: NDArray[np.integer],
    there_N: NDArray[np.bool_] | None = None,
    dropped_from: Collection[int] = (0, 1, 2),
) -> list[Copy]:
    """The samples that are copies of one that is kept, each with that one, in the data set's order.

    split_N: (N,) the sample's split; larger numbers are kept first, so number train 0, valid 1, test 2.
    there_N: (N,) samples that are still in the data set; the others neither go nor stand for anyone.
    dropped_from: splits whose copies go; those of others are named, and kept.

    A sample goes for one of another split if any of their images match, as training would have seen a held-out picture; for one
    of its own split if each of its images has a match there. Samples without images are left alone.
    """
    rows = copies.involved()
    if there_N is not None:
        rows = rows[there_N[rows]]
    rows = rows[np.lexsort((rows, -split_N[rows].astype(np.int64)))]
    kept: dict[int, list[int]] = defaultdict(list)
    """Content → kept samples that have it."""
    found = []
    for row in rows.tolist():
        copy = _stands_for(copies, row, split_N, kept)
        if copy is not None:
            found.append(copy)
            # One that stays beside the same bytes in its split would stand for nobody that these do not stand for.
            if split_N[row] in dropped_from or (copy.kind == EXACT and split_N[copy.other] == split_N[row]):
                continue
        for content in set(copies.contents(row)):
            kept[content].append(row)
    return sorted(found, key=lambda copy: copy.row)


def _stands_for(copies: Copies, row: int, split_N: NDArray[np.integer], kept: dict[int, list[int]]) -> Copy | None:
    """The best kept match: equal bytes before likeness, then held-out splits, then the earliest."""
    contents = set(copies.contents(row))
    matches: dict[int, dict[int, _How]] = defaultdict(dict)
    for content in contents:
        near = {other: _How(True, *how) for other, how in copies.neighbours.get(content, {}).items()}
        for other, how in ({content: _How(False, 0, 1.0)} | near).items():
            for keeper in kept.get(other, ()):
                matches[keeper][content] = min(how, matches[keeper].get(content, how))
    found = [
        (any(how.is_near for how in hows.values()), -int(split_N[keeper]), keeper)
        for keeper, hows in matches.items()
        if split_N[keeper] != split_N[row] or len(hows) == len(contents)
    ]
    if not found:
        return None
    is_near, _, keeper = min(found)
    hows = matches[keeper].values()
    distance, score = max(how.distance for how in hows), min(how.likeness for how in hows)
    return Copy(row, keeper, NEAR if is_near else EXACT, distance, score)
