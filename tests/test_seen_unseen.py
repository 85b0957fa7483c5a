"""Combinations held out of training, from the command that trains to the scores on what was seen and what was not."""

import pytest
import torch

from medvlp.evaluate import main as evaluate
from tests.assistants import tiny_clip_checkpoint
from tests.datasets import pairs, write_split
from tests.runs import rows, run_here, tiny_words

TASKS = {
    "made_kind": "kind: zero_shot\nlabel: kind\ntemplates: ['a finding of {{}}']\n"
    "classes: {{k0: [kind 0], k1: [kind 1], k2: [kind 2], k3: [kind 3]}}\n",
    "made_retrieval": "kind: retrieval\n",
}
HELD_OUT = "data.sources.made.exclude=[{kind:[k1,k2]},{kind:k3,group:a0003}]"
CHECKPOINT = "runs/held_out/checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run without kinds 1 and 2 and without one image of kind 3, and tasks."""
    folder = tmp_path_factory.mktemp("seen")
    tiny_clip_checkpoint(folder)
    for split, number in (("train", 24), ("test", 16)):
        write_split(folder / "made" / split, pairs(number))
    (folder / "configs/task").mkdir(parents=True)
    for name, text in TASKS.items():
        (folder / f"configs/task/{name}.yaml").write_text(f"name: {name}\ndata: {folder}/made\n" + text.format())
    words = [*tiny_words(folder), "data.global_batch_size=5", "trainer.max_steps=4", HELD_OUT, "run_name=held_out"]
    assert run_here(words) == 0
    return folder, words


@pytest.fixture
def folder(world, monkeypatch):
    monkeypatch.chdir(world[0])
    return world[0]


def test_nothing_that_is_held_out_is_trained_on_and_the_card_says_so(folder):
    keys = {key for row in rows(folder / "runs/held_out/samples.jsonl") for key in row["keys"]}
    assert keys == {sample.key for sample in pairs(24) if sample.labels["kind"] in ("k0", "k3")} - {
        "made__a0003__f1__0"
    }
    card = torch.load(folder / CHECKPOINT, weights_only=True)["medvlp"]
    assert card["held_out"] == {"made": {"exclude": [{"kind": ["k1", "k2"]}, {"kind": ["k3"], "group": ["a0003"]}]}}
    plain = torch.load(next(folder.glob("runs/clip/checkpoints/last.ckpt")), weights_only=True)["medvlp"]
    assert "held_out" not in plain


def test_a_resume_holds_out_the_same(world, folder, capsys):
    _, words = world
    longer = [*words, "resume=auto", "trainer.max_steps=6"]
    assert run_here([word.replace("k3,", "k0,").replace("a0003", "a0000") for word in longer]) == 1
    assert "data.sources differ from that run's" in capsys.readouterr().err
    assert run_here([*words[:-1], "run_name=slip", "data.sources.made.exclude=[{kind:k4}]"]) == 1
    said = capsys.readouterr().err
    assert "data.sources.made.exclude: no sample of" in said
    assert "is of kind=k4; did you mean 'kind=k" in said
    assert run_here([*words[:-2], "data.sources.made.exclude=[{}]", "run_name=slip"]) == 1
    assert "data.sources.made.exclude: an empty combination is of everything" in capsys.readouterr().err


def test_every_score_is_given_on_what_was_seen_and_on_what_was_not(folder, capsys):
    words = [
        f"checkpoints=[{CHECKPOINT},runs/clip/checkpoints/last.ckpt]",
        "tasks=[made_kind,made_retrieval]",
        "output=out",
    ]
    assert evaluate([*words, "resamples=30", "batch_size=8", "workers=0", "by=[seen,held_out]"]) == 0
    said = capsys.readouterr().out
    results = rows(folder / "out/results.jsonl")
    of_run = {(row["task"], row["metric"]): row for row in results if row["checkpoint"] == CHECKPOINT}
    records = rows(folder / "out" / of_run["made_kind", "acc1"]["protocol"]["records"])
    is_unseen = {
        record["id"]: record["target"] in ("k1", "k2") or record["id"] == "made__a0003__f1__0" for record in records
    }
    assert {record["id"]: record["seen"] == "unseen" for record in records} == is_unseen
    assert sum(is_unseen.values()) == 9
    for ending, members in (
        ("_seen", [r for r in records if not is_unseen[r["id"]]]),
        ("_unseen", [r for r in records if is_unseen[r["id"]]]),
    ):
        row = of_run["made_kind", f"acc1{ending}"]
        assert row["n"] == len(members)
        assert row["value"] == pytest.approx(sum(r["prediction"] == r["target"] for r in members) / len(members))
    assert ("made_retrieval", "image_to_text_recall@1_unseen") in of_run
    assert of_run["made_kind", "acc1"]["protocol"]["held_out"] == {
        "items": 16,
        "unseen": 9,
        "combinations": {"kind=k1|k2": 8, "kind=k3, group=a0003": 1},
        "notes": [],
    }
    assert "9 of 16 items are unseen: held out of training was kind=k1|k2 (8), kind=k3, group=a0003 (1)" in said
    assert not any(row["metric"].endswith("seen") for row in results if row["checkpoint"] != CHECKPOINT)
    groups = {
        (row["by"], row["group"]): row["n"]
        for row in rows(folder / "out/subgroups.jsonl")
        if row["metric"] == "acc1" and row["checkpoint"] == CHECKPOINT
    }
    assert groups["seen", "unseen"] == 9
    assert groups["seen", "seen"] == 7
    assert groups["held_out", "kind=k1|k2"] == 8
    assert "image_to_text_recall@10_unseen" in (folder / "out/report.html").read_text()


def test_items_of_the_held_out_samples_are_not_in_train(folder):
    """The split itself: what was trained on is known, and what was held out is not called trained on."""
    words = [
        f"checkpoints=[{CHECKPOINT}]",
        "tasks=[made_kind]",
        "split=train",
        "output=train",
        "resamples=0",
        "workers=0",
    ]
    assert evaluate(words) == 0
    row = rows(folder / "train/results.jsonl")[0]
    records = rows(folder / "train" / row["protocol"]["records"])
    trained = {sample.key for sample in pairs(24) if sample.labels["kind"] in ("k0", "k3")} - {"made__a0003__f1__0"}
    assert {record["id"] for record in records if record.get("in_train") == "bytes"} == trained
    assert {record["id"] for record in records if record["seen"] == "seen"} == trained


def test_without_a_hold_out_there_is_nothing_to_group_by(folder, capsys):
    words = ["checkpoints=[runs/clip/checkpoints/last.ckpt]", "tasks=[made_kind]", "by=[seen]", "output=no"]
    assert evaluate(words) == 1
    assert "by=seen: of none of the models anything is known to be held out of training" in capsys.readouterr().err
