"""Metrics of classification, of one class an item and of several, with labels that are not stated left out by mask.

Legend: N items, C classes, L labels, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvlp.eval import metrics
from medvlp.eval.metrics import Array, Indices, MeanOfMeans, Metric, Value


def single_label_metrics(scores_NC: ArrayLike, target_N: ArrayLike) -> dict[str, Metric]:
    """acc1, acc5 beyond five classes, mean_per_class_recall (balanced accuracy) and auroc, one-vs-rest.

    Args:
        scores_NC: log-probabilities, or others of which the softmax gives probabilities. AUROC ranks their log-odds, which do
            not become equal where probabilities come to 1.
        target_N: the right class of each item.
    """
    scores_NC, target_N = np.asarray(scores_NC, np.float64), np.asarray(target_N, np.int64)
    by_name = ranking_metrics(metrics.target_ranks(scores_NC, target_N), target_N)
    if scores_NC.shape[1] <= 5:
        del by_name["acc5"]
    return by_name | {"auroc": metrics.Auroc(log_odds(scores_NC), target_N)}


def log_odds(logits_NC: ArrayLike) -> Array:
    """log p − log(1 − p) of p = softmax(logits), of each class: in the order of p, also where p rounds to 0 or 1.

    Impossible classes may have −∞; what only one class can be is ∞.
    """
    logits_NC = np.asarray(logits_NC, np.float64)
    rows_N = np.arange(len(logits_NC))
    best_N = logits_NC.argmax(axis=1)
    most_N1 = logits_NC[rows_N, best_N][:, None]
    power_NC = np.exp(logits_NC - most_N1)
    # the best class is among the rivals of every other one, so that nothing cancels
    rival_sum_NC = np.maximum(power_NC.sum(axis=1, keepdims=True) - power_NC, 1.0)
    odds_NC = np.asarray(logits_NC - most_N1 - np.log(rival_sum_NC), np.float64)
    rival_NC = logits_NC.copy()
    rival_NC[rows_N, best_N] = -np.inf
    odds_NC[rows_N, best_N] = most_N1[:, 0] - np.logaddexp.reduce(rival_NC, axis=1)
    return odds_NC


def ranking_metrics(rank_N: ArrayLike, target_N: ArrayLike) -> dict[str, Metric]:
    """acc1, acc5 and mean_per_class_recall from the rank of each item's own class."""
    rank_N, target_N = np.asarray(rank_N), np.asarray(target_N)
    class_NC = target_N[:, None] == np.unique(target_N)
    return {
        "acc1": MeanOfMeans.of(rank_N == 1),
        "acc5": MeanOfMeans.of(rank_N <= 5),
        "mean_per_class_recall": MeanOfMeans(np.repeat((rank_N == 1)[:, None], class_NC.shape[1], 1), class_NC),
    }


# Several labels


def multi_label_metrics(
    scores_NL: ArrayLike,
    target_NL: ArrayLike,
    classes: Sequence[str],
    threshold: float | Mapping[str, float] | None = None,
) -> tuple[dict[str, Metric], dict[str, int]]:
    """auroc, map and f1 as means over the classes, then auroc/<class>, ap/<class> and f1/<class>; and how many items each
    averages over.

    A class counts where some of its stated labels are positive and some are negative: `counted_classes`. In a resample in
    which one of its metrics is not defined, the class is not in the mean.

    Args:
        scores_NL: of which only the order within a class matters, and the side of the threshold on which they lie.
        target_NL: 1, 0, or NaN where the label is not stated.
        threshold: of all classes, or of each that has one; from it on an item is predicted to be of the class. None: no f1.
    """
    scores_NL, target_NL = np.asarray(scores_NL, np.float64), np.asarray(target_NL, np.float64)
    if scores_NL.shape != target_NL.shape or scores_NL.shape[1:] != (len(classes),):
        raise ValueError(f"scores {scores_NL.shape} and targets {target_NL.shape}, expected (N, {len(classes)}) twice")
    is_counted = counted_classes(target_NL)
    by_measure: dict[str, dict[str, Metric]] = {"auroc": {}, "ap": {}, "f1": {}}
    for column, name in enumerate(classes):
        if not is_counted[column]:
            continue
        rows = np.flatnonzero(~np.isnan(target_NL[:, column]))
        score_M, target_M = scores_NL[rows, column], target_NL[rows, column]
        count = len(target_NL)
        by_measure["auroc"][name] = OnRows.of(metrics.Auroc(score_M, target_M), rows, count)
        by_measure["ap"][name] = OnRows.of(metrics.AveragePrecision(score_M, target_M), rows, count)
        limit = threshold.get(name) if isinstance(threshold, Mapping) else threshold
        if limit is not None:
            by_measure["f1"][name] = OnRows.of(F1(score_M >= limit, target_M == 1), rows, count)
    by_name: dict[str, Metric] = {}
    for measure, macro in (("auroc", "auroc"), ("ap", "map"), ("f1", "f1")):
        if by_measure[measure]:
            by_name[macro] = OverClasses(tuple(by_measure[measure].values()))
    for measure, by_class in by_measure.items():
        by_name |= {f"{measure}/{name}": metric for name, metric in by_class.items()}
    return by_name, {name: int(np.sum(metric.member_N)) for name, metric in by_name.items()}  # type: ignore[attr-defined]


def counted_classes(target_NL: Array) -> NDArray[np.bool_]:
    """(L,) whether a class has positives and negatives among its stated labels."""
    return np.asarray((target_NL == 1).any(axis=0) & (target_NL == 0).any(axis=0), bool)


@dataclass(frozen=True)
class OnRows:
    """A metric of some of the items, given the weights of all; it does not read the others' columns.

    member_N: whether an item is one of them.
    """

    metric: Metric
    rows: Indices
    member_N: NDArray[np.bool_]

    @classmethod
    def of(cls, metric: Metric, rows: ArrayLike, count: int) -> "OnRows":
        """count: all items."""
        rows, member_N = np.asarray(rows, np.int64), np.zeros(count, bool)
        member_N[rows] = True
        return cls(metric, rows, member_N)

    def __call__(self, weights_RN: Array | None) -> Value:
        return self.metric(None if weights_RN is None else weights_RN[:, self.rows])


@dataclass(frozen=True)
class OverClasses:
    """The mean of a metric over the classes in which it is defined, in each resample for itself."""

    by_class: tuple[Metric, ...]

    def __call__(self, weights_RN: Array | None) -> Value:
        return metrics.mean_of_defined([np.atleast_1d(metric(weights_RN)) for metric in self.by_class], weights_RN)

    @property
    def member_N(self) -> Any:
        """Whether each item counts in a class."""
        return np.any([metric.member_N for metric in self.by_class], axis=0)  # type: ignore[attr-defined]


class F1:
    """F1 = 2·TP / (predicted + positive) of one class; NaN where nothing is predicted and nothing positive.

    Args:
        predicted_N, positive_N: whether each item is.
    """

    def __init__(self, predicted_N: ArrayLike, positive_N: ArrayLike) -> None:
        predicted_N, positive_N = np.asarray(predicted_N, np.float64), np.asarray(positive_N, np.float64)
        self._sums_N2 = np.stack([2 * predicted_N * positive_N, predicted_N + positive_N], axis=1)

    def __call__(self, weights_RN: Array | None) -> Value:
        rows_RN = np.ones((1, len(self._sums_N2))) if weights_RN is None else weights_RN
        sums_R2 = rows_RN @ self._sums_N2
        value_R = np.divide(sums_R2[:, 0], sums_R2[:, 1], out=np.full(len(sums_R2), np.nan), where=sums_R2[:, 1] > 0)
        return float(value_R[0]) if weights_RN is None else value_R


def best_f1_threshold(score_N: ArrayLike, positive_N: ArrayLike) -> tuple[float, float]:
    """The score from which on calling items positive has the highest F1, and that F1: the highest such score of equals.

    Items of equal score are called together; NaN both where there are no positives.
    """
    score_N, is_positive_N = np.asarray(score_N, np.float64), np.asarray(positive_N, bool)
    if not is_positive_N.any():
        return float("nan"), float("nan")
    order_N = np.argsort(-score_N, kind="stable")
    sorted_N = score_N[order_N]
    end_U = np.flatnonzero(np.append(np.diff(sorted_N) != 0, True))
    hits_U = np.cumsum(is_positive_N[order_N])[end_U]
    f1_U = 2 * hits_U / (end_U + 1 + is_positive_N.sum())
    best = int(np.argmax(f1_U))
    return float(sorted_N[end_U[best]]), float(f1_U[best])


def best_f1_thresholds(classes: Sequence[str], score_NL: Array, target_NL: Array) -> dict[str, float]:
    """Class → `best_f1_threshold` among its stated labels, of those that have positives."""
    limits = {}
    for name, score_N, target_N in zip(classes, score_NL.T, target_NL.T, strict=True):
        is_stated_N = ~np.isnan(target_N)
        limit, _ = best_f1_threshold(score_N[is_stated_N], target_N[is_stated_N] == 1)
        if not np.isnan(limit):
            limits[name] = limit
    return limits
