"""Splits by group: an article's figures, a patient's studies must not stand on both sides.

In arrays a split is its position in `SPLITS`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from data_prep.dataset_stages.decisions import Decisions
from data_prep.dataset_stages.part_samples import PartSamples
from medvlp.combinations import CombinationError, Occurrences, parse_combinations
from medvlp.shards.vocabulary import SPLITS


def apply_splits(decisions: Decisions, samples: PartSamples, entry: dict[str, Any]) -> None:
    """Give samples to splits, and count each move under what it was made for. entry: of the plan."""
    if entry["by"] == "random":
        steps = [("at random", random_splits(samples.groups(), entry["fractions"], entry["seed"]))]
    elif entry["by"] == "grouped":
        group_N = group_hashes(samples.groups())
        steps = [("where the rest of their group is", keep_groups_whole(decisions.split_N, group_N))]
    else:
        steps = []
    if "holdout_by" in entry:
        split_N = steps[-1][1] if steps else decisions.split_N
        steps += hold_out_combinations(decisions, split_N, samples, entry)
    if "holdout" in entry:
        split_N = steps[-1][1] if steps else decisions.split_N
        decisions.counts["split", "moved train→valid, held out of train"] = 0  # is said, too
        steps.append(("held out of train", hold_out(split_N, samples.groups(), entry["holdout"], entry["seed"])))
    for reason, split_N in steps:
        for (old, new), count in moves_between(decisions.split_N, split_N).items():
            decisions.counts["split", f"moved {old}→{new}, {reason}"] += count
        decisions.split_N = split_N


def hold_out_combinations(
    decisions: Decisions, split_N: np.ndarray, samples: PartSamples, entry: dict[str, Any]
) -> list[tuple[str, np.ndarray]]:
    """Steps as (reason, splits): samples of each combination that is held out leave train, then the rest of their groups.

    A sample is of a combination if one of its conversations is, or itself where it has none. It goes to `holdout_to`; from a
    split that is more held out than that, nothing moves.

    Raises:
        CombinationError: a combination that no sample has, or that leaves nothing to train on.
    """
    combinations = parse_combinations("holdout_by", entry["holdout_by"])
    occurrences = Occurrences(combinations)
    is_of_CN = np.zeros((len(combinations), len(samples)), bool)
    for number, of_items in enumerate(samples.item_values()):
        for values in of_items:
            occurrences.add(values)
            is_of_CN[:, number] |= [combination.matches(values) for combination in combinations]
    occurrences.check("holdout_by", "the data")
    target = SPLITS.index(entry["holdout_to"])
    group_N = group_hashes(samples.groups())
    is_grouped_N = np.isin(group_N, group_N[is_of_CN.any(axis=0)])
    if (split_N == 0).any() and not ((split_N == 0) & ~is_grouped_N).any():
        names = " or ".join(combination.name for combination in combinations)
        raise CombinationError(
            f"holdout_by: all of train is of {names}, or of a group with such a sample; hold out less"
        )
    steps = []
    members = [(f"held out: {c.name}", is_of_N) for c, is_of_N in zip(combinations, is_of_CN, strict=True)]
    for reason, is_member_N in [*members, ("with a group that is held out", is_grouped_N)]:
        split_N = np.where(is_member_N, np.maximum(split_N, target), split_N).astype(split_N.dtype)
        steps.append((reason, split_N))
    for combination, is_of_N in zip(combinations, is_of_CN, strict=True):
        groups = len(np.unique(group_N[is_of_N]))
        decisions.counts["split", f"samples ({groups} groups) of {combination.name}, none of them in train"] = int(
            is_of_N.sum()
        )
    return steps


def moves_between(old_N: np.ndarray, new_N: np.ndarray) -> Counter[tuple[str, str]]:
    """(old split, new split) → samples, of those that change theirs."""
    rows = np.flatnonzero(old_N != new_N)
    return Counter((SPLITS[old_N[row]], SPLITS[new_N[row]]) for row in rows)


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
    uniform_N = np.fromiter((_hash(f"{seed}\0{group}") for group in groups), np.uint64) / 2.0**64
    interval_N = np.searchsorted(edges, uniform_N, side="right")
    return np.array([SPLITS.index(name) for name in names], np.int8)[interval_N]


def hold_out(split_N: np.ndarray, groups: Iterable[str], share: float, seed: int) -> np.ndarray:
    """(N,) splits: of train's groups the expected share goes to valid, whole; other splits stay as they are.

    A function of a group's name and the seed alone, so that data added later move nothing.
    """
    uniform_N = np.fromiter((_hash(f"holdout\0{seed}\0{group}") for group in groups), np.uint64) / 2.0**64
    is_held_out_N = (split_N == SPLITS.index("train")) & (uniform_N < share)
    return np.where(is_held_out_N, SPLITS.index("valid"), split_N).astype(split_N.dtype)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "big")
