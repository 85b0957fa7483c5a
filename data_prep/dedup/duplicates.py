"""Copies inside a data set: equal bytes, or pictures that differ by re-encoding, scale, brightness or a small crop.

Which copy is kept is decided greedily, held-out splits first and then the earliest: a sample is dropped if it is a copy of
one that is kept already. So no chain of small steps drops a sample for one that it does not resemble. Samples of splits
from which nothing may be dropped stay, and stand for others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.dedup.fingerprints import Fingerprints
from data_prep.dedup.visual_matches import (
    BATCH,
    Ints,
    Limits,
    Pictures,
    VisualMatches,
    confirmed,
    find_visual_matches,
    on_one_thread,
)

EXACT, NEAR = "exact_duplicate", "near_duplicate"

MAX_BUCKET = 16
"""Pictures of one hash that are compared with all others; of a larger bucket this many representatives are."""


@dataclass(frozen=True)
class Copy:
    """A sample that is a copy of another: `distance` in bits of the hash, `similarity` as in similarity.py."""

    row: int
    original: int
    kind: str
    distance: int
    similarity: float


class _Match(NamedTuple):
    """How one image matches another; the least is the best."""

    is_near: bool
    distance: int
    similarity: float


@dataclass
class Copies:
    """The copies of a data set: which images of which samples have equal content, and which contents match visually."""

    starts_N: Ints
    content_I: Ints
    matches: VisualMatches
    pooled: int = 0
    """Pictures that were compared only with the representatives of a large bucket, whose hash they share."""

    def __post_init__(self) -> None:
        self.neighbours: dict[int, dict[int, tuple[int, float]]] = defaultdict(dict)
        """Content → its near-duplicates, with distance and similarity."""
        pairs = (self.matches.first_E, self.matches.second_E, self.matches.distance_E, self.matches.similarity_E)
        for first, second, distance, score in zip(*(column.tolist() for column in pairs), strict=True):
            self.neighbours[first][second] = self.neighbours[second][first] = (distance, score)

    def rows(self) -> Ints:
        """(I,) the sample of each image."""
        return np.repeat(np.arange(len(self.starts_N) - 1), np.diff(self.starts_N))

    def contents(self, row: int) -> list[int]:
        """The contents of a sample's images."""
        contents: list[int] = self.content_I[self.starts_N[row] : self.starts_N[row + 1]].tolist()
        return contents

    def involved(self) -> Ints:
        """Samples with an image that is or resembles one of another sample."""
        count_D = np.bincount(self.content_I)
        concerned_D = count_D > 1
        concerned_D[self.matches.first_E] = concerned_D[self.matches.second_E] = True
        return np.unique(self.rows()[concerned_D[self.content_I]])

    def pairs(self) -> Iterator[tuple[int, int, str, int, float]]:
        """(row, other row, kind, distance, similarity), for a list: each content's samples against its first sample, and
        the first samples of near-duplicate contents."""
        row_I = self.rows()
        first_D = np.full(int(self.content_I.max(initial=-1)) + 1, -1)
        for image, content in enumerate(self.content_I.tolist()):
            if first_D[content] < 0:
                first_D[content] = row_I[image]
            elif first_D[content] != row_I[image]:
                yield int(row_I[image]), int(first_D[content]), EXACT, 0, 1.0
        pairs = (self.matches.first_E, self.matches.second_E, self.matches.distance_E, self.matches.similarity_E)
        for first, second, distance, score in zip(*(column.tolist() for column in pairs), strict=True):
            if first_D[first] != first_D[second]:
                yield int(first_D[second]), int(first_D[first]), NEAR, distance, score


@on_one_thread
def find_copies(fingerprints: Fingerprints, limits: Limits, scratch: Path | None = None) -> Copies:
    """All copies among the samples. scratch: a folder for thumbnails, 16 KB an image."""
    pictures = Pictures(fingerprints, scratch)
    compared, in_buckets, pooled = _thin_buckets(pictures, limits)
    matches = find_visual_matches(pictures, pictures, limits, compared, compared)
    columns = (
        np.concatenate([column, bucket_column])
        for column, bucket_column in zip(
            (matches.first_E, matches.second_E, matches.distance_E, matches.similarity_E),
            (in_buckets.first_E, in_buckets.second_E, in_buckets.distance_E, in_buckets.similarity_E),
            strict=True,
        )
    )
    return Copies(pictures.starts_N, pictures.content_I, VisualMatches(*columns), pooled)


def _thin_buckets(pictures: Pictures, limits: Limits) -> tuple[Ints, VisualMatches, int]:
    """Pictures to compare with all others, pairs inside large buckets, and how many pictures representatives stand for.

    A million near-black frames with one hash would be 5e11 pairs. In a bucket the first picture takes all its copies, then the
    first that is left takes its own, up to `MAX_BUCKET` such representatives; they alone are compared with other hashes.
    """
    comparable = np.flatnonzero(pictures.comparable_D)
    order = comparable[np.argsort(pictures.hash_D[comparable], kind="stable")]
    edges = np.concatenate([[0], np.flatnonzero(np.diff(pictures.hash_D[order])) + 1, [len(order)]])
    size = np.diff(edges)
    compared, representatives, members, scores, pooled = [order[np.repeat(size <= MAX_BUCKET, size)]], [], [], [], 0
    for large in np.flatnonzero(size > MAX_BUCKET).tolist():
        unmatched = order[edges[large] : edges[large + 1]]
        for _ in range(MAX_BUCKET):
            representative, unmatched = unmatched[0], unmatched[1:]
            compared.append(representative[None])
            score = _against(pictures, representative, unmatched, limits)
            is_match = score > 0
            representatives.append(np.full(is_match.sum(), representative))
            members.append(unmatched[is_match])
            scores.append(score[is_match])
            unmatched = unmatched[~is_match]
            if not len(unmatched):
                break
        pooled += len(unmatched)
    empty = np.zeros(0, np.int64)
    first, second = np.concatenate([empty, *representatives]), np.concatenate([empty, *members])
    linked = VisualMatches(
        first, second, np.zeros(len(first), np.uint8), np.concatenate([np.zeros(0, np.float32), *scores])
    )
    return np.sort(np.concatenate([empty, *compared])), linked, pooled


def _against(pictures: Pictures, representative: int, candidates: Ints, limits: Limits) -> NDArray[np.float32]:
    scores = [np.zeros(0, np.float32)]
    for start in range(0, len(candidates), BATCH):
        batch = candidates[start : start + BATCH]
        scores.append(confirmed(pictures, pictures, np.full(len(batch), representative), batch, 1.0, False, limits))
    return np.concatenate(scores)


def resolve_copies(
    copies: Copies,
    split_N: NDArray[np.integer],
    is_kept_N: NDArray[np.bool_] | None = None,
    dropped_from: Collection[int] = (0, 1, 2),
) -> list[Copy]:
    """The samples that are copies of one that is kept, each with that one, in the data set's order.

    split_N: (N,) the sample's split; larger numbers are kept first, so number train 0, valid 1, test 2.
    is_kept_N: (N,) samples that are still in the data set; the others neither go nor stand for anyone.
    dropped_from: splits whose copies go; those of others are named, and kept.

    A sample goes for one of another split if any of their images match, as training would have seen a held-out picture; for one
    of its own split if each of its images has a match there. Samples without images are left alone.
    """
    rows = copies.involved()
    if is_kept_N is not None:
        rows = rows[is_kept_N[rows]]
    rows = rows[np.lexsort((rows, -split_N[rows].astype(np.int64)))]
    kept_by_content: dict[int, list[int]] = defaultdict(list)
    """Content → kept samples that have it."""
    resolved = []
    for row in rows.tolist():
        copy = _best_match(copies, row, split_N, kept_by_content)
        if copy is not None:
            resolved.append(copy)
            # A second sample with the same bytes that stays in its split stands for no sample that the first does not.
            if split_N[row] in dropped_from or (copy.kind == EXACT and split_N[copy.original] == split_N[row]):
                continue
        for content in set(copies.contents(row)):
            kept_by_content[content].append(row)
    return sorted(resolved, key=lambda copy: copy.row)


def _best_match(
    copies: Copies, row: int, split_N: NDArray[np.integer], kept_by_content: dict[int, list[int]]
) -> Copy | None:
    """The best kept match: equal bytes before similarity, then held-out splits, then the earliest."""
    contents = set(copies.contents(row))
    matches: dict[int, dict[int, _Match]] = defaultdict(dict)
    for content in contents:
        near = {neighbour: _Match(True, *match) for neighbour, match in copies.neighbours.get(content, {}).items()}
        for neighbour, match in ({content: _Match(False, 0, 1.0)} | near).items():
            for original in kept_by_content.get(neighbour, ()):
                matches[original][content] = min(match, matches[original].get(content, match))
    candidates = [
        (any(match.is_near for match in matches_by_content.values()), -int(split_N[original]), original)
        for original, matches_by_content in matches.items()
        if split_N[original] != split_N[row] or len(matches_by_content) == len(contents)
    ]
    if not candidates:
        return None
    is_near, _, original = min(candidates)
    matches_by_content = matches[original].values()
    distance, score = (
        max(match.distance for match in matches_by_content),
        min(match.similarity for match in matches_by_content),
    )
    return Copy(row, original, NEAR if is_near else EXACT, distance, score)
