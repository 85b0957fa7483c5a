"""Visual matches: pairs of distinct pictures of a data set that are copies by their hashes and thumbnails.

Shapes: N samples, I images of all samples, D distinct images (by sha256), E pairs of distinct images.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from data_prep.dedup.fingerprints import INNER_ZOOM, Fingerprints, fixed_bytes, unsigned
from data_prep.dedup.hamming import within
from data_prep.dedup.residuals import agreement, halved
from data_prep.dedup.similarity import SIDE, similarity

Ints = NDArray[np.int64]
LARGE = 120
"""Pixels from which a picture is as fine as its thumbnail, nearly."""
BATCH = 1024
"""Candidate pairs whose thumbnails are in memory: 32 MB."""
on_one_thread = threadpool_limits.wrap(limits=1, user_api="blas")
"""Of many small products: BLAS's threads wait for each other, which on a busy machine took seven times the CPU."""


@dataclass(frozen=True)
class Limits:
    """What makes two pictures copies: hashes within the radius, then all three correlations."""

    radius: int = 10
    """Bits of 64 in which perceptual hashes may differ."""
    min_similarity: float = 0.96
    """Correlation of the aligned thumbnails."""
    min_detail: float = 0.75
    """Correlation of their fine structure, which two smooth pictures, or two patients, do not share."""
    min_agreement: float = 0.991
    """Correlation of fine structure place by place, which neighbouring slices do not share, see residuals.py."""


@dataclass(frozen=True)
class VisualMatches:
    """Pairs of distinct images, each once, ordered; positions in the first and in the second list of them."""

    first_E: Ints
    second_E: Ints
    distance_E: NDArray[np.uint8]
    similarity_E: NDArray[np.float32]


class Pictures:
    """The images of a data set by content. About 80 bytes an image in memory; thumbnails are in a file."""

    def __init__(self, fingerprints: Fingerprints, scratch: Path | None = None) -> None:
        counts, halves, hashes, inner_hashes, is_valid, sides = [], [], [], [], [], []
        for lengths, (sha256, hashes_of_group, inner_of_group, side) in fingerprints.lists(
            "sha256", "hash", "inner_hash", "side"
        ):
            counts.append(lengths)
            halves.append(np.ascontiguousarray(fixed_bytes(sha256, 32)[:, :16]).view(np.uint64))
            hashes.append(unsigned(hashes_of_group))
            inner_hashes.append(unsigned(inner_of_group))
            sides.append(pc.fill_null(side, 0).to_numpy(zero_copy_only=False))
            is_valid.append(hashes_of_group.is_valid().to_numpy(zero_copy_only=False))
        self.starts_N = np.concatenate([[0], np.cumsum(_joined(counts, np.int64))])
        """Sample n has the images starts[n] to starts[n + 1]."""
        half_I2 = np.concatenate([np.zeros((0, 2), np.uint64), *halves])
        self.content_I, self.first_D = _distinct(half_I2)
        self.hash_D = _joined(hashes, np.uint64)[self.first_D]
        self.inner_D = _joined(inner_hashes, np.uint64)[self.first_D]
        self.comparable_D = _joined(is_valid, np.bool_)[self.first_D]
        self.side_D = _joined(sides, np.int32)[self.first_D]
        """Pixels of the shorter side; 0 where nothing can be compared."""
        self.sha_D2 = half_I2[self.first_D]
        self.thumbnails_D = Thumbnails(fingerprints, self.first_D, scratch)

    def rows(self) -> Ints:
        """(I,) the sample of each image."""
        return np.repeat(np.arange(len(self.starts_N) - 1), np.diff(self.starts_N))


def _joined(arrays: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *arrays])


def _distinct(half_I2: NDArray[np.uint64]) -> tuple[Ints, Ints]:
    """Contents are numbered as they first come: (content of each image, first image of each content)."""
    order_I = np.lexsort((half_I2[:, 1], half_I2[:, 0]))  # stable, so the first of equals is the earliest
    sorted_I2 = half_I2[order_I]
    is_new_I = np.ones(len(order_I), bool)
    is_new_I[1:] = (sorted_I2[1:] != sorted_I2[:-1]).any(1)
    earliest_D = order_I[is_new_I]
    number_D = np.empty(len(earliest_D), np.int64)
    number_D[np.argsort(earliest_D)] = np.arange(len(earliest_D))
    content_I = np.empty(len(order_I), np.int64)
    content_I[order_I] = number_D[np.cumsum(is_new_I) - 1]
    return content_I, np.sort(earliest_D)


class Thumbnails:
    """Thumbnails of the distinct images, in a file without a name that goes with its last user.

    Read and not mapped: mapped pages would count as the process's memory, 4 KB for each picture that was ever looked at.
    """

    def __init__(self, fingerprints: Fingerprints, first_D: Ints, scratch: Path | None) -> None:
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - it lives as long as this object
        start = 0
        for _, (thumbnails,) in fingerprints.lists("thumbnail"):
            pixels = fixed_bytes(thumbnails, SIDE * SIDE)
            low, high = np.searchsorted(first_D, [start, start + len(pixels)])
            self._file.write(pixels[first_D[low:high] - start].tobytes())
            start += len(pixels)
        self._file.flush()

    def __getitem__(self, distinct_P: Ints) -> NDArray[np.uint8]:
        """(P, S, S) of these distinct images."""
        handle, size = self._file.fileno(), SIDE * SIDE
        data = b"".join(os.pread(handle, size, number * size) for number in distinct_P.tolist())
        return np.frombuffer(data, np.uint8).reshape(len(distinct_P), SIDE, SIDE)


def candidates(
    a: Pictures, b: Pictures, radius: int, a_contents: Ints, b_contents: Ints
) -> Iterator[tuple[Ints, Ints, NDArray[np.uint8], float, bool]]:
    """Pairs whose hashes are near, of the given pictures: (of a, of b, distance, zoom, swapped).

    Whole against whole; inner of a against whole of b, which finds what b shows of a; and the other way round, where
    swapped says that the zoom is of b. A pair may come more than once.
    """
    keys = ((a.hash_D, b.hash_D, 1.0, False), (a.inner_D, b.hash_D, INNER_ZOOM, False))
    for a_keys, b_keys, zoom, swapped in (*keys, (a.hash_D, b.inner_D, INNER_ZOOM, True)):
        if swapped and a is b:  # both orders of a pair are among the inner against whole already
            continue
        for query, base, distance in within(a_keys[a_contents], b_keys[b_contents], radius):
            yield a_contents[query], b_contents[base], distance, zoom, swapped


def find_visual_matches(a: Pictures, b: Pictures, limits: Limits, a_contents: Ints, b_contents: Ints) -> VisualMatches:
    """Pairs of pictures of a and b that are copies. With a is b: pairs of two, the earlier first."""
    columns = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.float32))]
    confirmed_pairs = np.zeros(0, np.int64)

    def pair_ids(first: Ints, second: Ints) -> Ints:
        """A number for each pair, the same either way round where both are of one data set."""
        if a is b:
            first, second = np.minimum(first, second), np.maximum(first, second)
        numbers: Ints = first * len(b.first_D) + second
        return numbers

    for first, second, distance, zoom, swapped in candidates(a, b, limits.radius, a_contents, b_contents):
        if a is b:
            is_ordered = first < second if zoom == 1.0 else first != second
            first, second, distance = first[is_ordered], second[is_ordered], distance[is_ordered]
        for start in range(0, len(first), BATCH):
            # A pair that whole hashes have proposed is not looked at again for its inner ones.
            unconfirmed = start + np.flatnonzero(
                ~np.isin(pair_ids(first, second)[start : start + BATCH], confirmed_pairs)
            )
            score = confirmed(a, b, first[unconfirmed], second[unconfirmed], zoom, swapped, limits)
            matched, score = unconfirmed[score > 0], score[score > 0]
            columns.append((first[matched], second[matched], distance[matched], score))
            confirmed_pairs = np.union1d(confirmed_pairs, pair_ids(first[matched], second[matched]))
    first_E, second_E, distance_E, score_E = (np.concatenate(column) for column in zip(*columns, strict=True))
    if a is b:
        first_E, second_E = np.minimum(first_E, second_E), np.maximum(first_E, second_E)
    _, order_E = np.unique(pair_ids(first_E, second_E), return_index=True)
    return VisualMatches(first_E[order_E], second_E[order_E], distance_E[order_E], score_E[order_E])


def confirmed(
    a: Pictures, b: Pictures, first: Ints, second: Ints, zoom: float, swapped: bool, limits: Limits
) -> NDArray[np.float32]:
    """The similarity of each pair that the thumbnails confirm, 0 for the others."""
    pair = a.thumbnails_D[first], b.thumbnails_D[second]
    sides_P = np.minimum(a.side_D[first], b.side_D[second])
    return compared(*(pair[::-1] if swapped else pair), zoom, sides_P, limits)


def compared(
    a_PSS: NDArray[np.uint8], b_PSS: NDArray[np.uint8], zoom: float, sides_P: NDArray[np.integer], limits: Limits
) -> NDArray[np.float32]:
    """(P,) the similarity of each pair of thumbnails that are one picture, 0 for the others.

    zoom: see `similarity`. sides_P: pixels of the shortest side of both pictures; smaller ones than a thumbnail, which is
    finer than they are, are compared at half its size.
    """
    score_P, detail_P, placing_P4 = similarity(a_PSS, b_PSS, zoom)
    similarity_P = np.zeros(len(a_PSS), np.float32)
    is_close_P = (score_P >= limits.min_similarity) & (detail_P >= limits.min_detail)
    for is_small in (False, True):
        close = np.flatnonzero(is_close_P & ((sides_P < LARGE) == is_small))
        close_a_PSS, close_b_PSS = a_PSS[close], b_PSS[close]
        if is_small:
            agreement_P = agreement(halved(close_a_PSS), halved(close_b_PSS), placing_P4[close])
        else:
            agreement_P = agreement(close_a_PSS, close_b_PSS, placing_P4[close])
        agree = agreement_P >= limits.min_agreement
        similarity_P[close[agree]] = score_P[close[agree]]
    return similarity_P
