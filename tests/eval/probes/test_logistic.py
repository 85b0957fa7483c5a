"""The regressions against scikit-learn solved tightly, and against the conditions of an optimum where that is not tight."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from medvlp.eval.probes.logistic import TOLERANCE, Regression
from medvlp.eval.probes.search import accuracy_score, auroc_score, choose_strength

WIDTH = 12


def unit_features(rng, count, classes):
    """Unit vectors near the centers of their classes, all on one side as embeddings are, and their classes."""
    target_N = np.arange(count) % classes
    center_CD = np.random.default_rng(5).normal(size=(classes, WIDTH)) * 0.5 + 2
    feature_ND = center_CD[target_N] + rng.normal(size=(count, WIDTH))
    return feature_ND / np.linalg.norm(feature_ND, axis=1, keepdims=True), target_N


def reference(feature_ND, target_N, strength):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LogisticRegression(C=strength, tol=1e-11, max_iter=5000).fit(feature_ND, target_N)


@pytest.mark.parametrize("count", [9, 60], ids=["fewer samples than features", "more"])
@pytest.mark.parametrize("classes", [2, 3])
def test_coefficients_and_logits_are_scikit_learn_s(count, classes):
    rng = np.random.default_rng(count)
    feature_ND, target_N = unit_features(rng, count, classes)
    other_KD, _ = unit_features(rng, 20, classes)
    regression = Regression.of_classes(feature_ND[None], target_N[None], classes)
    weight = None
    for strength in (0.01, 1.0, 100.0):
        weight = regression.solve([strength], weight)
        expected = reference(feature_ND, target_N, strength)
        coefficient_EMPD, intercept_EMP = regression.coefficients(weight)
        size = np.abs(expected.coef_).max()
        assert coefficient_EMPD[0, :, 0] == pytest.approx(expected.coef_, abs=1e-4 * size)
        logit_KC = regression.logits(weight, regression.rotate(other_KD))[0]
        scores = np.atleast_2d(expected.decision_function(other_KD).T).T
        if classes == 2:
            scores = np.concatenate([-scores / 2, scores / 2], axis=1)
        scores -= scores.mean(axis=1, keepdims=True)
        assert logit_KC == pytest.approx(scores, abs=1e-4 * np.abs(scores).max())
        direct_KC = other_KD @ coefficient_EMPD[0, :, 0].T + intercept_EMP[0, :, 0]
        assert logit_KC[:, -1] == pytest.approx(
            (direct_KC - direct_KC.mean(axis=1, keepdims=True))[:, -1] if classes > 2 else direct_KC[:, 0] / 2
        )


@pytest.mark.parametrize("strength", [1e-6, 1e6])
def test_extreme_penalties_are_solved_to_the_optimum(strength):
    """There scikit-learn stops early; w = C · Σ (target − p) · x, and Σ (target − p) = 0, at the optimum alone."""
    feature_ND, target_N = unit_features(np.random.default_rng(1), 40, 3)
    regression = Regression.of_classes(feature_ND[None], target_N[None], 3)
    coefficient_EMPD, intercept_EMP = regression.coefficients(regression.solve([strength]))
    weight_CD, logit_NC = coefficient_EMPD[0, :, 0], feature_ND @ coefficient_EMPD[0, :, 0].T + intercept_EMP[0, :, 0]
    power_NC = np.exp(logit_NC - logit_NC.max(axis=1, keepdims=True))
    residual_NC = np.eye(3)[target_N] - power_NC / power_NC.sum(axis=1, keepdims=True)
    mean_D = feature_ND.mean(axis=0)  # the rotation is about the mean
    gradient_CD = weight_CD - strength * residual_NC.T @ (feature_ND - mean_D)
    assert np.linalg.norm(gradient_CD) <= 3 * TOLERANCE * np.linalg.norm(weight_CD)


def test_sets_of_different_sizes_are_solved_as_if_alone():
    rng = np.random.default_rng(2)
    sets = [unit_features(rng, count, 3) for count in (6, 15)]
    feature_END, target_EN = np.zeros((2, 15, WIDTH)), np.full((2, 15), -1)
    for number, (feature_ND, target_N) in enumerate(sets):
        feature_END[number, : len(target_N)], target_EN[number, : len(target_N)] = feature_ND, target_N
    joint = Regression.of_classes(feature_END, target_EN, 3)
    logits = joint.logits(joint.solve([1.0, 10.0]), joint.rotate(sets[0][0]))
    for number, strength in enumerate((1.0, 10.0)):
        alone = Regression.of_classes(sets[number][0][None], sets[number][1][None], 3)
        expected = alone.logits(alone.solve([strength]), alone.rotate(sets[0][0]))[0]
        assert logits[number] == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())


def test_labels_are_regressions_of_their_own_on_what_is_stated():
    rng = np.random.default_rng(3)
    feature_ND, target_N = unit_features(rng, 50, 3)
    target_NL = np.eye(3)[target_N]
    target_NL[rng.random((50, 3)) < 0.3] = np.nan
    regression = Regression.of_labels(feature_ND[None], target_NL[None])
    logit_NL = regression.logits(regression.solve([5.0]), regression.rotate(feature_ND))[0]
    for column in range(3):
        rows = ~np.isnan(target_NL[:, column])
        expected = reference(feature_ND[rows], target_NL[rows, column], 5.0).decision_function(feature_ND)
        assert logit_NL[:, column] == pytest.approx(expected, abs=1e-4 * np.abs(expected).max())


def test_the_search_halves_the_interval_around_the_best():
    rng = np.random.default_rng(4)
    feature_ND, target_N = unit_features(rng, 30, 3)
    valid_KD, valid_K = unit_features(rng, 45, 3)
    regression = Regression.of_classes(feature_ND[None], target_N[None], 3)
    choice = choose_strength(regression, regression.rotate(valid_KD), accuracy_score(valid_K), [1e-2, 1.0, 1e2], 2)
    values = {
        strength: reference(feature_ND, target_N, strength).score(valid_KD, valid_K) for strength in choice.visited[0]
    }
    assert choice.value_E[0] == max(values.values())
    assert choice.strength_E[0] == pytest.approx(
        min(s for s, v in values.items() if v == max(values.values())), rel=1e-5
    )
    assert set(choice.visited[0]) > {1e-2, 1.0, 1e2}
    assert len(choice.visited[0]) <= 7


def test_labels_are_chosen_on_by_their_mean_auroc():
    target_KL = np.array([[1, 0, np.nan], [0, 1, 1], [1, 1, 1], [np.nan, 0, 1]])
    logit_KL = np.array([[3.0, 1, 0], [1, 2, 0], [2, 0, 0], [9, 1, 0]])
    # the third label has no negatives; of the second, 2 and 0 against 1 and 1
    assert auroc_score(target_KL)(logit_KL[None]) == pytest.approx([(1 + 0.5) / 2])


@pytest.mark.parametrize("spread", [1.0, 1e-4])
@pytest.mark.parametrize("seed", range(3))
def test_hard_sets_come_to_their_optimum(seed, spread):
    """Nearly equal embeddings, equal ones of different classes, few positives, from the weakest penalty to the strongest."""
    rng = np.random.default_rng(seed)
    feature_END = rng.normal(size=WIDTH) + spread * rng.normal(size=(2, 30, WIDTH))
    feature_END[:, 1] = feature_END[:, 0]
    feature_END /= np.linalg.norm(feature_END, axis=2, keepdims=True)
    target_ENL = (rng.random((2, 30, 4)) < [0.03, 0.3, 0.7, 1.0]).astype(float)
    target_EN = np.tile(np.arange(30) % 3, (2, 1))
    for regression in (Regression.of_labels(feature_END, target_ENL), Regression.of_classes(feature_END, target_EN, 3)):
        for strength in (1e6, 1e-6, 1.0):
            assert np.isfinite(regression.solve([strength, 10 * strength])).all()  # raises where it is not reached
