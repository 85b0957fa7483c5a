"""Simulated models of known quality: intervals hold the truth as often as they say, and tests alarm as rarely as they say.

The default run has simulations enough to see a method that ignores clusters or pairs; `-m slow` has 1,000 of each.
"""

import math

import numpy as np
import pytest

from medvlp.eval.bootstrap import Bootstrap, bootstrap_intervals
from medvlp.eval.metrics import Auroc, MeanOfMeans
from medvlp.eval.statistics.measures import Measures
from medvlp.eval.statistics.paired import holm, paired_differences

RESAMPLES = 1000
ACCURACY = 0.7


def phi(z):
    return (1 + math.erf(z / math.sqrt(2))) / 2


def patients(rng, count, most=8):
    """The patient of each item: one to `most` items each."""
    return np.repeat(np.arange(count), rng.integers(1, most + 1, count))


def clustered_hits(rng, patient_N, accuracy=ACCURACY, sameness=4.0):
    """Right or wrong a item; patients differ in how hard they are, so items of one are alike."""
    hardness_K = rng.beta(accuracy * 2 / sameness, (1 - accuracy) * 2 / sameness, patient_N.max() + 1)
    return (rng.random(len(patient_N)) < hardness_K[patient_N]).astype(float)


def accuracy_of_independent_items(rng, items=300):
    hits = (rng.random(items) < ACCURACY).astype(float)
    return MeanOfMeans.of(hits), np.arange(items), ACCURACY


def accuracy_of_patients(rng, count=100):
    patient_N = patients(rng, count)
    return MeanOfMeans.of(clustered_hits(rng, patient_N)), patient_N, ACCURACY


def auroc_of_independent_items(rng, items=300, shift=1.0):
    target = rng.random(items) < 0.3
    return Auroc(rng.normal(size=items) + shift * target, target), np.arange(items), phi(shift / math.sqrt(2))


def auroc_of_patients(rng, count=100, shift=1.0, spread=1.5):
    patient_N = patients(rng, count)
    is_ill_N = (rng.random(count) < 0.4)[
        patient_N
    ]  # a patient's items have one label, and a score of their own in common
    scores = rng.normal(size=len(patient_N)) + rng.normal(0, spread, count)[patient_N] + shift * is_ill_N
    return Auroc(scores, is_ill_N), patient_N, phi(shift / math.sqrt(2 * (1 + spread**2)))


def coverage(simulation, simulations, is_clustered=True, seed=0, **settings):
    """The share of simulations whose 95% interval holds the truth."""
    held = 0
    for number in range(simulations):
        metric, patient_N, truth = simulation(np.random.default_rng([seed, number]), **settings)
        clusters = [f"{p:05d}" for p in (patient_N if is_clustered else range(len(patient_N)))]
        low, high = bootstrap_intervals({"m": metric}, clusters, RESAMPLES, seed=number)["m"]
        held += low <= truth <= high
    return held / simulations


SIMULATIONS = [
    accuracy_of_independent_items,
    accuracy_of_patients,
    auroc_of_independent_items,
    auroc_of_patients,
]


@pytest.mark.parametrize("simulation", [accuracy_of_patients, auroc_of_patients])
def test_intervals_hold_the_truth(simulation):
    assert 0.91 <= coverage(simulation, 200) <= 0.985  # three standard errors of 200 simulations, and a bit
    assert coverage(simulation, 60, is_clustered=False) < 0.85


@pytest.mark.slow
@pytest.mark.parametrize("simulation", SIMULATIONS)
def test_intervals_hold_the_truth_in_95_of_100(simulation):
    share = coverage(simulation, 1000)
    print(f"\n{simulation.__name__}: {share:.1%}")
    assert 0.93 <= share <= 0.97
    if simulation.__name__.endswith("patients"):
        unclustered = coverage(simulation, 1000, is_clustered=False)
        print(f"{simulation.__name__}, unclustered: {unclustered:.1%}")
        assert unclustered < 0.85


@pytest.mark.slow
def test_how_many_items_or_patients_an_interval_needs():
    for count in (10, 20, 30, 50, 100):
        items = coverage(accuracy_of_independent_items, 1000, items=count)
        clusters = coverage(accuracy_of_patients, 1000, count=count)
        area = coverage(auroc_of_independent_items, 1000, items=count)
        print(f"\n{count}: accuracy of items {items:.1%}, of patients {clusters:.1%}, AUROC of items {area:.1%}")
        assert count < 50 or min(items, clusters, area) > 0.92


def models_of(rng, count, models, sameness=4.0):
    """Models of equal accuracy whose answers agree in part, on the items of some patients."""
    patient_N = patients(rng, count)
    hardness_K = rng.beta(ACCURACY * 2 / sameness, (1 - ACCURACY) * 2 / sameness, count)
    common_N = rng.random(len(patient_N))  # half of a model's luck is an item's
    measures = {}
    groups = [f"{p:05d}" for p in patient_N]
    for number in range(models):
        # A model has patients of its own that it is good at, too.
        special_K = rng.beta(ACCURACY * 2 / sameness, (1 - ACCURACY) * 2 / sameness, count)
        ability_N = np.where(rng.random(count) < 0.5, hardness_K, special_K)[patient_N]
        luck_N = np.where(rng.random(len(patient_N)) < 0.5, common_N, rng.random(len(patient_N)))
        hit_N = (luck_N < ability_N).astype(float)
        keys = [str(item) for item in range(len(hit_N))]
        measures[f"m{number}"] = Measures({"acc": MeanOfMeans.of(hit_N)}, {"acc": len(hit_N)}, keys, groups, [])
    return measures


def false_alarms(simulations, models=2, count=100, is_clustered=True, seed=1):
    """The share of simulations in which any pair of equally good models is told apart, by p after Holm."""
    alarms = 0
    for number in range(simulations):
        measures = models_of(np.random.default_rng([seed, number]), count, models)
        if not is_clustered:
            measures = {name: Measures(m.metrics, m.counts, m.keys, m.keys, m.records) for name, m in measures.items()}
        pairs = [(a, b) for a in measures for b in measures if a < b]
        family = holm(paired_differences(measures, pairs, ["acc"], Bootstrap(RESAMPLES, number)))
        alarms += any(row.p_holm < 0.05 for row in family)
    return alarms / simulations


def test_equal_models_are_rarely_told_apart():
    assert 0.005 <= false_alarms(200) <= 0.1
    assert false_alarms(60, is_clustered=False) > 0.12


@pytest.mark.slow
def test_equal_models_are_told_apart_in_5_of_100():
    share, unclustered = false_alarms(1000), false_alarms(1000, is_clustered=False)
    print(f"\nfalse alarms: {share:.1%}, unclustered {unclustered:.1%}")
    assert 0.035 <= share <= 0.065
    assert unclustered > 0.12


@pytest.mark.slow
def test_families_of_equal_models_have_a_false_alarm_in_at_most_5_of_100():
    share = false_alarms(1000, models=5)
    print(f"\nfamily of 10 pairs: {share:.1%}")
    assert share <= 0.065


def test_a_better_model_is_told_apart():
    rng = np.random.default_rng(5)
    patient_N = patients(rng, 150)
    hits = clustered_hits(rng, patient_N)
    better = np.maximum(hits, rng.random(len(hits)) < 0.3)
    groups = [f"{p:05d}" for p in patient_N]
    keys = [str(item) for item in range(len(hits))]
    measures = {
        name: Measures({"acc": MeanOfMeans.of(values)}, {"acc": len(hits)}, keys, groups, [])
        for name, values in (("a", better), ("b", hits))
    }
    (result,) = paired_differences(measures, [("a", "b")], ["acc"], Bootstrap(RESAMPLES))
    assert result.p < 1e-4
    assert result.ci_low > 0
