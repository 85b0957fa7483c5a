"""Two ranks train on what one does where combinations are held out."""

import pytest
import torch

from tests.assistants import tiny_clip_checkpoint
from tests.datasets import pairs, write_split
from tests.distributed.ranks import train_on_ranks
from tests.runs import losses, rows, run_here, tiny_words, weights


@pytest.mark.slow
def test_two_ranks_hold_out_what_one_does(tmp_path):
    tiny_clip_checkpoint(tmp_path)
    write_split(tmp_path / "made/train", pairs(40))
    words = [
        *tiny_words(tmp_path),
        "data.sources.made.exclude=[{kind:k1},{kind:k2,group:[a0002,a0006]}]",
        "data.global_batch_size=8",
        "trainer.precision=64-true",
        "trainer.max_steps=8",
    ]
    assert run_here([*words, "run_name=one"]) == 0
    code, output = train_on_ranks([[*words, "run_name=two"]])
    assert code == 0, output
    single, double = tmp_path / "runs/one", tmp_path / "runs/two"
    held_out = {s.key for s in pairs(40) if s.labels["kind"] == "k1" or s.metadata["group"] in ("a0002", "a0006")}
    assert rows(single / "samples.jsonl") == rows(double / "samples.jsonl")
    assert held_out.isdisjoint(key for row in rows(double / "samples.jsonl") for key in row["keys"])
    assert losses(double) == pytest.approx(losses(single), rel=1e-9)
    for name, value in weights(single).items():
        assert torch.allclose(value, weights(double)[name], rtol=1e-9, atol=1e-12), name
