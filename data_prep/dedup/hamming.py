"""All pairs of 64-bit hashes within a Hamming radius, exactly, without comparing all with all.

Multi-index hashing (Norouzi, Punjani, Fleet 2012): cut the hashes into m pieces; two hashes within the radius agree in some
piece up to few bits, so only hashes that share a neighbouring piece need to be compared. Here every lookup is done for
all queries at once, bucket after bucket of a sorted table.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

BITS = 64
BLOCK = 1 << 20
"""Comparisons made at once: about 60 MB of temporary arrays."""

LOOKUP_COST = 3.0
"""Of a bucket, against one comparison in it."""

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]
"""Positions in the queries, positions in the base, and the Hamming distances."""


def within(queries_Q: NDArray[np.uint64], base_N: NDArray[np.uint64], radius: int) -> Iterator[Pairs]:
    """Every pair of a query and a base hash that differ in at most `radius` bits, once, in blocks.

    The order is the same in every run, but not sorted. Besides the arguments it needs about 90 bytes a hash and 60 MB.
    """
    if not 0 <= radius < BITS:
        raise ValueError(f"radius is {radius}; expected 0 to {BITS - 1} bits")
    if not len(queries_Q) or not len(base_N):
        return
    pieces = _plan(len(queries_Q), len(base_N), radius)
    pairs = _by_pieces(queries_Q, base_N, radius, pieces) if pieces else _all_with_all(queries_Q, base_N, radius)
    yield from _gathered(pairs)


def _flips(radius: int, pieces: int) -> list[int]:
    """Bits that may differ in each piece; -1: the piece need not be looked at.

    With radius = m·f + a it is enough to search a + 1 pieces within f bits and the others within f - 1: a pair that all of
    them miss differs in at least (a + 1)(f + 1) + (m - a - 1)·f = radius + 1 bits. The last pieces, which hold the lowest
    frequencies of a perceptual hash and so the fullest buckets, get the smaller number.
    """
    flips, remainder = divmod(radius, pieces)
    return [flips if piece <= remainder else flips - 1 for piece in range(pieces)]


def _edges(pieces: int) -> list[int]:
    return [BITS * piece // pieces for piece in range(pieces + 1)]


def _plan(queries: int, base: int, radius: int) -> int:
    """The number of pieces with the least work, or 0 if comparing all with all is less."""
    best, least = 0, float(queries) * base
    for pieces in range(2, 9):
        edges, cost = _edges(pieces), 0.0
        if edges[1] > 24:  # a table of buckets would outgrow the hashes
            continue
        for piece, flips in enumerate(_flips(radius, pieces)):
            width = edges[piece + 1] - edges[piece]
            masks = sum(comb(width, flipped) for flipped in range(min(flips, width) + 1))
            cost += masks * (queries * (LOOKUP_COST + base / 2**width) + BLOCK / 16)
        if cost < least:
            best, least = pieces, cost
    return best


def _by_pieces(queries_Q: NDArray[np.uint64], base_N: NDArray[np.uint64], radius: int, pieces: int) -> Iterator[Pairs]:
    edges, flips = _edges(pieces), _flips(radius, pieces)
    searched: list[tuple[np.uint64, int]] = []  # pieces already done, which have found their pairs
    for piece in range(pieces):
        if flips[piece] < 0:
            continue
        low, width = edges[piece], edges[piece + 1] - edges[piece]
        order_N, piece_N = _sorted_by_piece(base_N, low, width)
        sorted_N = base_N[order_N]
        # 2**width + 1 edges of buckets: bucket v is starts[v] to starts[v + 1]
        starts = np.searchsorted(piece_N, np.arange((1 << width) + 1)).astype(np.int32)
        order_Q, piece_Q = _sorted_by_piece(queries_Q, low, width)
        sorted_Q = queries_Q[order_Q]
        for mask in _masks(width, flips[piece]):
            bucket_Q = piece_Q ^ np.int32(mask)
            first_Q = starts[bucket_Q]
            count_Q = starts[bucket_Q + 1] - first_Q
            for query, base, bits in _expanded(first_Q, count_Q, sorted_Q, sorted_N, radius):
                fresh = np.ones(len(bits), bool)
                for piece_bits, flipped in searched:
                    fresh &= np.bitwise_count(bits & piece_bits) > flipped
                yield order_Q[query[fresh]], order_N[base[fresh]], np.bitwise_count(bits[fresh])
        searched.append((np.uint64(((1 << width) - 1) << low), flips[piece]))


def _sorted_by_piece(hashes: NDArray[np.uint64], low: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    piece = ((hashes >> np.uint64(low)) & np.uint64((1 << width) - 1)).astype(np.int32)
    order = np.argsort(piece, kind="stable")
    return order, piece[order]


def _masks(width: int, flips: int) -> Iterator[int]:
    for flipped in range(flips + 1):
        for bits in combinations(range(width), flipped):
            yield sum(1 << bit for bit in bits)


def _expanded(
    first_Q: NDArray[np.int32],
    count_Q: NDArray[np.int32],
    hashes_Q: NDArray[np.uint64],
    hashes_N: NDArray[np.uint64],
    radius: int,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]]:
    """Query i against the base from first[i] on, count[i] of them; the bits that differ come with the pairs."""
    nonempty = np.flatnonzero(count_Q)
    if not len(nonempty):
        return
    ends = np.cumsum(count_Q[nonempty], dtype=np.int64)
    cuts = np.searchsorted(ends, np.arange(BLOCK, ends[-1], BLOCK))
    for block in np.split(nonempty, np.unique(cuts)):
        if not len(block):
            continue
        count = count_Q[block].astype(np.int64)
        begin = np.cumsum(count) - count
        base = np.arange(count.sum()) + np.repeat(first_Q[block] - begin, count)
        bits = np.repeat(hashes_Q[block], count) ^ hashes_N[base]
        hits = np.flatnonzero(np.bitwise_count(bits) <= radius)
        if len(hits):
            yield block[np.searchsorted(begin, hits, side="right") - 1], base[hits], bits[hits]


def _all_with_all(queries_Q: NDArray[np.uint64], base_N: NDArray[np.uint64], radius: int) -> Iterator[Pairs]:
    rows = max(1, BLOCK // len(base_N))
    for start in range(0, len(queries_Q), rows):
        distance = np.bitwise_count(queries_Q[start : start + rows, None] ^ base_N)
        query, base = np.nonzero(distance <= radius)
        yield query + start, base, distance[query, base]


def _gathered(blocks: Iterator[Pairs], size: int = 1 << 16) -> Iterator[Pairs]:
    """The same pairs in fewer blocks: what follows works on many at once."""
    batch: list[Pairs] = []
    count = 0
    for pairs in blocks:
        batch.append(pairs)
        count += len(pairs[0])
        if count >= size:
            yield _joined(batch)
            batch, count = [], 0
    if count:
        yield _joined(batch)


def _joined(blocks: list[Pairs]) -> Pairs:
    query, base, distance = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return query, base, distance
