"""Calibration against scikit-learn, torchmetrics and slow loops."""

import numpy as np
import pytest

from medvlp.eval.statistics.calibration import (
    area_under_risk_coverage,
    bin_of,
    brier_score,
    calibration_measures,
    coverage_curve,
    expected_calibration_error,
    forecasts_of,
    mean_sensitivity_at_specificity,
    reliability_bins,
    sensitivity_at_specificity,
)

metrics = pytest.importorskip("sklearn.metrics")
GENERATOR = np.random.default_rng(7)


def forecasts(count=60, classes=4, decimals=None):
    logits_NC = GENERATOR.normal(size=(count, classes)) * 2
    probability_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(axis=1, keepdims=True)
    if decimals is not None:
        probability_NC = probability_NC.round(decimals)
    target_N = GENERATOR.integers(0, classes, count)
    return probability_NC, target_N, (probability_NC.argmax(axis=1) == target_N).astype(float)


def slow_ece(confidences, rights, bins=15):
    total = 0.0
    for number in range(bins):
        low, high = np.linspace(0, 1, bins + 1)[number : number + 2]
        members = [i for i, c in enumerate(confidences) if low < c <= high or (c == 0 and number == 0)]
        if members:
            gap = np.mean([rights[i] for i in members]) - np.mean([confidences[i] for i in members])
            total += abs(gap) * len(members) / len(confidences)
    return total


def slow_aurc(confidences, rights):
    risks = []
    for confidence in confidences:
        risks_of_confident = [
            1 - right for other, right in zip(confidences, rights, strict=True) if other >= confidence
        ]
        risks.append(sum(risks_of_confident) / len(risks_of_confident))
    return sum(risks) / len(risks)


def slow_sensitivity(scores, positives, specificity):
    false_positive_rate, true_positive_rate, _ = metrics.roc_curve(positives, scores, drop_intermediate=False)
    return true_positive_rate[false_positive_rate <= 1 - specificity + 1e-9].max()


def resampled(function, weights_RN, *columns):
    """A metric of each resample, its items repeated as often as they were sampled."""
    return [function(*(np.repeat(column, weights.astype(int), axis=0) for column in columns)) for weights in weights_RN]


@pytest.mark.parametrize("decimals", [None, 1])
def test_every_metric_is_the_slow_one_with_and_without_weights(decimals):
    probability_NC, target_N, right_N = forecasts(decimals=decimals)
    confidence_N = probability_NC.max(axis=1)
    positive_N = (target_N == 1).astype(float)
    weights_RN = GENERATOR.multinomial(60, np.full(60, 1 / 60), size=20).astype(float)
    weights_RN[0, positive_N == 1] = 0  # no positive at all
    for fast, slow, columns in (
        (expected_calibration_error, slow_ece, (confidence_N, right_N)),
        (area_under_risk_coverage, slow_aurc, (confidence_N, right_N)),
    ):
        assert fast(*columns) == pytest.approx(slow(*columns), abs=1e-12)
        assert fast(*columns, weights_RN) == pytest.approx(resampled(slow, weights_RN, *columns), abs=1e-12)
    for specificity in (0.0, 0.5, 0.95, 1.0):
        expected = slow_sensitivity(probability_NC[:, 1], positive_N, specificity)
        assert sensitivity_at_specificity(probability_NC[:, 1], positive_N, specificity) == pytest.approx(expected)
    fast_R = sensitivity_at_specificity(probability_NC[:, 1], positive_N, 0.9, weights_RN)
    slow_R = resampled(lambda s, p: slow_sensitivity(s, p, 0.9), weights_RN[1:], probability_NC[:, 1], positive_N)
    assert np.isnan(fast_R[0])
    assert fast_R[1:] == pytest.approx(slow_R)
    one_vs_rest = [slow_sensitivity(probability_NC[:, c], target_N == c, 0.9) for c in range(4)]
    assert mean_sensitivity_at_specificity(probability_NC, target_N, 0.9) == pytest.approx(np.mean(one_vs_rest))


def test_brier_is_twice_scikit_learns_for_two_classes():
    probability_NC, target_N, _ = forecasts(classes=2)
    expected = 2 * metrics.brier_score_loss(target_N, probability_NC[:, 1])
    assert brier_score(probability_NC, target_N)(None) == pytest.approx(expected)
    weights_RN = GENERATOR.integers(0, 3, (5, 60)).astype(float)
    weighted = [2 * metrics.brier_score_loss(target_N, probability_NC[:, 1], sample_weight=w) for w in weights_RN]
    assert brier_score(probability_NC, target_N)(weights_RN) == pytest.approx(weighted)


@pytest.mark.slow  # its import takes longer than all tests here
def test_ece_is_that_of_torchmetrics_between_the_edges():
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    import torch

    probability_NC, target_N, right_N = forecasts(200)
    expected = torchmetrics.multiclass_calibration_error(
        torch.tensor(probability_NC), torch.tensor(target_N), num_classes=4, n_bins=15, norm="l1"
    )
    assert expected_calibration_error(probability_NC.max(axis=1), right_N) == pytest.approx(float(expected), abs=1e-6)


def test_bins_are_closed_above_and_their_bars_give_the_error():
    assert bin_of(np.array([0.0, 1e-9, 0.2, 0.2 + 1e-9, 1.0]), 5).tolist() == [0, 0, 0, 1, 4]
    confidence_N, right_N = np.array([0.3, 0.35, 0.9, 1.0]), np.array([0.0, 1.0, 1.0, 1.0])
    bars = reliability_bins(confidence_N, right_N, 2)
    assert [bar["n"] for bar in bars] == [2, 2]
    assert bars[0] == {"low": 0.0, "high": 0.5, "n": 2, "confidence": pytest.approx(0.325), "accuracy": 0.5}
    error = sum(bar["n"] / 4 * abs(bar["accuracy"] - bar["confidence"]) for bar in bars)
    assert expected_calibration_error(confidence_N, right_N, None, 2) == pytest.approx(error)
    assert reliability_bins(confidence_N, right_N, 5)[0] == {
        "low": 0.0, "high": 0.2, "n": 0, "confidence": None, "accuracy": None,
    }  # fmt: skip


def test_abstention_keeps_equals_together():
    confidence_N, right_N = np.array([0.5, 0.9, 0.5, 0.7]), np.array([0.0, 1.0, 1.0, 0.0])
    assert coverage_curve(confidence_N, right_N) == [[0.25, 1.0], [0.5, 0.5], [1.0, 0.5]]
    assert area_under_risk_coverage(confidence_N, right_N) == (0 + 1 / 2 + 2 / 4 + 2 / 4) / 4
    many_N = GENERATOR.random(1000)
    curve = coverage_curve(many_N, (many_N > 0.5).astype(float))
    assert (len(curve), curve[-1][0]) == (101, 1.0)
    assert curve[0] == [0.001, 1.0]


def test_records_of_multiple_choice_give_probabilities_of_letters():
    asked = {"letter": "B", "letter_logprob": {"A": -1.0, "B": -0.5, "C": -3.0}, "picks": {"letter_likelihood": "B"}}
    tied = {"letter": "A", "letter_logprob": {"A": -1.0, "B": -1.0}, "picks": {"letter_likelihood": None}}
    given = forecasts_of([{"prediction": "yes"}, asked, tied], {"kind": "vqa"})
    assert given.rows.tolist() == [1, 2]
    assert given.probability_NC[0] == pytest.approx(np.exp([-1, -0.5, -3]) / np.exp([-1, -0.5, -3]).sum())
    assert given.probability_NC[1].tolist() == [0.5, 0.5, 0.0]
    assert (given.target_N.tolist(), given.right_N.tolist()) == ([1, 0], [1.0, 0.0])  # a tie is wrong
    assert forecasts_of([{"prediction": "yes"}], {"kind": "vqa"}) is None


@pytest.mark.parametrize("kind", ["classification", "zero_shot"])
def test_probabilities_that_round_to_one_keep_their_order(kind):
    rng = np.random.default_rng(3)
    target_N = np.arange(200) % 2
    logit_N = rng.normal(60 + 10 * target_N, 5)  # of the second class, which is predicted always
    column, scale = {"classification": ("logits", 1.0), "zero_shot": ("similarities", 100.0)}[kind]
    records = [
        {"id": str(row), "group": str(row), "target": "ab"[target], "prediction": "b"}
        | {"scores": {"a": float(np.exp(-logit)), "b": 1.0}, column: [-logit / 2 / scale, logit / 2 / scale]}
        for row, (logit, target) in enumerate(zip(logit_N.tolist(), target_N.tolist(), strict=True))
    ]
    measured = calibration_measures(records, {"kind": kind, "classes": ["a", "b"], "positive": "b"})
    values = {name: metric(None) for name, metric in measured.metrics.items()}
    assert values["sensitivity@95specificity"] == slow_sensitivity(logit_N, target_N == 1, 0.95) > 0.2
    assert values["aurc"] == pytest.approx(slow_aurc(logit_N, target_N.astype(float)))
