import numpy as np
import pytest
from scipy.stats import binom

from medvlp.eval import bootstrap
from medvlp.eval.bootstrap import bootstrap_intervals
from medvlp.eval.cumulated import EXACT_IN_FLOAT32, cumulate
from medvlp.eval.metrics import auroc, recall_at_k


def mean_of(values):
    return {"mean": lambda weights_RN: weights_RN @ values / weights_RN.sum(axis=1)}


def test_independent_items_give_the_binomial_interval():
    hits = np.repeat([1.0, 0.0], [70, 130])
    low, high = bootstrap_intervals(mean_of(hits), range(200))["mean"]
    assert low == pytest.approx(binom.ppf(0.025, 200, 0.35) / 200, abs=0.0051)  # half an item at most
    assert high == pytest.approx(binom.ppf(0.975, 200, 0.35) / 200, abs=0.0051)


def test_duplicated_clusters_widen_the_interval():
    hits = np.random.default_rng(0).integers(0, 2, 100).astype(float)
    once = bootstrap_intervals(mean_of(hits), range(100))["mean"]
    repeated = bootstrap_intervals(mean_of(np.repeat(hits, 4)), np.repeat(np.arange(100), 4))["mean"]
    naive = bootstrap_intervals(mean_of(np.repeat(hits, 4)), range(400))["mean"]
    assert repeated == once  # four copies of a patient are no more evidence than one
    assert np.diff(naive)[0] == pytest.approx(np.diff(once)[0] / 2, rel=0.1)


def test_interval_equals_a_plain_loop_over_resampled_items():
    rng = np.random.default_rng(1)
    scores, target = np.round(rng.normal(size=40), 1), rng.integers(0, 2, 40)
    groups = rng.integers(0, 15, 40)
    names, group_of = np.unique(groups, return_inverse=True)
    draws = np.random.default_rng(7).integers(0, len(names), size=(300, len(names)))
    values = []
    for sample in draws:
        rows = np.concatenate([np.flatnonzero(group_of == k) for k in sample])
        values.append(auroc(scores[rows], target[rows]))
    expected = np.nanquantile(values, [0.025, 0.975])
    intervals = bootstrap_intervals({"auroc": lambda w: auroc(scores, target, w)}, [f"{g:02}" for g in groups], 300, 7)
    assert intervals["auroc"] == pytest.approx(expected, abs=1e-12)


def test_result_depends_on_the_seed_and_not_on_the_block(monkeypatch):
    hits = np.random.default_rng(2).random(50)
    first = bootstrap_intervals(mean_of(hits), range(50), 1000)
    assert bootstrap_intervals(mean_of(hits), range(50), 1000, seed=1) != first
    monkeypatch.setattr(bootstrap, "_BLOCK", 50 * 37)
    assert bootstrap._LEAST < 37
    assert bootstrap_intervals(mean_of(hits), range(50), 1000) == first


def test_undefined_resamples_do_not_count_and_nothing_to_resample_is_nan():
    one_positive = {"auroc": lambda w: auroc([0.1, 0.2, 0.9], [0, 0, 1], w)}  # a third of the resamples lacks it
    assert bootstrap_intervals(one_positive, range(3), 500)["auroc"] == (1.0, 1.0)
    metric = {"recall": lambda w: recall_at_k([1, 2], 1, w)}
    assert np.isnan(bootstrap_intervals(metric, ["a", "a"])["recall"]).all()
    assert np.isnan(bootstrap_intervals(metric, ["a", "b"], resamples=0)["recall"]).all()


def test_what_was_drawn_is_kept_and_bounded(monkeypatch):
    monkeypatch.setattr(bootstrap, "_blocks_of", type(bootstrap._blocks_of)())
    monkeypatch.setattr(bootstrap, "_MOST_COUNTS", 20 * 100)
    hits = np.random.default_rng(3).random(20)
    first = bootstrap_intervals(mean_of(hits), range(20), 100)
    assert len(bootstrap._blocks_of) == 1
    with monkeypatch.context() as patch:
        patch.setattr(np.random, "default_rng", None)  # nothing is drawn again
        assert bootstrap_intervals(mean_of(hits), range(20), 100) == first
    assert bootstrap_intervals(mean_of(hits), range(20), 100, seed=1) != first
    assert [key[2] for key in bootstrap._blocks_of] == [1]  # both do not fit
    bootstrap_intervals(mean_of(hits), range(20), 101)  # too large to be kept
    assert [key[2] for key in bootstrap._blocks_of] == [1]
    assert bootstrap_intervals(mean_of(hits), range(20), 100) == first


def test_a_cluster_drawn_more_often_than_a_byte_holds(monkeypatch):
    class Constant:
        def integers(self, low, high, size):
            return np.zeros(size, np.int64)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Constant())
    monkeypatch.setattr(bootstrap, "_blocks_of", type(bootstrap._blocks_of)())
    values = bootstrap.resampled_values({"first": lambda w: w[:, 0], "last": lambda w: w[:, -1]}, range(300), 5)
    assert [set(value_R) for value_R in values.values()] == [{300.0}, {0.0}]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("items", [0, 1, 31, 32, 33, 100])
def test_cumulated_counts_are_those_of_numpy(items, dtype):
    counts_NR = np.random.default_rng(items).poisson(1, (items, 7)).astype(dtype)
    cumulate(counts_NR, out_NR := np.full_like(counts_NR, -1))
    np.testing.assert_array_equal(out_NR, np.cumsum(counts_NR, axis=0))


def test_areas_of_more_pairs_than_float32_counts_are_exact():
    rng = np.random.default_rng(5)
    scores, target = np.round(rng.normal(size=9_000), 3), rng.integers(0, 2, 9_000)
    weights_RN = rng.poisson(1, (3, 9_000)).astype(float)
    assert (weights_RN @ target * (weights_RN @ (1 - target))).min() > EXACT_IN_FLOAT32
    repeated = [np.repeat(np.arange(9_000), weights_N.astype(int)) for weights_N in weights_RN]
    np.testing.assert_array_equal(auroc(scores, target, weights_RN), [auroc(scores[i], target[i]) for i in repeated])
