"""Paired differences against plain loops, sign tests and Holm's own arithmetic."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.metrics import auroc
from medvlp.eval.statistics.measures import measures
from medvlp.eval.statistics.paired import PairedDifference, holm, paired_differences, two_sided_p


def answers(hits, groups, name="exact"):
    """Measures of a model that is right where hits are 1."""
    records = [
        {"id": f"q{i}", "group": f"g{group}", "scores": {name: None if hit is None else float(hit)}}
        for i, (hit, group) in enumerate(zip(hits, groups, strict=True))
    ]
    return measures(records, {})[0]


def difference_of(a, b, groups, resamples=2000, seed=3):
    models = {"a": answers(a, groups), "b": answers(b, groups)}
    return paired_differences(models, [("a", "b")], ["exact"], Bootstrap(resamples, seed))[0]


def test_interval_and_p_equal_a_plain_loop_over_resampled_clusters():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 25, 120)
    a, b = rng.random(120) < 0.7, rng.random(120) < 0.6
    result = difference_of(a, b, groups)
    names, cluster = np.unique([f"g{g}" for g in groups], return_inverse=True)
    draws = np.random.default_rng(3).integers(0, len(names), (2000, len(names)))
    values = []
    for row in draws:
        items = np.concatenate([np.flatnonzero(cluster == k) for k in row])
        values.append(a[items].mean() - b[items].mean())
    assert result.difference == pytest.approx(a.mean() - b.mean(), abs=1e-12)
    assert (result.ci_low, result.ci_high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-12)
    beyond = min((np.round(values, 12) <= 0).sum(), (np.round(values, 12) >= 0).sum())
    assert result.p == pytest.approx(2 * (beyond + 1) / 2001)
    assert (result.n, result.clusters) == (120, len(names))
    assert (result.wins, result.losses) == ((a & ~b).sum(), (b & ~a).sum())
    assert result.wins + result.ties + result.losses == 120


def test_what_two_models_share_does_not_widen_their_difference():
    rng = np.random.default_rng(1)
    a = rng.random(400) < 0.5
    b = a.copy()
    b[:12] = True  # never worse, and better on some of these
    result = difference_of(a, b, range(400))
    assert result.ci_high <= 0
    spread = 2 * 1.96 * math.sqrt(2 * 0.25 / 400)  # of two independent models
    assert result.ci_high - result.ci_low < spread / 4


def test_equal_models_do_not_differ():
    result = difference_of([1, 0, 1, 1], [1, 0, 1, 1], range(4))
    assert (result.difference, result.ci_low, result.ci_high, result.p) == (0, 0, 0, 1)
    assert (result.wins, result.ties, result.losses) == (0, 4, 0)


@pytest.mark.parametrize("count", [1, 3, 4, 6])
def test_few_items_that_tell_models_apart_prove_no_more_than_the_sign_test(count):
    a, b = np.ones(200), np.ones(200)
    b[:count] = 0
    exact = binomtest(0, count, 0.5).pvalue
    assert difference_of(a, b, range(200)).p >= exact == 2.0 ** (1 - count)


def test_many_comparisons_need_smaller_p_values_than_resamples_can_count():
    rng = np.random.default_rng(2)
    a, b = rng.random(2000) < 0.8, rng.random(2000) < 0.6
    result = difference_of(a, b, range(2000), resamples=200)
    z = result.difference / math.sqrt(((a * 1.0 - b).var()) / 2000)
    assert result.p < 1e-10
    assert math.log(result.p) == pytest.approx(math.log(2 * norm.sf(z)), rel=0.25)


def test_p_counts_both_sides_and_undefined_resamples_do_not_count():
    values = np.array([-1.0] * 30 + [0.0] * 20 + [1.0] * 950 + [np.nan] * 7)
    assert two_sided_p(0.5, values, 100) == pytest.approx(2 * 51 / 1001)
    assert two_sided_p(-0.5, -values, 100) == pytest.approx(2 * 51 / 1001)
    assert math.isnan(two_sided_p(0.5, np.empty(0), 10))
    assert two_sided_p(0.0, np.zeros(10), 0) == 1.0


def test_one_cluster_has_no_interval_and_no_p():
    result = difference_of([1, 1], [0, 1], [0, 0])
    assert result.difference == 0.5
    assert math.isnan(result.ci_low)
    assert math.isnan(result.p)


def test_models_on_other_items_are_refused():
    models = {"a": answers([1, 0], [0, 1]), "b": answers([1, 0, 1], [0, 1, 2])}
    with pytest.raises(ValueError, match="different items"):
        paired_differences(models, [("a", "b")], ["exact"], Bootstrap())


def test_auroc_has_no_wins():
    rng = np.random.default_rng(4)
    classes = {"kind": "zero_shot", "classes": {"no": ["no"], "yes": ["yes"]}}
    models = {}
    target = rng.integers(0, 2, 60)
    scores = {name: rng.normal(size=60) + target * shift for name, shift in (("a", 1.0), ("b", 0.2))}
    for name, score in scores.items():
        records = [
            {"id": f"{i}", "group": f"{i}", "target": ["no", "yes"][t], "similarities": [0.0, s / 100]}
            for i, (t, s) in enumerate(zip(target, score, strict=True))
        ]
        models[name] = measures(records, classes)[0]
    (result,) = paired_differences(models, [("a", "b")], ["auroc"], Bootstrap(500))
    assert result.difference == pytest.approx(auroc(scores["a"], target) - auroc(scores["b"], target), abs=1e-6)
    assert (result.wins, result.ties, result.losses) == (None, None, None)
    assert result.ci_low < result.difference < result.ci_high


def with_p(p):
    return PairedDifference("m", "a", "b", 0.1, 0.0, 0.2, p, 10, 10, 1, 2, 3)


def test_holm_by_hand():
    corrected = [row.p_holm for row in holm([with_p(p) for p in (0.04, 0.01, float("nan"), 0.03, 0.9)])]
    # 4 tests: 0.01·4, 0.03·3, then never smaller than an earlier one: 0.04·2 < 0.09, 0.9·1
    assert corrected[1] == pytest.approx(0.04)
    assert corrected[3] == pytest.approx(0.09)
    assert corrected[0] == pytest.approx(0.09)
    assert corrected[4] == pytest.approx(0.9)
    assert math.isnan(corrected[2])
    assert holm([]) == []
    assert holm([with_p(0.6), with_p(0.7)])[0].p_holm == 1.0
