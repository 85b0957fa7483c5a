"""An objective that shares nothing with CLIP trains, dies and resumes through the same service."""

import ast
import re
import signal
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.datasets import write_split
from tests.distributed.ranks import Fork
from tests.runs import equal, finish, losses, rows, run_here, wait_for_step, weights
from tests.toy_language_model import conversations, register_toy, train_toy


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    register_toy()
    folder = tmp_path_factory.mktemp("toy")
    write_split(folder / "toy/train", conversations(30))
    made = [
        "model=toy_schema",
        "objective=toy_causal_schema",
        f"data.sources.toy.path={folder}/toy/train",
        "data.global_batch_size=8",
        "data.workers=0",
        "data.log_samples=true",
        f"run_root={folder}/runs",
        "trainer.accumulate=2",
        "trainer.max_steps=14",
        "trainer.log_every=1",
        "trainer.checkpoint_every=4",
        "trainer.accelerator=cpu",
    ]
    assert run_here([*made, "run_name=whole"]) == 0
    return made


def runs(words: list[str]) -> Path:
    return Path(next(word for word in words if word.startswith("run_root=")).split("=")[1])


def test_it_learns(words):
    whole = losses(runs(words) / "whole")
    assert len(whole) == 14
    assert whole[0] == pytest.approx(5.55, abs=0.3)  # ln 257, before anything is learned
    assert whole[-1] < whole[0]
    assert [len(row["keys"]) for row in rows(runs(words) / "whole/samples.jsonl")] == [8] * 14


def test_it_dies_and_goes_on_bit_for_bit(words):
    run, whole = runs(words) / "killed", runs(words) / "whole"
    fork = Fork(train_toy, ([*words, "run_name=killed"],), {}, REPOSITORY)
    wait_for_step(fork, run, 6)
    fork.kill()
    assert finish(fork)[0] == -signal.SIGKILL
    assert not (run / "checkpoints/step-000014.ckpt").exists()
    assert run_here([*words, "run_name=killed", "resume=auto"]) == 0
    assert rows(run / "samples.jsonl") == rows(whole / "samples.jsonl")
    assert losses(run) == losses(whole)
    assert equal(weights(run), weights(whole))


def test_tasks_that_need_embeddings_are_refused(words, capsys):
    assert run_here([*words, "run_name=asked", "tasks=[rocov2_retrieval]"]) == 1
    assert "needs embeddings, which objective=toy_causal does not give" in capsys.readouterr().err


def test_shared_code_does_not_ask_which_objective_it_serves():
    """`build` maps names to constructors and `config` checks each kind's own rules; nobody else names a kind."""
    shared = [
        REPOSITORY / "medvlp/train.py",
        REPOSITORY / "medvlp/components.py",
        *(REPOSITORY / "medvlp/data").rglob("*.py"),
    ]
    shared += [p for p in (REPOSITORY / "medvlp/training").rglob("*.py") if p.name != "contrastive.py"]
    for path in shared:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.If | ast.IfExp | ast.Match):
                condition = ast.unparse(node.subject if isinstance(node, ast.Match) else node.test)
                assert not re.search(r"objective|model\.kind|Contrastive|Clip|isinstance\(.*module", condition), (
                    f"{path}: {condition}"
                )
