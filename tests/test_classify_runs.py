"""A classifier's runs: several ranks are one, a killed run goes on, missing labels count nothing, and its tower lives on."""

import signal

import pytest
import torch
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

import medvlp
from medvlp.builders import build_data, build_objective
from medvlp.builders.classifier import load_classifier
from medvlp.builders.towers import vision_tower
from medvlp.config import ConfigError, TowerConfig, compose
from medvlp.data.plan import RankSchedule
from medvlp.evaluate import main as evaluate
from tests.classifiers import FINDINGS, KINDS, classifier_words, labelled_samples
from tests.distributed.ranks import start_train, train_on_ranks
from tests.runs import equal, losses, rows, run_here, wait_for_step, weights

DOUBLE = ["trainer.precision=64-true", "trainer.checkpoint_every=100", "optim.clip_norm=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, a tower, and a run that nothing disturbed."""
    made = tmp_path_factory.mktemp("classify")
    assert run_here([*classifier_words(made), "run_name=whole"]) == 0
    return made


@pytest.fixture
def words(folder):
    return classifier_words(folder)


@pytest.fixture
def tasks(folder, monkeypatch):
    """Tasks of both heads, in the working folder."""
    (folder / "configs/task").mkdir(parents=True, exist_ok=True)
    for head in ("kind", "findings"):
        text = f"name: made_{head}\nkind: classification\nhead: {head}\ndata: {folder}/labelled\n"
        (folder / f"configs/task/made_{head}.yaml").write_text(text)
    monkeypatch.chdir(folder)
    return ["made_kind", "made_findings"]


def last(folder, name):
    return folder / f"runs/{name}/checkpoints/last.ckpt"


@pytest.mark.parametrize("accumulate", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_two_ranks_with_accumulated_batches_are_one_rank_in_double_precision(folder, words, accumulate):
    double = [*words, *DOUBLE, "trainer.max_steps=6"]
    assert run_here([*double, f"run_name=one64-{accumulate}"]) == 0
    code, output = train_on_ranks([[*double, f"run_name=two64-{accumulate}", f"trainer.accumulate={accumulate}"]])
    assert code == 0, output
    one_rank, two_ranks = (folder / f"runs/{name}64-{accumulate}" for name in ("one", "two"))
    norms = [row["grad_norm"] for row in rows(one_rank / "metrics.jsonl")]
    assert len(norms) == 6
    assert max(norms) > 1  # clipping took part
    assert losses(two_ranks) == pytest.approx(losses(one_rank), rel=1e-9)
    assert rows(two_ranks / "samples.jsonl") == rows(one_rank / "samples.jsonl")
    for key, value in weights(one_rank).items():
        assert torch.allclose(value, weights(two_ranks)[key], rtol=1e-9, atol=1e-12), key


def test_a_run_killed_in_mid_epoch_goes_on_bit_for_bit(folder, words):
    run, whole = folder / "runs/killed", folder / "runs/whole"
    process = start_train([*words, "run_name=killed"])
    wait_for_step(process, run, 7)  # of 5 steps an epoch
    process.kill()
    assert process.finish()[0] == -signal.SIGKILL
    assert rows(run / "status.json")[0]["state"] == "running"
    assert run_here([*words, "run_name=killed", "resume=auto", "data.workers=1"]) == 0
    assert rows(run / "samples.jsonl") == rows(whole / "samples.jsonl")
    assert losses(run) == losses(whole)
    assert equal(weights(run), weights(whole))


def test_samples_without_any_label_are_skipped_and_named(folder):
    nameless = {sample.key for sample in labelled_samples(44) if not sample.labels.get("kind") and not stated(sample)}
    assert len(nameless) >= 4
    ledger = rows(folder / "runs/whole/left_out.jsonl")
    assert {row["key"] for row in ledger} == nameless
    assert {row["reason"] for row in ledger} == {"no_label"}
    keys = {key for row in rows(folder / "runs/whole/samples.jsonl") for key in row["keys"]}
    assert not keys & nameless
    assert len(keys) > 30


def stated(sample):
    return [name for name in FINDINGS if sample.labels["findings"].get(name) is not None]


def test_the_loss_is_torchs_mean_over_the_labels_that_a_step_has(folder, words):
    """The first step's loss, from the labels of the samples that the run says it saw."""
    objective = build_objective(compose("train", words))
    data = build_data(compose("train", words), objective.pipeline)
    data.prepare_data()
    data.setup()
    units = [data.samples[request] for request in next(RankSchedule(data.plan, 8).requests(0, 1))]
    batch = objective.pipeline.collate(units)
    assert batch.keys == rows(folder / "runs/whole/samples.jsonl")[0]["keys"]
    module = objective.module
    with torch.no_grad():
        logits = module.model((batch.images_BCHW / 255 - module.mean) / module.std)
    samples = {sample.key: sample for sample in labelled_samples(44)}
    step = [samples[key] for key in batch.keys]
    has_kind = torch.tensor(["kind" in sample.labels for sample in step])
    target = torch.tensor([KINDS.index(sample.labels["kind"]) for sample in step if "kind" in sample.labels])
    assert 0 < len(target) < 8
    kind_loss = cross_entropy(logits["kind"][has_kind], target, torch.tensor([1.0, 3.0, 1.0, 1.0]), label_smoothing=0.1)
    terms = []
    for column, name in enumerate(FINDINGS):
        all_states = [sample.labels["findings"].get(name) for sample in samples.values()]
        weight = torch.tensor(all_states.count(0) / all_states.count(1))
        for row, sample in enumerate(step):
            state = sample.labels["findings"].get(name)
            if state is not None:
                logit = logits["findings"][row, column]
                terms.append(binary_cross_entropy_with_logits(logit, torch.tensor(float(state)), pos_weight=weight))
    expected = kind_loss + 0.5 * torch.stack(terms).mean()
    assert losses(folder / "runs/whole")[0] == pytest.approx(float(expected), rel=1e-6)
    row = rows(folder / "runs/whole/metrics.jsonl")[0]
    assert row["loss_kind"] == pytest.approx(float(kind_loss), rel=1e-6)


def test_frozen_parts_stay_and_others_learn(folder, words):
    frozen = [*words, "run_name=frozen", "trainer.max_steps=2", "optim.parts.vision.freeze=true"]
    assert run_here([*frozen, f"init_from={last(folder, 'whole')}", "init_parts=[vision]"]) == 0
    before, after = weights(folder / "runs/whole"), weights(folder / "runs/frozen")
    towers = [name for name in before if name.startswith("vision.")]
    assert all(torch.equal(before[name], after[name]) for name in towers)
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_a_trained_tower_is_an_assistants(folder):
    checkpoint = last(folder, "whole")
    tower = vision_tower(TowerConfig(source=str(checkpoint), feature_layer=-1))
    classifier = load_classifier(checkpoint).classifier
    assert all(
        torch.equal(value, weights(folder / "runs/whole")[f"vision.{name}"])
        for name, value in tower.model.state_dict().items()
    )
    assert (tower.kind, tower.tokens, tower.select_strategy) == ("llava", 4, "default")
    image = Image.effect_noise((40, 50), 90).convert("RGB")
    pixels = [p([image], return_tensors="pt")["pixel_values"] for p in (tower.processor, classifier.processor)]
    assert torch.equal(*pixels)
    with pytest.raises(ConfigError, match="is a classifier, which brings its own"):
        vision_tower(TowerConfig(source=str(checkpoint), mean=[0.0, 0.0, 0.0]))


def test_heads_are_measured_in_training_and_after_it(folder, words, tasks, capsys):
    options = ["run_name=measured", "tasks=[made_kind,made_findings]", "trainer.monitor=made_kind/auroc"]
    assert run_here([*words, *options, "trainer.eval_every=4", "trainer.max_steps=6"]) == 0
    of_valid = [row for row in rows(folder / "runs/measured/metrics.jsonl") if row["split"] == "valid"]
    assert [(row["step"], row["task"]) for row in of_valid] == [(step, task) for step in (4, 6) for task in tasks]
    assert {"acc1", "mean_per_class_recall", "auroc"} < set(of_valid[-2])
    assert {"auroc", "map", "f1", *(f"auroc/{name}" for name in FINDINGS)} < set(of_valid[-1])

    paths = [f"runs/{run}/checkpoints/last.ckpt" for run in ("measured", "whole")]
    command = [f"checkpoints=[{','.join(paths)}]", "tasks=[made_kind,made_findings]", "split=valid", "resamples=50"]
    assert evaluate([*command, "output=out", "by=[kind]"]) == 0
    results = {(row["checkpoint"], row["task"], row["metric"]): row for row in rows(folder / "out/results.jsonl")}
    for row in of_valid[-2:]:
        for metric in ("acc1", "auroc", "map"):
            if metric in row:  # the same weights, in a batch of the same images
                assert results[paths[0], row["task"], metric]["value"] == pytest.approx(row[metric], abs=1e-9)
    assert results[paths[1], "made_kind", "auroc"]["ci_low"] <= results[paths[1], "made_kind", "auroc"]["value"]
    assert "made_findings" in (folder / "out/report.html").read_text()
    compared = rows(folder / "out/comparisons.jsonl")
    assert {row["metric"] for row in compared} >= {"acc1", "auroc", "map"}
    assert {row["metric"] for row in rows(folder / "out/calibration.jsonl")} == {"acc1"}
    capsys.readouterr()
    assert evaluate([f"checkpoints=[{paths[0]}]", "tasks=[breastmnist]", "output=refused"]) == 1
    assert "cannot measure runs/measured/checkpoints/last.ckpt, which is a classifier" in capsys.readouterr().err


def test_anyone_opens_a_classifier(folder):
    model, transform, classes = medvlp.load(last(folder, "whole"))
    image = Image.effect_noise((40, 50), 90).convert("RGB")
    with torch.no_grad():
        logits = model(transform(image)[None])
    assert {name: value.shape[1] for name, value in logits.items()} == {"kind": 4, "findings": 3}
    assert classes == {"kind": list(KINDS), "findings": list(FINDINGS)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["model=llava"], "objective=classify trains a classifier, not model.kind='llava'; use model=classifier"),
        (["objective.heads.kind.classes=[k0,k1]"], "labels are no class of objective.heads.kind: 'k2' ("),
        (["objective.heads.kind.classes=[k0,k0]"], "expected 2 or more that differ in words"),
        (["objective.heads.kind.class_weights.k7=1"], "class_weights names 'k7'"),
        (["objective.heads.findings.class_weights.mass=2"], "give balanced or class_weights, not both"),
        (["objective.heads.kind.label=sort"], "objective.heads.kind: no sample has a label of it (label 'sort')"),
        (["model.pool=first"], "model.pool='first' is not a choice"),
        (["trainer.accumulate=3"], "is not a multiple of trainer.accumulate=3"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(words, change, said, capsys):
    code = run_here([*words, "run_name=refused", "trainer.max_steps=1", *change])
    captured = capsys.readouterr()
    assert said in captured.out + captured.err
    assert code == 1
    assert "Traceback" not in captured.err
