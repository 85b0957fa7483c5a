"""A recipe of several stages: runs one after the other, each from the former's checkpoint."""

import json

import pytest
import torch

from medvlp.config import ConfigError, compose
from medvlp.runs import stages_of
from tests.assistants import assistant_words
from tests.datasets import pairs, write_split
from tests.runs import equal, finish, losses, rows, run_here, start, weights

RECIPE = """# @package _global_
# Two stages
verb: train
defaults:
  - override /model: llava
  - override /objective: instruct
run_name: two
objective: {{feature_cache: {folder}/features}}
optim: {{parts: {{vision: {{freeze: true}}}}}}
trainer: {{max_steps: 4}}
stages:
  align: [objective=bag_of_words, data.global_batch_size=8, objective.min_samples=2, optim.parts.language.freeze=true]
  answer: [trainer.max_steps=3]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    (folder / "recipes").mkdir()
    (folder / "recipes/two.yaml").write_text(RECIPE.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def words(folder):
    given = [
        word for word in assistant_words(folder) if not word.startswith(("objective", "trainer.max_steps", "data.g"))
    ]
    return ["recipes=two", *given, "data.global_batch_size=8"]


@pytest.fixture(scope="module")
def ran(folder, words):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_here(words) == 0
    return folder / "runs"


def test_stages_are_runs_named_after_them(folder, words, monkeypatch):
    monkeypatch.chdir(folder)
    align, answer = stages_of(compose("train", words), words)
    assert [run.run_name for run in (align, answer)] == ["two__align", "two"]
    assert [run.init_from for run in (align, answer)] == ["", f"{folder}/runs/two__align/checkpoints/last.ckpt"]
    assert [run.objective.kind for run in (align, answer)] == ["bag_of_words", "instruct"]
    assert [run.trainer.max_steps for run in (align, answer)] == [4, 3]
    assert [run.stages for run in (align, answer)] == [{}, {}]


def test_what_is_given_holds_for_all_stages(folder, words, monkeypatch):
    monkeypatch.chdir(folder)
    given = [*words, "trainer.max_steps=2"]
    assert [run.trainer.max_steps for run in stages_of(compose("train", given), given)] == [2, 2]


def test_a_stage_starts_from_the_former_ones_weights(ran):
    before, after = weights(ran / "two__align"), weights(ran / "two")
    assert before.keys() == after.keys()
    towers = [name for name in before if "vision_tower" in name]
    assert towers
    assert all(torch.equal(before[name], after[name]) for name in towers)
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"multi_modal_projector", "language_model", "weight"}  # lm_head.weight
    assert len(losses(ran / "two__align")) == 4
    assert len(losses(ran / "two")) == 3
    begun = torch.load(ran / "two/checkpoints/last.ckpt", weights_only=True)["medvlp"]["config"]["init_from"]
    assert begun == str(ran / "two__align/checkpoints/last.ckpt")


def test_what_is_done_is_not_done_again_and_what_is_not_goes_on(folder, words, ran, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert run_here(words) == 1
    assert "two__align exists" in capsys.readouterr().err
    whole = weights(ran / "two")
    for path in (ran / "two/checkpoints").iterdir():
        path.unlink()
    (ran / "two/status.json").write_text(json.dumps({"state": "failed", "step": 0, "reason": ""}))
    assert run_here([*words, "resume=auto", "trainer.checkpoint_every=7", "trainer.log_every=3"]) == 0
    assert "two__align: done before" in capsys.readouterr().out
    assert equal(weights(ran / "two"), whole)
    assert run_here([*words, f"resume={ran}/two/checkpoints/last.ckpt"]) == 1
    assert "has the stages align, answer" in capsys.readouterr().err
    assert run_here([*words, "resume=auto", "trainer.max_steps=6"]) == 1
    said = "two__align was done, and is configured otherwise now (trainer.max_steps 4 → 6), but"
    assert said in capsys.readouterr().err


def test_features_of_other_data_stop_the_run(folder, words, ran, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    other = write_split(folder / "other/train", pairs(16))
    changed = [f"data.sources.made.path={other}" if word.startswith("data.sources") else word for word in words]
    assert run_here([*changed, "run_name=stale"]) == 1
    assert "made with another data" in capsys.readouterr().err


def test_a_stage_that_cannot_start_is_named_before_any_runs(folder, words, monkeypatch):
    monkeypatch.chdir(folder)
    path = folder / "recipes/two.yaml"
    (folder / "recipes/typo.yaml").write_text(path.read_text().replace("answer: [", "answer: [optim.lrr=1, "))
    given = ["recipes=typo", *words[1:]]
    config = compose("train", given)
    with pytest.raises(ConfigError, match=r"unknown key 'optim\.lrr'"):
        stages_of(config, given)


@pytest.mark.slow
def test_two_ranks_go_through_the_stages_as_one_does(folder, words, ran):
    process = start([*words, "run_name=ranks", f"run_root={folder}/ranks"], ranks=2, folder=folder)
    code, output = finish(process)
    assert code == 0, output
    for stage in ("__align", ""):
        one_rank, two_ranks = losses(ran / f"two{stage}"), losses(folder / f"ranks/ranks{stage}")
        assert two_ranks == pytest.approx(one_rank, rel=1e-5)
    assert rows(folder / "ranks/ranks/samples.jsonl") == rows(ran / "two/samples.jsonl")
