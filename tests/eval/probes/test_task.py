"""Probes on patches of noisy colours: against scikit-learn, from records alone, and the same on two ranks."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from medvlp.config import ConfigError, ProbeConfig
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.embeddings import CachedEncoder
from medvlp.eval.errors import TaskError
from medvlp.eval.probes.draws import shots
from medvlp.eval.probes.task import Probe
from medvlp.eval.statistics.cell import record_statistics
from medvlp.eval.statistics.measures import measures
from medvlp.eval.task import TaskSettings, validation_split
from medvlp.jsonl import encode_json
from tests.distributed.ranks import on_ranks
from tests.eval.colour_world import ColourEncoder, FakeDataset, FakeSample

CENTERS = {"red": (190, 90, 90), "green": (90, 190, 90), "blue": (90, 90, 190)}


def patch(colour_3):
    import io

    Image.new("RGB", (2, 2), tuple(int(v) for v in colour_3)).save(data := io.BytesIO(), "png")
    return {"png": data.getvalue()}


def split(name, count, prefix="", several=False):
    """Samples of three hues in turn, two a patient; of several labels, a mapping with gaps that says which channels are high."""
    rng = np.random.default_rng(len(name) * 1000 + count)
    samples = []
    for row in range(count):
        hue = list(CENTERS)[row % 3]
        colour_3 = np.clip(np.array(CENTERS[hue]) + rng.normal(0, 45, 3), 0, 255)
        labels = {"hue": hue, "wide": f"w{row % 21:02}"}
        if several:
            states = {
                c: None if rng.random() < 0.2 else int(v + rng.normal(0, 30) > 120)
                for c, v in zip(CENTERS, colour_3, strict=True)
            }
            labels = {"high": states | {"white": 0, "loud": -1}}
        metadata = {"group": f"{prefix or name}{row // 6}", "group_kind": "patient", "site": f"h{row % 2}"}
        samples.append(FakeSample(f"{name}{row:03}", patch(colour_3), {}, labels, metadata))
    return FakeDataset(samples, f"data/{name}", split=name)


def afresh(dataset):
    """The dataset after its samples were changed, with the hash that they have now."""
    return FakeDataset(dataset.samples, dataset.folder, split=dataset.manifest.split)


def probe(several=False, valid=True, train=None, scored=None, **options):
    stated = {"name": "hues", "data": "data", "label": "high" if several else "hue", "multi_label": several}
    config = ProbeConfig(**{**stated, "shots": [1, 4], "draws": 3, "neighbours": [1, 5], "halvings": 1, **options})
    config.check()
    return Probe(
        config,
        scored or split("test", 45, several=several),
        train or split("train", 90, several=several),
        split("valid", 36, several=several) if valid else None,
        Bootstrap(resamples=50),
    )


def model():
    return CachedEncoder(ColourEncoder(), 16, 0, 10_000)


def values(result):
    return {metric.name: metric.value for metric in result.metrics}


def features(dataset):
    return model().images(dataset).embeddings_ND.double().numpy()


def targets(dataset):
    return np.array([list(CENTERS).index(sample.labels["hue"]) for sample in dataset.samples])


@pytest.fixture(scope="module")
def single():
    task = probe(classes=list(CENTERS))
    return task, task.run(model())


@pytest.fixture(scope="module")
def several():
    task = probe(several=True, classes=[*CENTERS, "white", "loud"][:3])
    return task, task.run(model())


def fitted(strength, feature_ND, target_N):
    """To the optimum, which scikit-learn's L-BFGS does not reach where C is small or large."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LogisticRegression(C=strength, solver="newton-cg", tol=1e-12, max_iter=1000).fit(feature_ND, target_N)


def test_all_metrics_are_there(single, several):
    names = list(values(single[1]))
    assert names[:3] == ["acc1", "mean_per_class_recall", "auroc"]
    assert {"1shot_acc1", "4shot_acc1", "4shot_auroc", "4shot_acc1/draws_sd", "knn_acc1", "knn_auroc"} < set(names)
    assert {"auroc", "map", "f1", "auroc/red", "1shot_auroc/draws_sd", "1shot_map", "knn_map"} < set(values(several[1]))
    assert "4shot_auroc/draws_sd" not in names


def test_the_linear_probe_is_scikit_learn_s_refitted_on_train_and_valid(single):
    task, result = single
    parts = task.train, task.valid
    strength = result.protocol["linear_probe"]["C"]
    reference = fitted(strength, np.concatenate(list(map(features, parts))), np.concatenate(list(map(targets, parts))))
    probability_NC, target_N = reference.predict_proba(features(task.dataset)), targets(task.dataset)
    assert values(result)["acc1"] == pytest.approx(reference.score(features(task.dataset), target_N))
    assert values(result)["auroc"] == pytest.approx(roc_auc_score(target_N, probability_NC, multi_class="ovr"))
    scores_NC = [[record["scores"][name] for name in CENTERS] for record in result.records]
    assert np.array(scores_NC) == pytest.approx(probability_NC, abs=1e-4)
    on_valid = fitted(strength, features(task.train), targets(task.train)).score(
        features(task.valid), targets(task.valid)
    )
    assert result.protocol["linear_probe"]["valid"] == pytest.approx(on_valid)


def test_few_shot_probes_are_scikit_learn_s_on_the_same_draws(single):
    task, result = single
    items, target_N = model().images(task.train).items, targets(task.train)
    by_draw, areas = [], []
    for draw, strength in enumerate(result.protocol["few_shot"]["shots"]["4"]["C"]):
        rows = shots(items, np.eye(3)[target_N], 4, 0, draw)
        reference = fitted(strength, features(task.train)[rows], target_N[rows])
        probability_NC, truth_N = reference.predict_proba(features(task.dataset)), targets(task.dataset)
        by_draw.append(reference.score(features(task.dataset), truth_N))
        areas.append(roc_auc_score(truth_N, probability_NC, multi_class="ovr"))
    assert values(result)["4shot_acc1"] == pytest.approx(np.mean(by_draw))
    assert values(result)["4shot_acc1/draws_sd"] == pytest.approx(np.std(by_draw, ddof=1))
    assert values(result)["4shot_auroc"] == pytest.approx(np.mean(areas), abs=1e-3)


def test_several_labels_are_scored_on_what_is_stated(several):
    task, result = several
    record_of = {record["id"]: record for record in result.records}
    truth = {sample.key: sample.labels["high"] for sample in task.dataset.samples if sample.key in record_of}
    assert len(truth) == 44  # of one sample nothing is stated
    for name in CENTERS:
        keys = [key for key, states in truth.items() if states[name] is not None]
        target = [truth[key][name] for key in keys]
        score = [record_of[key]["scores"][name] for key in keys]
        assert values(result)[f"auroc/{name}"] == pytest.approx(roc_auc_score(target, score))
        assert values(result)[f"ap/{name}"] == pytest.approx(average_precision_score(target, score))
    assert values(result)["auroc"] > 0.9
    assert set(result.protocol["threshold"]) == set(CENTERS)
    assert record_of["test000"]["target"] == [name for name in CENTERS if truth["test000"][name]]


def test_records_alone_give_the_numbers_and_what_follows_from_them(single, several):
    for _, result in (single, several):
        records = json.loads(json.dumps(result.records))
        protocol = json.loads(json.dumps(result.protocol))
        (measured,) = measures(records, protocol)
        assert {name: metric(None) for name, metric in measured.metrics.items()} == pytest.approx(values(result))
    from medvlp.config.evaluation.groupings import parse_groupings

    task, result = single
    statistics = record_statistics(result.records, result.protocol, task.bootstrap, parse_groupings(["site"], "by"))
    assert {row["group"] for row in statistics.subgroups} == {"h0", "h1"}
    assert {metric.name for metric in statistics.metrics} >= {"ece", "brier", "aurc"}


def test_groups_of_other_splits_are_not_fitted_and_this_is_said():
    scored = split("test", 45, prefix="train")  # patients 0 to 7 are in train too
    task = probe(train=split("train", 90), scored=scored, valid=False, shots=[], neighbours=[], exclude=["green"])
    result = task.run(model())
    assert result.protocol["classes"] == ["blue", "red"]
    assert (
        result.protocol["fitted_on"]["n"] + result.protocol["chosen_on"]["n"] == 28
    )  # of 60, without those of eight patients
    assert any("of a group, or with an image, that another split has" in line for line in result.protocol["exclusions"])
    assert (
        "15 of 45 samples: hue 'green' is no class of the task (the task's exclude names it)"
        in result.protocol["exclusions"]
    )
    assert result.protocol["chosen_on"]["split"] == "0.2 of train"


def test_many_classes_leave_ranks_in_the_records():
    task = probe(label="wide", shots=[1], neighbours=[], draws=2)
    result = task.run(model())
    assert {"1shot_acc1", "1shot_mean_per_class_recall"} < set(values(result))
    assert "1shot_auroc" not in values(result)
    assert "few-shot AUROC" in result.protocol["omitted"]
    assert set(result.records[0]["few_shot"]["1"]) == {"ranks"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classes": ["red", "Green"]}, "did you mean 'green'"),
        ({"classes": ["Red", "red", "blue"], "label": "hue"}, "no sample to fit"),
        ({"classes": ["red", "violet"]}, r"\['violet'\] .*no sample to fit"),
        ({"label": "colour"}, "no sample of data/test has 'colour'"),
        ({"positive": "red"}, "expected one of two classes"),
    ],
)
def test_what_cannot_be_probed_is_named(options, said):
    with pytest.raises(TaskError, match=said):
        probe(**options).run(model())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label": ""}, "label is empty"),
        ({"strengths": [1.0, 0.1]}, "expected positive finite numbers, rising"),
        ({"shots": [0]}, "expected different numbers of 1 or more"),
        ({"classes": ["a"]}, "two or more"),
        ({"holdout": 1.0}, "a share between 0 and 1"),
        ({"strengths": [1.0, float("inf")]}, "expected positive finite numbers"),
        ({"strengths": [float("nan")]}, "expected positive finite numbers"),
        ({"train_split": "valid"}, "train_split and valid_split are both 'valid'"),
        ({"classes": ["a", "b"], "exclude": ["a"]}, r"\['a'\] stand under classes and under exclude"),
    ],
)
def test_options_that_cannot_be_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        probe(**options)


def test_splits_that_cannot_be_fitted_are_named(tmp_path):
    config = ProbeConfig(name="hues", data=str(tmp_path), label="hue")
    with pytest.raises(TaskError, match=r"split 'train' is fitted, and cannot be scored"):
        Probe.from_config(config, split("train", 6), TaskSettings())
    with pytest.raises(TaskError, match=r"a probe is fitted on labelled samples, and .*train is not there"):
        Probe.from_config(config, split("test", 6), TaskSettings())
    with pytest.raises(TaskError, match=r"valid_split=valdi is not there; .* has the splits \[\]"):
        validation_split(replace(config, valid_split="valdi"), split("test", 6))
    assert validation_split(config, split("test", 6)) is None


def test_what_is_held_out_shares_no_image_with_what_is_fitted():
    train = split("train", 90)
    images = [sample.images for sample in train.samples]
    for row, sample in enumerate(train.samples):  # of other patients, the same bytes
        sample.images = images[row % 45]
    probing = probe(train=afresh(train), valid=False, classes=list(CENTERS)).probing(model())
    assert len(probing.valid)
    assert not set(probing.fit.hashes) & set(probing.valid.hashes)
    assert not {item.group for item in probing.fit.items} & {item.group for item in probing.valid.items}


def test_a_class_whose_samples_are_all_in_other_splits_is_named():
    train = split("train", 90)
    for row, sample in enumerate(train.samples):
        if sample.labels["hue"] == "red":
            sample.metadata["group"] = f"test{row % 5}"
    with pytest.raises(
        TaskError, match=r"no sample to fit: all of {'red': 30} share a group .* with data/test or data/valid"
    ):
        probe(train=afresh(train), classes=list(CENTERS)).run(model())


def test_a_label_without_negatives_is_named():
    train, valid = split("train", 90, several=True), split("valid", 36, several=True)
    for sample in (*train.samples, *valid.samples):
        sample.labels["high"]["white"] = 1
    task = probe(several=True, classes=["red", "white"], train=afresh(train), shots=[2], neighbours=[])
    lines = replace(task, valid=afresh(valid)).run(model()).protocol["exclusions"]
    assert "class 'white' has no negatives to fit: its logits are 0 and its AUROC 0.5" in lines


def _one_of_two(folder):
    torch.distributed.init_process_group("gloo")
    result = probe(classes=list(CENTERS)).run(model())
    Path(folder, str(torch.distributed.get_rank())).write_bytes(encode_json([result.records, result.protocol]))


def test_two_ranks_give_the_bytes_of_one(single, tmp_path):
    code, said = on_ranks(_one_of_two, 2, tmp_path)
    assert code == 0, said
    expected = encode_json([single[1].records, single[1].protocol])
    assert [Path(tmp_path, name).read_bytes() for name in "01"] == [expected, expected]
