"""The choice of a penalty's strength C on other samples than those that are fitted.

Legend as in `logistic`: E training sets, N items, D features, R features after the rotation, M logits of an item, P labels, K
items to choose on, C classes, L labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medvlp.eval import metrics
from medvlp.eval.metrics import Array, Indices
from medvlp.eval.probes.logistic import Regression
from medvlp.eval.statistics.classification import counted_classes

Score = Callable[[Array], Array]
"""logit_EKC → value_E."""


@dataclass(frozen=True)
class Choice:
    """The strength that scored highest, of each training set; of equal ones the smallest, which penalises most.

    weight_EMPR: the solution with it. visited: all strengths that were tried, of each training set.
    """

    strength_E: Array
    value_E: Array
    weight_EMPR: Array
    visited: list[list[float]]


def choose_strength(
    regression: Regression, item_EKR: Array, score: Score, strengths: Sequence[float], halvings: int
) -> Choice:
    """The search of CLIP's linear probes (Radford 2021, A.3): a coarse grid, then as often as asked for the middles, on the
    logarithmic scale, between the best and its neighbours.

    Args:
        item_EKR: items to choose on, as `Regression.rotate` gives them.
        strengths: the grid, rising.
    """
    sets = len(regression.item_ENR)
    tried: list[tuple[Array, Array, Array]] = []  # strength_E, value_E, weight_EMPR

    def visit(strength_E: Array, start_EMPR: Array | None) -> None:
        weight_EMPR = regression.solve(strength_E, start_EMPR)
        tried.append((strength_E, score(regression.logits(weight_EMPR, item_EKR)), weight_EMPR))

    for strength in strengths:
        visit(np.full(sets, strength), tried[-1][2] if tried else None)
    for _ in range(halvings):
        strength_SE = np.stack([strength_E for strength_E, *_ in tried])
        best_E = _best(tried)
        center_E = np.take_along_axis(strength_SE, best_E[None], axis=0)[0]
        start_EMPR = _of_each(tried, best_E)
        for sign in (-1, 1):
            gap_SE = sign * (np.log(strength_SE) - np.log(center_E))
            nearest_E = np.where(gap_SE > 1e-9, gap_SE, np.inf).min(axis=0)
            visit(center_E * np.exp(sign * np.where(np.isinf(nearest_E), 0.0, nearest_E / 2)), start_EMPR)
    best_E = _best(tried)
    strength_SE, value_SE = (np.stack([entry[i] for entry in tried]) for i in (0, 1))
    strength_E, value_E = (
        np.take_along_axis(array_SE, best_E[None], axis=0)[0] for array_SE in (strength_SE, value_SE)
    )
    visited = [sorted({float(f"{strength:.6g}") for strength in column.tolist()}) for column in strength_SE.T]
    return Choice(strength_E, value_E, _of_each(tried, best_E), visited)


def _best(tried: Sequence[tuple[Array, Array, Array]]) -> Indices:
    """(E,) the entry with the highest value of each training set; of equal ones the smallest strength."""
    strength_SE, value_SE = (np.stack([entry[i] for entry in tried]) for i in (0, 1))
    is_best_SE = value_SE == value_SE.max(axis=0)
    return np.asarray(np.where(is_best_SE, strength_SE, np.inf).argmin(axis=0), np.int64)


def _of_each(tried: Sequence[tuple[Array, Array, Array]], entry_E: Indices) -> Array:
    return np.stack([tried[entry][2][number] for number, entry in enumerate(entry_E)])


def accuracy_score(target_K: Indices) -> Score:
    """The accuracy on items of these classes; a tie is an error."""

    def score(logit_EKC: Array) -> Array:
        target_EK1 = np.take_along_axis(logit_EKC, target_K[None, :, None], axis=2)
        return np.asarray(((logit_EKC >= target_EK1).sum(axis=2) == 1).mean(axis=1), np.float64)

    return score


def auroc_score(target_KL: Array) -> Score:
    """The mean AUROC over the labels that have positives and negatives among these items."""
    columns = np.flatnonzero(counted_classes(target_KL))
    rows_of = [np.flatnonzero(~np.isnan(target_KL[:, column])) for column in columns]

    def score(logit_EKL: Array) -> Array:
        areas = [
            [
                float(np.asarray(metrics.auroc(logit_KL[rows, c], target_KL[rows, c])))
                for c, rows in zip(columns, rows_of, strict=True)
            ]
            for logit_KL in logit_EKL
        ]
        return np.array(areas, np.float64).mean(axis=1)

    return score
