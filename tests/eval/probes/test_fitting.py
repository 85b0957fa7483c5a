"""Logits of probes as records have them, next to scikit-learn's: a small C, rare classes, equal embeddings."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from medvlp.config import ProbeConfig
from medvlp.eval.items import Item
from medvlp.eval.probes.fitting import Probing, rounded_logits
from medvlp.eval.probes.logistic import Regression
from medvlp.eval.probes.samples import LabelledSamples
from medvlp.eval.statistics.classification import best_f1_threshold


def samples(rng, name, count, classes=2):
    """Embeddings that are nearly equal, as many towers give them; 5% are not of the first class."""
    class_N = np.where(rng.random(count) < 0.05, rng.integers(1, classes, count), 0)
    class_N[:classes] = np.arange(classes)
    embedding_ND = rng.normal(size=(count, 32)) * 0.02
    embedding_ND[:, 0] += 1
    embedding_ND[np.arange(count), 1 + class_N] += 0.03
    embedding_ND /= np.linalg.norm(embedding_ND, axis=1, keepdims=True)
    items = [Item(f"{name}{row}", f"{name}{row}", {}, {}) for row in range(count)]
    return LabelledSamples(items, embedding_ND, np.eye(classes)[class_N], [item.key for item in items])


def probing(classes=2, multi_label=False, **options):
    rng, names = np.random.default_rng(2), list("abc"[:classes])
    config = ProbeConfig(name="x", data="d", label="f", classes=names, multi_label=multi_label, **options)
    parts = [samples(rng, name, count, classes) for name, count in (("fit", 400), ("valid", 200), ("test", 400))]
    return Probing(config, names, *parts)


def scores(probe, fit, strength, column=None):
    """scikit-learn's on the scored samples; column: of one label."""
    target_N = fit.target_NL.argmax(axis=1) if column is None else fit.target_NL[:, column]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = LogisticRegression(C=strength, solver="newton-cg", tol=1e-12, max_iter=1000)
        return reference.fit(fit.embedding_ND, target_N).decision_function(probe.scored.embedding_ND)


@pytest.mark.parametrize("strength", [1e-8, 1e-6, 1.0, 1e4])
def test_samples_are_ranked_as_scikit_learn_ranks_them(strength):
    probe = probing(strengths=[strength], halvings=0)
    logit_KC = probe.full().logit_EKL[0]
    expected_K = scores(probe, probe.fit.joined(probe.valid), strength)
    target_K = probe.scored.target_NL[:, 1]
    assert roc_auc_score(target_K, logit_KC[:, 1]) == pytest.approx(roc_auc_score(target_K, expected_K), abs=1e-3)
    assert len(np.unique(logit_KC[:, 1])) > 390
    assert logit_KC[:, 1] - logit_KC[:, 0] == pytest.approx(expected_K, abs=2e-4 * np.abs(expected_K).max())


def test_so_are_those_of_three_classes_and_of_labels():
    probe = probing(classes=3, strengths=[1e-6], halvings=0)
    expected_KC = scores(probe, probe.fit.joined(probe.valid), 1e-6)
    logit_KC = probe.full().logit_EKL[0]
    for column in range(3):
        order = np.argsort(expected_KC[:, column], kind="stable")
        assert np.corrcoef(np.argsort(order), np.argsort(np.argsort(logit_KC[:, column])))[0, 1] > 0.9999
    probe = probing(multi_label=True, strengths=[1e-6], halvings=0)
    fitted = probe.full()
    expected_K = scores(probe, probe.fit.joined(probe.valid), 1e-6, column=1)
    target_K = probe.scored.target_NL[:, 1]
    expected = roc_auc_score(target_K, expected_K)
    assert roc_auc_score(target_K, fitted.logit_EKL[0][:, 1]) == pytest.approx(expected, abs=1e-3)
    regression = LogisticRegression(C=1e-6, solver="newton-cg", tol=1e-12).fit(
        probe.fit.embedding_ND, probe.fit.target_NL[:, 1]
    )
    valid_N = regression.decision_function(probe.valid.embedding_ND)
    threshold, f1 = best_f1_threshold(valid_N, probe.valid.target_NL[:, 1] == 1)
    assert f1 > 0.3
    assert fitted.protocol["threshold"]["b"] == pytest.approx(threshold, abs=1e-3 * np.ptp(valid_N))


@pytest.mark.parametrize("strength", [1e-9, 1e-6, 1e3])
def test_equal_embeddings_tie_whichever_kernel_multiplied_them(strength):
    probe = probing()
    fit = probe.fit
    regression = Regression.of_classes(fit.embedding_ND[None], fit.target_NL[None].argmax(axis=2), 2)
    weight_EMPR = regression.solve([strength])
    item_EKR = regression.rotate(np.repeat(fit.embedding_ND[:3], 101, axis=0))
    noise_EKR = item_EKR * (1 + np.random.default_rng(0).uniform(-2e-16, 2e-16, item_EKR.shape))
    for items in (item_EKR, noise_EKR):
        logit_KC = rounded_logits(regression, weight_EMPR, items)[0]
        assert len(np.unique(logit_KC, axis=0)) == 3
        assert len(np.unique(rounded_logits(regression, weight_EMPR, items[:, :101])[0], axis=0)) == 1
