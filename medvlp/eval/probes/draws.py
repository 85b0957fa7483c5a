"""Draws of a few labelled samples, and samples held out to choose on: by class, from as many groups as there are.

What is drawn depends on a seed and on the names of groups and samples alone, not on their order or number: samples that are
added later change nothing else. Legend: N samples, L classes.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medvlp.eval.items import Item
from medvlp.eval.metrics import Array, Indices


def shots(items: Sequence[Item], target_NL: Array, count: int, seed: int, draw: int) -> Indices:
    """Rows of `count` samples with each class and `count` without it, or all that there are: of one draw.

    A group (patient, article) gives a second sample of a class when every other group of it has given one. Where samples have
    one class each, those of the others are without it, and draws of fewer samples are the beginnings of those of more. Where
    they have several, classes take turns from the rarest on, first with and then without, and a sample counts for each that it
    has or lacks.

    Args:
        target_NL: 1 where a sample is of a class, 0 where it is not, NaN where that is not stated.
    """
    order_N = drawing_order(items, f"{seed}/{draw}")
    is_sampled_N = np.zeros(len(items), bool)
    for is_side_NL in (target_NL == 1, target_NL == 0):
        for column in np.argsort(is_side_NL.sum(axis=0), kind="stable"):
            open_N = is_side_NL[:, column] & ~is_sampled_N
            remaining = max(0, count - int((is_side_NL[:, column] & is_sampled_N).sum()))
            is_sampled_N[_groups_in_turn(items, order_N[open_N[order_N]])[:remaining]] = True
    return np.asarray(np.flatnonzero(is_sampled_N), np.int64)


def hold_out(items: Sequence[Item], target_NL: Array, share: float, seed: int) -> NDArray[np.bool_]:
    """Whether each sample is held out: whole groups, until each class has given its share of samples, the rarest first. The
    last group of a class stays."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, item in enumerate(items):
        rows_of[item.group].append(row)
    order_N = drawing_order(items, f"{seed}/valid")
    is_positive_NL, is_out_N = target_NL == 1, np.zeros(len(items), bool)
    count_L, total_L = np.zeros(target_NL.shape[1]), is_positive_NL.sum(axis=0)
    for column in np.argsort(is_positive_NL.sum(axis=0), kind="stable"):
        target = share * is_positive_NL[:, column].sum()
        for row in order_N[is_positive_NL[order_N, column]].tolist():
            if count_L[column] >= target:
                break
            rows = rows_of[items[row].group]
            group_count_L = is_positive_NL[rows].sum(axis=0)
            takes_all = ((group_count_L > 0) & (count_L + group_count_L >= total_L)).any()
            if not is_out_N[row] and not takes_all:
                is_out_N[rows] = True
                count_L += group_count_L
    return is_out_N


def drawing_order(items: Sequence[Item], seed: str) -> Indices:
    """Rows by a hash of their group and, in it, of their key."""
    return np.array(
        sorted(range(len(items)), key=lambda row: (_hash(seed, items[row].group), _hash(seed, items[row].key))),
        np.int64,
    )


def _groups_in_turn(items: Sequence[Item], order_M: Indices) -> list[int]:
    """The first sample of every group, then the second of those that have one, and so on."""
    position: dict[str, int] = defaultdict(int)
    turns = []
    for row in order_M.tolist():
        turns.append(position[items[row].group])
        position[items[row].group] += 1
    return order_M[np.argsort(turns, kind="stable")].tolist() if turns else []


def _hash(seed: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()
