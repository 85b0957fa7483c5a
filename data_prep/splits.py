"""Splits by group: an article's figures, a patient's studies must not stand on both sides.

In arrays a split is its position in `SPLITS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from medvlp.shards.vocabulary import SPLITS

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What people call splits, in lower case → our name."""


def group_hashes(groups: Iterable[str]) -> np.ndarray:
    """(N,) uint64: equal for equal groups; two of a hundred million share one with probability below 10⁻³."""
    return np.fromiter((_hash(group) for group in groups), np.uint64)


def keep_groups_whole(published_N: np.ndarray, groups_N: np.ndarray) -> np.ndarray:
    """(N,) splits: a group that was published in several goes whole to its most held-out one.

    So nothing of a published test set is trained on, and none of it is lost. groups_N: `group_hashes`.
    """
    _, inverse_N = np.unique(groups_N, return_inverse=True)
    most_G = np.zeros(inverse_N.max(initial=-1) + 1, published_N.dtype)
    np.maximum.at(most_G, inverse_N, published_N)
    return most_G[inverse_N]


def random_splits(groups: Iterable[str], fractions: Mapping[str, float], seed: int) -> np.ndarray:
    """(N,) splits by group: a function of its name and the seed alone, so that data added later move nothing.

    fractions: split → expected share of the groups; they add up to 1.
    """
    names = [name for name in SPLITS if fractions.get(name)]
    edges = np.cumsum([fractions[name] for name in names])[:-1]
    places_N = np.fromiter((_hash(f"{seed}\0{group}") for group in groups), np.uint64) / 2.0**64
    chosen_N = np.searchsorted(edges, places_N, side="right")
    return np.array([SPLITS.index(name) for name in names], np.int8)[chosen_N]


def hold_out(split_N: np.ndarray, groups: Iterable[str], share: float, seed: int) -> np.ndarray:
    """(N,) splits: of train's groups the expected share goes to valid, whole; other splits stay as they are.

    A function of a group's name and the seed alone, so that data added later move nothing.
    """
    places_N = np.fromiter((_hash(f"holdout\0{seed}\0{group}") for group in groups), np.uint64) / 2.0**64
    held_N = (split_N == SPLITS.index("train")) & (places_N < share)
    return np.where(held_N, SPLITS.index("valid"), split_N).astype(split_N.dtype)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "big")
