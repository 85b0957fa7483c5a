"""Which sample comes when: a pure function of (seed, epoch, sources with weights and manifest hashes).

Ranks and workers do not enter. Permutations are the stable argsort of raw Philox words (Salmon et al. 2011), whose
stream NumPy promises to keep; its higher-level `permutation` may change between releases.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvlp.errors import UserError


@dataclass(frozen=True)
class OrderedSource:
    """What the order needs to know of one source: `length` samples, `weight` passes an epoch, its manifest's sha256."""

    name: str
    length: int
    weight: float
    manifest_hash: str


def philox(*material: object) -> np.random.Philox:
    """A counter-based bit generator keyed by plain values."""
    digest = hashlib.sha256(json.dumps(material).encode()).digest()
    return np.random.Philox(key=int.from_bytes(digest[:16], "little"))


def permutation(length: int, *material: object) -> NDArray[np.int64]:
    """A permutation of range(length) that is fixed by `material` on every platform."""
    return np.argsort(philox(*material).random_raw(length), kind="stable")


def dealt(numbers: NDArray[np.int64], group_N: NDArray[np.int64], batch: int) -> NDArray[np.int64]:
    """An epoch in which samples of one group stand in different batches, as far as there are batches.

    The samples that fill batches are the same as before; what is left over at the end stays there. Groups are dealt out
    in the order in which they first come, one sample to each batch in turn, so that no batch has more than
    ⌈samples of the group / batches⌉ of a group: one, wherever that is possible.

    Args:
        numbers: an epoch's samples in order.
        group_N: the group of every sample, by its number.
        batch: samples of one batch.
    """
    steps = len(numbers) // batch
    used = numbers[: steps * batch]
    _, first, group = np.unique(group_N[used], return_index=True, return_inverse=True)
    step = np.empty(len(used), np.int64)
    step[np.argsort(first[group], kind="stable")] = np.arange(len(used)) % max(steps, 1)
    return np.concatenate([used[np.argsort(step, kind="stable")], numbers[steps * batch :]])


class Order:
    """The sequence of samples in every epoch.

    A sample's number counts through the sources in the given sequence: source 0 has 0…length-1, and so on.
    In an epoch a source contributes round(length × weight) samples. Where that is not a whole number of passes, the
    passes run on over epochs, so that no sample is seen twice before every other one of its source was seen once.

    Args:
        sources: the blend.
        seed: the run's seed.
        block: neighbouring samples that stay together in the shuffle; 0 shuffles sample by sample.
        window: blocks that are mixed with each other when `block` is set.
    """

    def __init__(self, sources: Sequence[OrderedSource], seed: int, block: int = 0, window: int = 64) -> None:
        empty = [source.name for source in sources if source.length == 0]
        if empty or not sources:
            raise UserError(
                f"nothing to order: source {empty[0]!r} is empty" if empty else "nothing to order: no source"
            )
        self.sources = tuple(sources)
        self.seed, self.block, self.window = seed, block, window
        self.counts = [max(1, round(source.length * source.weight)) for source in sources]
        self.starts = np.cumsum([0, *(source.length for source in sources)])

    def __len__(self) -> int:
        """Samples in one epoch."""
        return sum(self.counts)

    def epoch(self, number: int) -> NDArray[np.int64]:
        """Sample numbers of one epoch, in the order in which they are trained on."""
        sampled = np.concatenate([self.starts[i] + self._sample(i, number) for i in range(len(self.sources))])
        if not self.block:
            return sampled[self._permutation(len(sampled), "epoch", number)]
        count = -(-len(sampled) // self.block)
        shuffled = self._permutation(count, "blocks", number)
        blocks = np.concatenate([sampled[b * self.block : (b + 1) * self.block] for b in shuffled])
        noise = philox(*self._material("windows", number)).random_raw(len(sampled))
        size = self.block * self.window
        for begin in range(0, len(blocks), size):  # one window after the other is cheaper than one sort by both
            window = slice(begin, begin + size)
            blocks[window] = blocks[window][np.argsort(noise[window], kind="stable")]
        return blocks

    def _sample(self, index: int, epoch: int) -> NDArray[np.int64]:
        """The samples (sorted) that one source gives to one epoch: a stretch of its endless run of passes."""
        source, count = self.sources[index], self.counts[index]
        begin, end = epoch * count, (epoch + 1) * count
        parts = []
        for number in range(begin // source.length, -(-end // source.length)):
            low = max(begin - number * source.length, 0)
            high = min(end - number * source.length, source.length)
            is_whole = high - low == source.length
            material = (self.seed, source.name, source.length, source.manifest_hash, "pass", number)
            shuffled = np.arange(source.length) if is_whole else permutation(source.length, *material)
            parts.append(shuffled[low:high])
        return np.sort(np.concatenate(parts))

    def _permutation(self, length: int, *purpose: object) -> NDArray[np.int64]:
        return permutation(length, *self._material(*purpose))

    def _material(self, *purpose: object) -> tuple[object, ...]:
        blend = [(source.name, source.length, source.weight, source.manifest_hash) for source in self.sources]
        return (self.seed, blend, self.block, self.window, *purpose)
