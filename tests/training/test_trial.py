"""The longest batch is tried before the first step: refused by name where it fails, without a trace where it does not."""

import numpy as np
import pytest
import torch

from medvlp.data.chat.pack_plan import PackPlan
from medvlp.data.order import Order, OrderedSource
from tests.datasets import pairs, write_split
from tests.models.tiny import tiny_architecture
from tests.runs import equal, losses, run_here, tiny_words, weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("trial")
    write_split(made / "made/train", pairs(24))
    tiny_architecture(made)
    return made


def test_a_library_that_fails_on_the_longest_batch_is_told_by_name_and_leaves_no_folder(folder, monkeypatch, capsys):
    """Short texts go through; the whole context does not, as with positions that are too few."""
    from medvlp.models.clip import text_lengths

    encode = text_lengths.encode_trimmed

    def fails_when_long(model, tokens_BL):
        if len(tokens_BL) > 1 and (tokens_BL != 0).sum(dim=1).max() > 20:
            torch.nn.functional.embedding(torch.tensor([9]), torch.zeros(3, 2))
        return encode(model, tokens_BL)

    monkeypatch.setattr(text_lengths, "encode_trimmed", fails_when_long)
    assert run_here([*tiny_words(folder), "run_name=long"]) == 1
    error = capsys.readouterr().err
    assert (
        f"model.kind=clip ({folder}/tiny-clip.json): the longest batch (8 samples), tried before the first step, fails"
        in error
    )
    assert "Traceback" not in error
    assert not (folder / "runs/long").exists()


def test_memory_that_does_not_suffice_is_told_with_what_to_set(folder, monkeypatch, capsys):
    def fails(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("medvlp.training.objectives.contrastive.Contrastive.loss", fails)
    assert run_here([*tiny_words(folder), "run_name=memory"]) == 1
    assert "does not fit into the memory of cpu. Set data.global_batch_size lower" in capsys.readouterr().err


def test_a_fault_of_ours_stays_one(folder, monkeypatch, capsys):
    def fails(self, batch):
        return [][1]

    monkeypatch.setattr("medvlp.training.objectives.contrastive.Contrastive.loss", fails)
    assert run_here([*tiny_words(folder), "run_name=fault"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_the_trial_leaves_no_trace(folder, monkeypatch):
    """Weights and losses are those of a run without it, batch statistics and dropout included."""
    words = [*tiny_words(folder), "trainer.max_steps=3"]
    assert run_here([*words, "run_name=tried"]) == 0
    tried: list[int] = []
    monkeypatch.setattr("medvlp.training.fit.try_longest", lambda *_: tried.append(1))
    assert run_here([*words, "run_name=untried"]) == 0
    assert tried == [1]
    assert losses(folder / "runs/tried") == losses(folder / "runs/untried")
    assert equal(weights(folder / "runs/tried"), weights(folder / "runs/untried"))


@pytest.mark.parametrize(("packed", "step"), [(True, 1), (False, 2)])
def test_the_longest_step_has_the_most_tokens_or_the_longest_sequence(packed, step, monkeypatch):
    lengths = np.array([1, 2, 5, 5, 9, 0, 1, 1])
    plan = PackPlan.__new__(PackPlan)
    plan.order = Order([OrderedSource("a", 8, 1.0, "x")], 0)
    plan.lengths, plan.packed = lengths, packed
    monkeypatch.setattr(PackPlan, "epoch", lambda self, number: np.arange(8))
    assert plan.longest_step(2) == step
