"""Scores of trained heads, with logits that are known: the metrics are scikit-learn's, what has no label is not in them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score

from medvlp.config import ClassificationConfig
from medvlp.data.labels import ClassLabels
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.classification.task import Classification
from medvlp.eval.embeddings import ImageEmbeddings
from medvlp.eval.errors import TaskError
from medvlp.eval.items import items_of
from medvlp.eval.statistics.calibration import calibration_measures
from medvlp.eval.statistics.measures import measures
from medvlp.eval.task import TaskSettings
from medvlp.shards import ShardDataset
from tests.classifiers import FINDINGS, KINDS, labelled_samples
from tests.datasets import write_split

SETTINGS = TaskSettings(Bootstrap(resamples=40))
HEADS = {"kind": ClassLabels("kind", KINDS), "findings": ClassLabels("findings", FINDINGS, multi_label=True)}


class KnownLogits:
    """A classifier whose logits are given."""

    identity, offers = "known", ("classify",)

    def __init__(self, logits, heads=HEADS):
        self.logits_of, self.heads = logits, heads

    def logits(self, dataset, head):
        return ImageEmbeddings(items_of(dataset), self.logits_of[head], {})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return ShardDataset(write_split(tmp_path_factory.mktemp("labelled") / "test", labelled_samples(44)))


@pytest.fixture(scope="module")
def model():
    made = torch.Generator().manual_seed(3)
    return KnownLogits({name: torch.randn(44, len(head.classes), generator=made) for name, head in HEADS.items()})


def run(dataset, model, **options):
    task = Classification.from_config(ClassificationConfig(name="t", data="d", **options), dataset, SETTINGS)
    result = task.run(model)
    return result, {metric.name: metric for metric in result.metrics}


def test_one_label_an_item(dataset, model):
    result, values = run(dataset, model, head="kind")
    samples = labelled_samples(44)
    rows = [row for row, sample in enumerate(samples) if "kind" in sample.labels]
    logits = model.logits_of["kind"].double()[rows]
    target = [KINDS.index(samples[row].labels["kind"]) for row in rows]
    assert 0 < len(rows) < 44
    assert values["acc1"].value == pytest.approx(accuracy_score(target, logits.argmax(1)))
    assert values["mean_per_class_recall"].value == pytest.approx(balanced_accuracy_score(target, logits.argmax(1)))
    assert values["auroc"].value == pytest.approx(roc_auc_score(target, logits.softmax(1), multi_class="ovr"))
    assert values["acc1"].n == len(rows)
    assert result.protocol["exclusions"] == [f"{44 - len(rows)} of 44 samples: no label 'kind'"]
    assert sum(result.protocol["class_counts"].values()) == len(rows)
    calibration = calibration_measures(result.records, result.protocol)
    assert {"ece", "brier", "aurc"} < set(calibration.metrics)


def test_several_labels_an_item_some_of_them_missing(dataset, model):
    result, values = run(dataset, model, head="findings")
    samples = labelled_samples(44)
    state_NC = np.array(
        [[sample.labels["findings"].get(name, np.nan) for name in FINDINGS] for sample in samples], float
    )
    logits_NC = model.logits_of["findings"].double().numpy()
    assert np.isnan(state_NC).any(axis=0).all()
    by_class = {"auroc": [], "ap": [], "f1": []}
    for column in range(len(FINDINGS)):
        known = ~np.isnan(state_NC[:, column])
        state, logit = state_NC[known, column], logits_NC[known, column]
        by_class["auroc"].append(roc_auc_score(state, logit))
        by_class["ap"].append(average_precision_score(state, logit))
        by_class["f1"].append(f1_score(state, logit >= 0))
    for name, macro in (("auroc", "auroc"), ("ap", "map"), ("f1", "f1")):
        assert values[macro].value == pytest.approx(np.mean(by_class[name]))
        assert [values[f"{name}/{cls}"].value for cls in FINDINGS] == pytest.approx(by_class[name])
    is_scored = ~np.isnan(state_NC).all(axis=1)
    assert len(result.records) == is_scored.sum() < 44
    assert calibration_measures(result.records, result.protocol) is None


@pytest.mark.parametrize("head", ["kind", "findings"])
def test_metrics_come_from_records_alone(dataset, model, head):
    result, values = run(dataset, model, head=head)
    (again,) = measures(result.records, result.protocol)
    assert {name: metric(None) for name, metric in again.metrics.items()} == {
        name: value.value for name, value in values.items()
    }


def test_a_threshold_is_a_probability(dataset, model):
    result, _ = run(dataset, model, head="findings", threshold=0.7)
    for record in result.records:
        assert record["prediction"] == [name for name, score in record["scores"].items() if score >= 0.7]


def test_thresholds_are_chosen_on_another_split(dataset, model, tmp_path):
    """Where there is one: without, f1 falls out, and the result says why."""
    result, values = run(dataset, model, head="findings", threshold=None)
    assert "f1" not in values
    assert result.protocol["threshold_choice"] == "none: the task has no other split to choose on"
    write_split(tmp_path / "valid", labelled_samples(44))
    config = ClassificationConfig(name="t", data=str(tmp_path), head="findings", threshold=None)
    result = Classification.from_config(config, dataset, SETTINGS).run(model)
    assert result.protocol["threshold_choice"] == "highest F1 on valid, a class"
    for column, name in enumerate(FINDINGS):
        states = [sample.labels["findings"].get(name) for sample in labelled_samples(44)]
        known = [row for row, state in enumerate(states) if state is not None]
        logits = model.logits_of["findings"].double().numpy()[known, column].round(9)
        target = [states[row] for row in known]
        best = max(f1_score(target, logits >= limit) for limit in logits)
        assert f1_score(target, logits >= result.protocol["threshold"][name]) == pytest.approx(best)


def test_a_label_that_is_no_class_is_excluded_and_counted(dataset, model):
    heads = {"kind": replace(HEADS["kind"], classes=KINDS[:3]), "findings": HEADS["findings"]}
    logits = {**model.logits_of, "kind": model.logits_of["kind"][:, :3]}
    result, _ = run(dataset, KnownLogits(logits, heads), head="kind")
    count = sum(sample.labels.get("kind") == "k3" for sample in labelled_samples(44))
    assert f"{count} of 44 samples: kind 'k3' is no class of the task" in result.protocol["exclusions"]
    assert {record["target"] for record in result.records} == set(KINDS[:3])


def test_a_class_that_differs_in_case_only_is_refused(dataset, model):
    heads = {**HEADS, "kind": replace(HEADS["kind"], classes=("K0", *KINDS[1:]))}
    with pytest.raises(TaskError, match=r"class 'K0' has no samples; did you mean 'k0'"):
        run(dataset, KnownLogits(model.logits_of, heads), head="kind")


@pytest.mark.parametrize("head", ["kind", "findings"])
def test_logits_that_are_not_finite_are_named(dataset, model, head):
    logits = {name: values.clone() for name, values in model.logits_of.items()}
    logits[head][1] = float("nan")
    with pytest.raises(TaskError, match="the classifier gave NaN or infinity"):
        run(dataset, KnownLogits(logits, HEADS), head=head)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "has several heads; name one as `head` in the task's file; its heads are kind, findings"),
        ({"head": "sort"}, "has no head 'sort'"),
        ({"head": "kind", "positive": "k0"}, "expected one of two classes"),
        ({"head": "kind", "label": "sort"}, "has a label of the head 'kind' .label 'sort'"),
    ],
)
def test_what_cannot_be_measured_is_refused(dataset, model, options, said):
    with pytest.raises(TaskError, match=said):
        run(dataset, model, **options)
