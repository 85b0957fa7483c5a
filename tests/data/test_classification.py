"""From shards to batches of images with labels: weights, divisors, and what is refused."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from medvlp.data.classification import HeadLabels, LabelPipeline, PrepareLabelled, divisors
from medvlp.data.dataset import RequestedSamples
from medvlp.data.images.crop import RandomView
from medvlp.data.labels import ClassLabels, LabelTable, read_labels
from medvlp.data.order import Order, OrderedSource
from medvlp.data.plan import Request
from medvlp.errors import UserError
from medvlp.shards import ShardDataset
from tests.classifiers import FINDINGS, KINDS, labelled_samples
from tests.datasets import write_split

KIND = ClassLabels("kind", KINDS)
SEVERAL = ClassLabels("findings", FINDINGS, multi_label=True)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return ShardDataset(write_split(tmp_path_factory.mktemp("labels") / "train", labelled_samples(44)))


def pipeline(heads):
    labels = {name: head.labels for name, head in heads.items()}
    return LabelPipeline(heads, PrepareLabelled(labels, RandomView(32, [1.0, 1.0], [1.0, 1.0], 10**6)))


def test_balanced_weights_are_scikit_learns(dataset):
    tables = read_labels(dataset, [KIND, SEVERAL])
    classes = tables[0].target[tables[0].target >= 0]
    expected = compute_class_weight("balanced", classes=np.arange(4), y=classes)
    assert HeadLabels(KIND, balanced=True).weights_of(tables[:1]).tolist() == pytest.approx(expected.tolist())
    states = [[s.labels["findings"].get(name) for s in labelled_samples(44)] for name in FINDINGS]
    ratios = [column.count(0) / column.count(1) for column in states]
    assert HeadLabels(SEVERAL, balanced=True).weights_of(tables[1:]).tolist() == pytest.approx(ratios)
    assert HeadLabels(KIND).weights_of(tables[:1]) is None


def test_divisors_count_weights_of_classes_and_labels_that_are_there():
    single = LabelTable(KIND, np.array([0, 3, -1, 1]))
    assert divisors(single, None).tolist() == [1, 1, 0, 1]
    assert divisors(single, torch.tensor([2.0, 0.5, 1.0, 4.0])).tolist() == [2, 4, 0, 0.5]
    several = LabelTable(SEVERAL, np.array([[1, 0, np.nan], [np.nan] * 3]))
    assert divisors(several, torch.ones(3)).tolist() == [2, 0]


def test_a_step_knows_what_its_losses_are_divided_by(dataset):
    made = pipeline({"kind": HeadLabels(KIND), "findings": HeadLabels(SEVERAL)})
    (view,) = made.open({"made": dataset}).datasets.values()
    plan = made.plan(Order([OrderedSource("made", len(view), 1.0, view.manifest_hash)], 0), [view])
    numbers = plan.epoch(0)[:8]
    samples = [view.read(int(number)) for number in numbers]
    kinds = sum("kind" in sample.labels for sample in samples)
    findings = sum(len(sample.labels["findings"]) for sample in samples)
    assert plan.total(numbers) == (kinds, findings)
    assert kinds < 8
    nameless = [n for n in range(len(view)) if "kind" not in view.read(n).labels]
    assert plan.total(np.array(nameless))[0] == 1.0  # a step without labels is divided by one


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (HeadLabels(ClassLabels("kind", (*KINDS, "k4")), balanced=True), "heads.h.balanced: no sample shows .* 'k4'"),
        (HeadLabels(ClassLabels("kind", KINDS[1:])), "labels are no class of objective.heads.h: 'k0'"),
        (
            HeadLabels(ClassLabels("findings", FINDINGS)),
            "values of objective.heads.h cannot be read .*: a mapping where one",
        ),
        (HeadLabels(ClassLabels("sort", KINDS)), "no sample has a label that objective.heads reads"),
        (HeadLabels(ClassLabels("kind", ("k0",), True, ("*",)), balanced=True), None),
        (HeadLabels(ClassLabels("licence", ("CC0-1.0",), True), balanced=True), "shown by every sample"),
    ],
)
def test_what_cannot_be_learned_is_refused(dataset, head, said):
    if said is None:
        pipeline({"h": head}).open({"made": dataset})
        return
    with pytest.raises(UserError, match=said):
        pipeline({"h": head}).open({"made": dataset})


def test_what_replaces_a_bad_sample_counts_as_much_in_the_divisor(tmp_path):
    samples = labelled_samples(12, missing=False)
    for number, sample in enumerate(samples):
        sample.labels["findings"] = dict.fromkeys(FINDINGS[: 1 + number % 3], 0)
        if number < 6:
            del sample.labels["kind"]
    for number in (0, 6):  # as many labels have number 3 alone, and 9 alone
        samples[number].images["jpg"] = b"damaged"
    samples[5].images["other.jpg"] = samples[5].images["jpg"]
    shards = ShardDataset(write_split(tmp_path / "train", samples))
    made = pipeline({"kind": HeadLabels(KIND), "findings": HeadLabels(SEVERAL)})
    sources = made.open({"made": shards})
    assert [(row["key"], row["reason"]) for row in sources.skipped] == [(samples[5].key, "not_one_image")]
    assert made.counts_NH[:, 1].tolist() == [1, 2, 3, 1, 2, 1, 2, 3, 1, 2, 3]
    view = sources.datasets["made"]
    plan = made.plan(Order([OrderedSource("made", len(view), 1.0, view.manifest_hash)], 0), [view])
    units = RequestedSamples([("made", view)], made.prepare, 0, counts_NH=made.counts_NH)
    for bad, replacement in ((0, 3), (5, 8)):
        for epoch in range(4):
            unit = units[Request(epoch, (0, 1, 2), (bad, 1, 2), plan.total(np.array([bad, 1, 2])))]
            assert unit["items"][0]["key"] == view.key(replacement)
            targets = [item["targets"] for item in unit["items"]]
            kinds = sum(target["kind"] >= 0 for target in targets)
            findings = sum((~np.isnan(target["findings"])).sum() for target in targets)
            assert unit["total"] == (max(kinds, 1), findings)
