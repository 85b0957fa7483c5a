"""Calibration of probabilities, sensitivity at a fixed specificity, and what abstention would gain.

Legend: N items, C classes, R resamples, B bins, U distinct scores.

All metrics read the probabilities that a task's records have: those of classes (zero-shot, probe), and in multiple choice the
likelihoods of the letters, normalised over a question's options. As in `medvlp.eval.metrics`, weights_RN says how often
each item occurs in each of R resamples; without it a metric is a float.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvlp.eval.cumulated import cumulate
from medvlp.eval.metrics import Array, Indices, MeanOfMeans, Metric, Value, softmax
from medvlp.eval.statistics.classification import log_odds
from medvlp.eval.statistics.measures import Measures, logits_and_target

BINS = 15
CURVE_POINTS = 101
"""Points of a risk–coverage curve in calibration.jsonl, at most."""
_IN_CACHE = 2**17
"""Weights worked on at a time where many arrays of them are needed: 1 MB in float64."""
_LARGEST = float(np.finfo(np.float64).max)
SLACK = 1e-9
"""Shares of weights are compared with so much tolerance: 1 − 0.95 is not 0.05 in floating point."""


@dataclass(frozen=True)
class Forecasts:
    """Probabilities of some items next to what was right.

    rows: which records they are of. probability_NC: rows sum to 1; options that a question does not have are 0.
    log_odds_NC: of the probabilities, in whose order nothing rounds to the same 1. target_N: the right class. confidence_N:
    the highest probability. right_N: whether the class that has it alone is right.
    classes: names, where all items have the same classes; empty for multiple choice, whose letters stand for other things in
    each question.
    """

    rows: Indices
    probability_NC: Array
    log_odds_NC: Array
    target_N: Indices
    right_N: Array
    classes: tuple[str, ...] = ()

    @property
    def confidence_N(self) -> Array:
        return np.asarray(self.probability_NC.max(axis=1), np.float64)

    @property
    def surety_N(self) -> Array:
        """(N,) in the order of confidences."""
        return np.asarray(self.log_odds_NC.max(axis=1), np.float64)


def forecasts_of(records: Sequence[Mapping[str, Any]], protocol: Mapping[str, Any]) -> Forecasts | None:
    """The forecasts in a task's records; None where its kind gives no probabilities, or no record has any."""
    if protocol["kind"] in ("zero_shot", "classification", "probe") and records and not protocol.get("multi_label"):
        classes = tuple(protocol["classes"])
        probability_NC = np.array([[record["scores"][name] for name in classes] for record in records])
        logits_NC, target_N = logits_and_target(records, protocol)
        right_N = np.array([float(record["prediction"] == record["target"]) for record in records])
        return Forecasts(np.arange(len(records)), probability_NC, log_odds(logits_NC), target_N, right_N, classes)
    rows = [row for row, record in enumerate(records) if record.get("letter_logprob")]
    if not rows:
        return None
    choice_records = [records[row] for row in rows]
    logprob_NC = np.full((len(rows), max(len(record["letter_logprob"]) for record in choice_records)), -np.inf)
    for row, record in enumerate(choice_records):
        # null is what JSON makes of a letter that is impossible, −infinity
        logprobs = np.array([-np.inf if v is None else v for v in record["letter_logprob"].values()], np.float64)
        logprob_NC[row, : len(logprobs)] = logprobs if np.isfinite(logprobs).any() else 0.0
    target_N = np.array([list(record["letter_logprob"]).index(record["letter"]) for record in choice_records])
    right_N = np.array([float(record["picks"]["letter_likelihood"] == record["letter"]) for record in choice_records])
    log_odds_NC = np.clip(log_odds(logprob_NC), -_LARGEST, _LARGEST)
    return Forecasts(np.array(rows), softmax(logprob_NC), log_odds_NC, target_N, right_N)


def calibration_measures(
    records: Sequence[Mapping[str, Any]], protocol: Mapping[str, Any], specificity: float = 0.95
) -> Measures | None:
    """ece, brier, aurc and sensitivity@..specificity of the forecasts in a task's records; None where there are none.

    Sensitivity is of classes only: of the task's `positive` class where it names one, else the mean over all
    classes, each against the rest.
    """
    forecasts = forecasts_of(records, protocol)
    if forecasts is None:
        return None
    forecast_records = [records[row] for row in forecasts.rows]
    by_name: dict[str, Metric] = {
        "ece": partial(expected_calibration_error, forecasts.confidence_N, forecasts.right_N),
        "brier": brier_score(forecasts.probability_NC, forecasts.target_N),
        "aurc": partial(area_under_risk_coverage, forecasts.surety_N, forecasts.right_N),
    }
    name = f"sensitivity@{100 * specificity:g}specificity"
    if positive := protocol.get("positive"):
        number = forecasts.classes.index(positive)
        is_positive_N = forecasts.target_N == number
        log_odds_N = forecasts.log_odds_NC[:, number]
        by_name[name] = partial(sensitivity_at_specificity, log_odds_N, is_positive_N, specificity)
    elif forecasts.classes:
        log_odds_NC, target_N = forecasts.log_odds_NC, forecasts.target_N
        by_name[name] = partial(mean_sensitivity_at_specificity, log_odds_NC, target_N, specificity)
    counts = dict.fromkeys(by_name, len(forecast_records))
    keys = [str(record["id"]) for record in forecast_records]
    return Measures(by_name, counts, keys, [str(record["group"]) for record in forecast_records], forecast_records)


def calibration_row(records: Sequence[Mapping[str, Any]], protocol: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row of calibration.jsonl, without checkpoint, task and split; None where there are no forecasts.

    metric: the accuracy that the confidences are about. bins: `reliability_bins`. risk_coverage: `coverage_curve`.
    """
    forecasts = forecasts_of(records, protocol)
    if forecasts is None:
        return None
    return {
        "metric": "acc1" if forecasts.classes else "letter_likelihood_accuracy",
        "n": len(forecasts.rows),
        "bins": reliability_bins(forecasts.confidence_N, forecasts.right_N),
        "risk_coverage": coverage_curve(forecasts.surety_N, forecasts.right_N),
    }


# Metrics


def expected_calibration_error(
    confidence_N: ArrayLike, right_N: ArrayLike, weights_RN: Array | None = None, bins: int = BINS
) -> Value:
    """Mean over items of |accuracy − mean confidence| of their bin: ECE (Naeini 2015; Guo 2017).

    Bins of equal width over (0, 1], open at their lower end as in Guo's code; a confidence of 0 is in the first.
    """
    confidence_N, right_N = np.asarray(confidence_N, np.float64), np.asarray(right_N, np.float64)
    gap_NB = np.zeros((len(confidence_N), bins + 1))
    gap_NB[np.arange(len(confidence_N)), bin_of(confidence_N, bins)] = right_N - confidence_N
    gap_NB[:, bins] = 1.0  # sums the weights in the same product
    sum_RB = _rows(len(confidence_N), weights_RN) @ gap_NB
    return _value(_divide(np.abs(sum_RB[:, :bins]).sum(axis=1), sum_RB[:, bins]), weights_RN)


def bin_of(confidence_N: Array, bins: int = BINS) -> Indices:
    """The bin (edge_b, edge_b+1] of each confidence; the edges are k / bins as floating point has them."""
    edges = np.linspace(0, 1, bins + 1)
    return np.asarray(np.clip(np.searchsorted(edges, confidence_N, side="left") - 1, 0, bins - 1), np.int64)


def brier_score(probability_NC: ArrayLike, target_N: ArrayLike) -> MeanOfMeans:
    """Mean over items of Σ_c (p_c − [c is right])², from 0 to 2 (Brier 1950), as a function of weights_RN.

    For two classes this is twice the form that has one probability an item.
    """
    probability_NC = np.asarray(probability_NC, np.float64)
    right_NC = np.zeros_like(probability_NC)
    right_NC[np.arange(len(probability_NC)), np.asarray(target_N, np.int64)] = 1.0
    return MeanOfMeans.of(((probability_NC - right_NC) ** 2).sum(axis=1))


def sensitivity_at_specificity(
    score_N: ArrayLike, positive_N: ArrayLike, specificity: float = 0.95, weights_RN: Array | None = None
) -> Value:
    """The highest share of positives that a threshold finds while it clears at least `specificity` of the negatives.

    An item is called positive if it scores the threshold or more; every distinct score is a threshold, and so is one above
    them all, which finds nobody. Items of equal score are called together, and nothing is interpolated. The threshold is
    chosen on the very items that it is measured on, in every resample again. NaN without positives or without negatives.
    """
    is_positive_N = np.asarray(positive_N, bool)
    rows_RN = _rows(len(is_positive_N), weights_RN)
    total_R2 = rows_RN @ np.stack([~is_positive_N, is_positive_N], axis=1).astype(np.float64)
    return _value(
        _sensitivity(np.asarray(score_N, np.float64), is_positive_N, specificity, rows_RN, total_R2), weights_RN
    )


def mean_sensitivity_at_specificity(
    scores_NC: ArrayLike, target_N: ArrayLike, specificity: float = 0.95, weights_RN: Array | None = None
) -> Value:
    """`sensitivity_at_specificity` of each class against the rest, averaged over the classes where it is defined."""
    scores_NC, target_N = np.asarray(scores_NC, np.float64), np.asarray(target_N, np.int64)
    rows_RN = _rows(len(target_N), weights_RN)
    is_class_NC = target_N[:, None] == np.arange(scores_NC.shape[1])
    total_RC = rows_RN @ is_class_NC.astype(np.float64)
    by_class_CR = np.stack(
        [
            _sensitivity(
                scores_NC[:, c],
                is_class_NC[:, c],
                specificity,
                rows_RN,
                np.stack([total_RC.sum(axis=1) - total_RC[:, c], total_RC[:, c]], axis=1),
            )
            for c in range(scores_NC.shape[1])
        ]
    )
    is_defined_CR = ~np.isnan(by_class_CR)
    sum_R = np.where(is_defined_CR, by_class_CR, 0.0).sum(axis=0)
    return _value(_divide(sum_R, is_defined_CR.sum(axis=0).astype(np.float64)), weights_RN)


def _sensitivity(
    score_N: Array, is_positive_N: NDArray[np.bool_], specificity: float, rows_RN: Array, total_R2: Array
) -> Array:
    """`sensitivity_at_specificity` of each resample. total_R2: weight of the negatives and of the positives.

    Called are the positives that score more than the first negative, from the top, that is one too many to be called. It is
    looked for among the first few negatives only, and among more where a resample takes more to come to it.
    """
    order_N = np.argsort(-score_N, kind="stable")
    negatives, positives = order_N[~is_positive_N[order_N]], order_N[is_positive_N[order_N]]
    limit_R = (1 - specificity) * total_R2[:, 0] + SLACK
    count = min(len(negatives), int(2 * (1 - specificity) * len(negatives)) + 16)
    while True:
        cleared_MR = _cumulated(rows_RN, negatives[:count])
        if count == len(negatives) or (cleared_MR[-1] > limit_R).all():
            break
        count = min(len(negatives), 4 * count)
    allowed_R = (cleared_MR <= limit_R).sum(axis=0)
    called_M = np.searchsorted(-score_N[positives], -score_N[negatives[:count]], side="left")
    called_R = np.append(called_M, len(positives))[allowed_R]
    hits_PR = _cumulated(rows_RN, positives[: called_R.max()])
    hits_PR = np.concatenate([np.zeros((1, len(rows_RN))), hits_PR])
    sensitivity_R = _divide(np.take_along_axis(hits_PR, called_R[None], axis=0)[0], total_R2[:, 1])
    return np.where(total_R2[:, 0] > 0, sensitivity_R, np.nan)


def _cumulated(rows_RN: Array, order_M: Indices) -> Array:
    """(M, R) cumulated weights of some items in an order."""
    block_MR = np.take(rows_RN.T, order_M, axis=0, mode="clip")
    cumulate(block_MR, out_MR := np.empty_like(block_MR))
    return out_MR


def area_under_risk_coverage(confidence_N: ArrayLike, right_N: ArrayLike, weights_RN: Array | None = None) -> Value:
    """Mean share of wrong answers among those kept, over all numbers of items kept: AURC (Geifman & El-Yaniv 2017).

    The least confident items are abstained from first. Items of equal confidence are kept together: each of them stands for
    the risk of all items at least as confident.
    """
    confidence_N, error_N = np.asarray(confidence_N, np.float64), 1.0 - np.asarray(right_N, np.float64)
    order_N = np.argsort(-confidence_N, kind="stable")
    ends_N = _ends(confidence_N[order_N])
    error_N = error_N[order_N]
    rows_RN = _rows(len(error_N), weights_RN)
    area_R = np.empty(len(rows_RN))
    step = max(1, _IN_CACHE // len(error_N))
    for start in range(0, len(rows_RN), step):
        block_BN = np.take(rows_RN[start : start + step], order_N, axis=1)
        coverage_BN, error_BN = np.cumsum(block_BN, axis=1), np.cumsum(block_BN * error_N, axis=1)
        total_B = coverage_BN[:, -1].copy()
        np.divide(error_BN, coverage_BN, out=error_BN, where=coverage_BN > 0)
        if ends_N is not None:
            error_BN = np.take(error_BN, ends_N, axis=1)
        area_R[start : start + step] = _divide(np.einsum("bn,bn->b", block_BN, error_BN), total_B)
    return _value(area_R, weights_RN)


# Curves


def reliability_bins(confidence_N: Array, right_N: Array, bins: int = BINS) -> list[dict[str, float | int | None]]:
    """The bars of a reliability diagram: low, high, n, confidence and accuracy (means; None where n is 0)."""
    bin_N = bin_of(confidence_N, bins)
    bars: list[dict[str, float | int | None]] = []
    for number in range(bins):
        member_N = bin_N == number
        means = [float(column_N[member_N].mean()) if member_N.any() else None for column_N in (confidence_N, right_N)]
        bars.append(
            {
                "low": number / bins,
                "high": (number + 1) / bins,
                "n": int(member_N.sum()),
                "confidence": means[0],
                "accuracy": means[1],
            }
        )
    return bars


def coverage_curve(confidence_N: Array, right_N: Array) -> list[list[float]]:
    """[share of items answered, their accuracy], from the most confident on: at most `CURVE_POINTS`, the last of all items."""
    order_N = np.argsort(-confidence_N, kind="stable")
    ends_N = _ends(confidence_N[order_N])
    ends_U = np.arange(len(order_N)) if ends_N is None else np.unique(ends_N)
    accuracy_N = np.cumsum(right_N[order_N]) / np.arange(1, len(order_N) + 1)
    points = np.unique(np.linspace(0, len(ends_U) - 1, min(CURVE_POINTS, len(ends_U))).round().astype(int))
    return [[float((end + 1) / len(order_N)), float(accuracy_N[end])] for end in ends_U[points]]


def _ends(sorted_N: Array) -> Indices | None:
    """The last position of the items that are equal to each; None where no two are."""
    is_last_N = np.append(np.diff(sorted_N) != 0, True)
    if is_last_N.all():
        return None
    ends_U = np.flatnonzero(is_last_N)
    return np.asarray(np.repeat(ends_U, np.diff(np.append(-1, ends_U))), np.int64)


def _rows(count: int, weights_RN: Array | None) -> Array:
    return np.ones((1, count)) if weights_RN is None else weights_RN


def _value(value_R: Array, weights_RN: Array | None) -> Value:
    return float(value_R[0]) if weights_RN is None else value_R


def _divide(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)
