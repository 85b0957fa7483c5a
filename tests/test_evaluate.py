"""Two checkpoints, two tasks, one call; and the export that open_clip opens."""

import json

import open_clip
import pytest
import torch

import medvlp
from medvlp import cli
from medvlp.evaluate import main as evaluate
from medvlp.verbs.models.export import main as export
from tests.datasets import pairs, write_split
from tests.distributed.ranks import train_on_ranks
from tests.models.tiny import tiny_architecture
from tests.runs import rows, run_here, tiny_words

TASKS = {
    "made_kind": "kind: zero_shot\nlabel: kind\ntemplates: ['a finding of {}']\n"
    "classes: {k0: [kind 0], k1: [kind 1], k2: [kind 2], k3: [kind 3]}\n",
    "made_retrieval": "kind: retrieval\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("evaluate")
    for split in ("train", "valid", "test"):
        write_split(made / "made" / split, pairs(44))
    tiny_architecture(made)
    (made / "configs/task").mkdir(parents=True)
    for name, text in TASKS.items():
        (made / f"configs/task/{name}.yaml").write_text(f"name: {name}\ndata: {made}/made\n{text}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        words = [
            *tiny_words(made),
            "tasks=[made_retrieval,made_kind]",
            "trainer.monitor=made_retrieval/image_to_text_recall@10",
        ]
        assert run_here([*words, "run_name=a", "trainer.eval_every=4", "trainer.max_steps=10"]) == 0
        assert run_here([*words, "run_name=b", "seed=1", "trainer.max_steps=1"]) == 0
    return made


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_tasks_run_during_training_and_choose_the_best_checkpoint(folder):
    rows_of_valid = [row for row in rows(folder / "runs/a/metrics.jsonl") if row["split"] == "valid"]
    assert [(row["step"], row["task"]) for row in rows_of_valid] == [
        (step, task) for step in (4, 8, 10) for task in ("made_retrieval", "made_kind")
    ]
    values = {row["step"]: row["image_to_text_recall@10"] for row in rows_of_valid if row["task"] == "made_retrieval"}
    best = max(values, key=lambda step: (values[step], -step))
    checkpoint = torch.load(folder / "runs/a/checkpoints/best.ckpt", weights_only=True)
    assert checkpoint["global_step"] == best


def test_two_ranks_evaluate_as_one_during_training(folder):
    words = [*tiny_words(folder), "tasks=[made_retrieval,made_kind]", "trainer.eval_every=2", "trainer.max_steps=3"]
    words += ["trainer.forgetting=made_kind/acc1"]  # measured before the first step, too: of the very same weights
    assert run_here([*words, "run_name=one"]) == 0
    code, output = train_on_ranks([[*words, "run_name=two"]], folder=folder)
    assert code == 0, output
    of_one, of_two = (
        [row for row in rows(folder / f"runs/{run}/metrics.jsonl") if row["split"] == "valid"] for run in ("one", "two")
    )
    assert [row["step"] for row in of_one] == [0, 0, 2, 2, 3, 3]
    assert json.dumps(of_two[:2]) == json.dumps(of_one[:2])
    for row_of_one, row_of_two in zip(of_one, of_two, strict=True):
        assert row_of_two == pytest.approx(row_of_one, abs=0.05)  # rounding may turn a near tie


def test_a_metric_that_does_not_exist_costs_a_message_and_not_the_run(folder, capsys):
    words = [
        *tiny_words(folder),
        "tasks=[made_kind]",
        "trainer.max_steps=3",
        "run_name=monitor",
        "trainer.checkpoint_every=100",
    ]
    assert run_here([*words, "trainer.monitor=made_kind/recall"]) == 1
    assert "made_kind gave acc1, auroc, mean_per_class_recall" in capsys.readouterr().err
    assert (folder / "runs/monitor/checkpoints/step-000003.ckpt").exists()
    assert run_here([*words, "resume=auto", "trainer.monitor=made_kind/acc1"]) == 0
    assert [row["step"] for row in rows(folder / "runs/monitor/metrics.jsonl") if row["split"] == "valid"] == [3]


def test_a_model_that_was_trained_on_the_very_split_is_marked_in_the_table(folder, capsys):
    words = ["checkpoints=[runs/a/checkpoints/last.ckpt]", "tasks=[made_kind]", "split=train", "output=known"]
    assert evaluate([*words, "resamples=50"]) == 0
    out = capsys.readouterr().out
    assert "‡ all of the items, or their images, were in the model's training data" in out.splitlines()
    assert all("]‡" in line for line in out.splitlines() if "acc1 " in line and "│" in line)
    in_train = rows(folder / "known/results.jsonl")[0]["protocol"]["in_train"]
    assert in_train["same_bytes"] == in_train["samples"]


def test_every_checkpoint_is_scored_on_every_task(folder, capsys):
    paths = [f"runs/{run}/checkpoints/last.ckpt" for run in "ab"]
    words = [f"checkpoints=[{','.join(paths)}]", "tasks=[made_kind,made_retrieval]", "output=out", "resamples=200"]
    assert evaluate(words) == 0
    results = rows(folder / "out/results.jsonl")
    metrics = {(row["checkpoint"], row["task"]): [] for row in results}
    for row in results:
        metrics[row["checkpoint"], row["task"]].append(row["metric"])
    assert list(metrics) == [(path, task) for path in paths for task in ("made_kind", "made_retrieval")]
    assert metrics[paths[0], "made_kind"][:3] == ["acc1", "mean_per_class_recall", "auroc"]
    assert "text_to_image_recall@10" in metrics[paths[1], "made_retrieval"]
    for row in results:
        assert set(row) == {"checkpoint", "task", "metric", "value", "ci_low", "ci_high", "n", "protocol"}
        if row["metric"] not in ("ece", "brier", "aurc"):  # errors: Brier's goes to 2, that of calibration is biased
            assert 0 <= row["ci_low"] <= row["value"] <= row["ci_high"] <= 1
        records = rows(folder / "out" / row["protocol"]["records"])
        assert {"id", "group", "prediction", "target", "score"} <= set(records[0])
    accuracy = next(row for row in results if row["metric"] == "acc1")
    records = rows(folder / "out" / accuracy["protocol"]["records"])
    assert accuracy["value"] == pytest.approx(sum(r["prediction"] == r["target"] for r in records) / len(records))
    assert (folder / "out/report.html").exists()
    comparisons = rows(folder / "out/comparisons.jsonl")
    assert [(row["task"], row["metric"]) for row in comparisons] == [
        ("made_kind", "acc1"), ("made_kind", "auroc"),
        ("made_retrieval", "image_to_text_recall@10"), ("made_retrieval", "text_to_image_recall@10"),
    ]  # fmt: skip
    capsys.readouterr()
    assert cli.main(["compare", "out", "resamples=200", "format=json"]) == 0  # without models, the same
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == comparisons
    again = json.dumps(results)
    assert evaluate(words) == 0
    assert json.dumps(rows(folder / "out/results.jsonl")) == again


def test_evaluation_gives_what_training_reported(folder):
    assert (
        evaluate(["checkpoints=[runs/a/checkpoints/last.ckpt]", "tasks=[made_retrieval]", "split=valid", "output=v"])
        == 0
    )
    final = [r for r in rows(folder / "runs/a/metrics.jsonl") if r.get("task") == "made_retrieval"][-1]
    for row in rows(folder / "v/results.jsonl"):
        assert row["value"] == final[row["metric"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["checkpoints=[absent.ckpt]", "tasks=[made_kind]"], "absent.ckpt: no such file"),
        (["checkpoints=[runs/a/config.yaml]", "tasks=[made_kind]"], "cannot be read"),
        (["checkpoints=[runs/a/checkpoints/last.ckpt]", "tasks=[made_kin]"], "did you mean 'made_kind'?"),
        (["checkpoints=[runs/a/checkpoints/last.ckpt]", "tasks=[made_kind]", "split=other"], "medvlp prep"),
        (["checkpoints=[runs/a/checkpoints/last.ckpt]"], "tasks is not set"),
        (["tasks=[made_kind]", "checkpoint=x"], "did you mean 'checkpoints'?"),
    ],
)
def test_mistakes_are_named(words, said, capsys):
    assert evaluate(words) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_an_exported_folder_opens_in_open_clip_with_the_same_embeddings(folder, capsys):
    assert export(["checkpoint=runs/a/checkpoints/last.ckpt", "output=exported"]) == 0
    assert "largest difference" in capsys.readouterr().out
    ours, _, tokenizer = medvlp.load("runs/a/checkpoints/last.ckpt")
    theirs, _, transform = open_clip.create_model_and_transforms("local-dir:exported")
    pixels, tokens = torch.randn(2, 3, 32, 32), tokenizer(["one", "another"])
    with torch.no_grad():
        assert torch.allclose(ours.encode_image(pixels), theirs.eval().encode_image(pixels), atol=1e-6)
        assert torch.allclose(ours.encode_text(tokens), theirs.encode_text(tokens), atol=1e-6)
    assert "Research use only" in (folder / "exported/README.md").read_text()
    assert export(["checkpoint=runs/a/checkpoints/last.ckpt", "output=exported"]) == 1
    assert "exists; name a new folder" in capsys.readouterr().err
    assert transform.transforms[0].size == 32
