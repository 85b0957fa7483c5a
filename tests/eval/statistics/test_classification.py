"""Metrics of several labels against scikit-learn class by class: masks, ties, classes without positives, thresholds."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from medvlp.eval.statistics.classification import (
    best_f1_threshold,
    counted_classes,
    log_odds,
    multi_label_metrics,
    single_label_metrics,
)
from medvlp.eval.statistics.measures import measures, part

CLASSES = ["effusion", "nodule", "never", "always", "unstated"]


@pytest.fixture(scope="module")
def several():
    """60 items: ties, a fifth of the labels not stated, a class without positives, one without negatives, one not stated."""
    rng = np.random.default_rng(0)
    target_NL = (rng.random((60, 5)) < 0.3).astype(float)
    scores_NL = np.round(rng.normal(size=(60, 5)) + target_NL, 1)
    target_NL[rng.random((60, 5)) < 0.2] = np.nan
    target_NL[:, 2][target_NL[:, 2] == 1] = 0
    target_NL[:, 3][target_NL[:, 3] == 0] = 1
    target_NL[:, 4] = np.nan
    return scores_NL, target_NL


def reference(scores_NL, target_NL, threshold):
    """scikit-learn on the stated labels of each class that has both kinds; times: how often an item occurs."""
    by_name = {}
    for column, name in enumerate(CLASSES):
        is_stated = ~np.isnan(target_NL[:, column])
        target, score = target_NL[is_stated, column], scores_NL[is_stated, column]
        if len(set(target)) == 2:
            by_name[f"auroc/{name}"] = roc_auc_score(target, score)
            by_name[f"ap/{name}"] = average_precision_score(target, score)
            by_name[f"f1/{name}"] = f1_score(target, score >= threshold)
    for macro, measure in (("auroc", "auroc"), ("map", "ap"), ("f1", "f1")):
        by_name[macro] = np.mean([value for name, value in by_name.items() if name.startswith(f"{measure}/")])
    return by_name


def test_several_labels_equal_scikit_learn(several):
    metrics, counts = multi_label_metrics(*several, CLASSES, 0.5)
    expected = reference(*several, 0.5)
    assert {name: metric(None) for name, metric in metrics.items()} == pytest.approx(expected, abs=1e-12)
    assert list(metrics)[:3] == ["auroc", "map", "f1"]
    assert list(metrics)[3:] == [f"{measure}/{name}" for measure in ("auroc", "ap", "f1") for name in CLASSES[:2]]
    stated_NL = ~np.isnan(several[1])
    assert counts["ap/nodule"] == stated_NL[:, 1].sum()
    assert counts["map"] == stated_NL[:, :2].any(axis=1).sum()
    assert counted_classes(several[1]).tolist() == [True, True, False, False, False]


def test_weights_repeat_items(several):
    scores_NL, target_NL = several
    weights_RN = np.random.default_rng(1).integers(0, 4, size=(3, 60)).astype(float)
    metrics, _ = multi_label_metrics(scores_NL, target_NL, CLASSES, 0.5)
    for row, weight_N in enumerate(weights_RN.astype(int)):
        expected = reference(np.repeat(scores_NL, weight_N, axis=0), np.repeat(target_NL, weight_N, axis=0), 0.5)
        for name, metric in metrics.items():
            assert metric(weights_RN)[row] == pytest.approx(expected[name], abs=1e-12)


def test_records_give_the_same_and_parts_of_them(several):
    scores_NL, target_NL = several
    records = [
        {
            "id": str(row),
            "group": str(row),
            "logits": scores_N.tolist(),
            "targets": {c: None if np.isnan(t) else int(t) for c, t in zip(CLASSES, target_N, strict=True)},
        }
        for row, (scores_N, target_N) in enumerate(zip(scores_NL, target_NL, strict=True))
    ]
    protocol = {"kind": "multi_label", "classes": CLASSES, "threshold": {"effusion": 0.5}}
    (whole,) = measures(records, protocol)
    assert [name for name in whole.metrics if "f1" in name] == ["f1", "f1/effusion"]
    half = part(whole, np.arange(60) < 30)
    (alone,) = measures(records[:30], protocol)
    assert {name: metric(None) for name, metric in half.metrics.items()} == pytest.approx(
        {name: metric(None) for name, metric in alone.metrics.items()}
    )
    assert half.counts["auroc/nodule"] == alone.counts["auroc/nodule"]


@pytest.mark.parametrize(
    ("scores", "positive", "expected"),
    [
        ([3, 2, 1], [1, 0, 0], (3, 1)),
        ([3, 2, 1], [1, 0, 1], (1, 0.8)),
        ([2, 2, 1], [1, 0, 0], (2, 2 / 3)),  # equal scores are called together
        ([3, 2, 1, 0], [0, 1, 0, 0], (2, 2 / 3)),
        ([4, 3, 2, 1], [1, 0, 0, 1], (4, 2 / 3)),  # calling all gives as much: the higher threshold
    ],
)
def test_the_threshold_with_the_highest_f1(scores, positive, expected):
    assert best_f1_threshold(scores, positive) == pytest.approx(expected)
    f1 = {limit: f1_score(positive, np.array(scores) >= limit) for limit in scores}
    assert max(f1.values()) == pytest.approx(expected[1])


def test_a_class_without_positives_has_no_threshold():
    assert np.isnan(best_f1_threshold([1, 2], [0, 0])).all()


def test_one_label():
    metrics = single_label_metrics([[2, 1], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0])
    assert {name: metric(None) for name, metric in metrics.items()} == pytest.approx(
        {"acc1": 0.5, "mean_per_class_recall": 0.5, "auroc": roc_auc_score([0, 1, 1, 0], [-1, 1, -1, 0])}
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_auroc_ranks_what_softmax_rounds_to_one(classes):
    rng = np.random.default_rng(classes)
    target_N = np.arange(300) % classes
    logits_NC = rng.normal(0, 5, (300, classes)) + 10 * np.eye(classes)[target_N]
    logits_NC[:, 0] += 60
    rivals_NC = [np.delete(logits_NC, c, axis=1) for c in range(classes)]
    odds_NC = [logits_NC[:, c] - np.log(np.exp(rivals_NC[c]).sum(axis=1)) for c in range(classes)]
    expected = np.mean([roc_auc_score(target_N == c, odds_NC[c]) for c in range(classes)])
    assert single_label_metrics(logits_NC, target_N)["auroc"](None) == pytest.approx(expected, abs=1e-12)
    assert expected > 0.9
    if classes == 2:
        assert roc_auc_score(target_N, logits_NC[:, 1] - logits_NC[:, 0]) == pytest.approx(expected)


def test_log_odds_of_impossible_and_of_huge_logits():
    odds_NC = log_odds([[0.0, -np.inf, -np.inf], [2.0, 2.0, -np.inf], [1000.0, 0.0, 0.0]])
    assert odds_NC.tolist() == [
        [np.inf, -np.inf, -np.inf],
        [0.0, 0.0, -np.inf],
        pytest.approx([1000 - np.log(2), -1000, -1000]),
    ]
