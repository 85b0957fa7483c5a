"""The packing plan: which conversations of a step share a batch, and which of them a row."""

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medvlp.data.chat.examples import Examples
from medvlp.data.order import Order
from medvlp.data.plan import Pack

Indices = NDArray[np.int64]


class PackPlan:
    """Divides a step's examples evenly by tokens among its batches, and packs each batch's into rows.

    What a step holds, and so its loss, is the same for any number of batches and with packing on or off.

    Args:
        order: of the examples of all sources.
        sources: the examples, in the order's sequence.
        max_length: tokens of a row.
        packed: let examples share rows; otherwise each has its own.
        weighting: "token": every supervised token of a step counts the same; "sample": every conversation does.
    """

    def __init__(
        self, order: Order, sources: Sequence[Examples], max_length: int, packed: bool, weighting: str
    ) -> None:
        self.order, self.max_length, self.packed = order, max_length, packed
        self.lengths = np.concatenate([source.lengths for source in sources])
        counts = [source.supervised if weighting == "token" else source.conversations for source in sources]
        self.counts = np.concatenate(counts)

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int) -> Indices:
        return self.order.epoch(number)

    def longest_step(self, size: int) -> int:
        numbers = self.epoch(0)
        lengths = self.lengths[numbers[: len(numbers) // size * size]].reshape(-1, size)
        return int((lengths.sum(axis=1) if self.packed else lengths.max(axis=1)).argmax())

    def total(self, numbers: Indices) -> float:
        return float(self.counts[numbers].sum())

    def divide(self, numbers: Indices, batches: int) -> list[list[Pack]]:
        lengths = self.lengths[numbers].tolist()
        capacity = -(-len(numbers) // batches) if not self.packed else len(numbers)
        longest_first = np.argsort(-self.lengths[numbers], kind="stable").tolist()
        shares = spread(longest_first, lengths, batches, capacity)
        return [self._rows(share, lengths) if self.packed else [(p,) for p in sorted(share)] for share in shares]

    def _rows(self, indices: list[int], lengths: list[int]) -> list[Pack]:
        """The rows with the fewest positions, all being filled up to the longest; of equally few the shortest rows.

        First fit gives a number of rows, from which on up to twice as many are tried, evenly filled.
        """
        best = first_fit(indices, lengths, self.max_length)
        fewest = len(best)
        for count in range(fewest, min(2 * fewest, len(indices)) + 1):
            rows = spread(indices, lengths, count, len(indices))
            longest = _longest(rows, lengths)
            if longest <= self.max_length and count * longest <= len(best) * _longest(best, lengths):
                best = rows
        return [tuple(row) for row in best]


def spread(indices: list[int], lengths: list[int], shares: int, capacity: int) -> list[list[int]]:
    """Graham's rule: the longest example that remains goes to the share that has least, if it has fewer than `capacity`.

    indices: of the examples, longest first.
    """
    divided: list[list[int]] = [[] for _ in range(shares)]
    loads = [(0, share) for share in range(shares)]
    for index in indices:
        load, share = heapq.heappop(loads)
        divided[share].append(index)
        if len(divided[share]) < capacity:
            heapq.heappush(loads, (load + lengths[index], share))
    return divided


def first_fit(indices: list[int], lengths: list[int], max_length: int) -> list[list[int]]:
    """First fit, longest first (Johnson 1973): at most 11/9 of the fewest rows possible, and one."""
    rows: list[list[int]] = []
    space: list[int] = []
    for index in indices:
        row = next((i for i, tokens in enumerate(space) if tokens >= lengths[index]), len(rows))
        if row == len(rows):
            rows.append([])
            space.append(max_length)
        rows[row].append(index)
        space[row] -= lengths[index]
    return rows


def _longest(rows: list[list[int]], lengths: list[int]) -> int:
    return max((sum(lengths[index] for index in row) for row in rows), default=0)
