"""A step of two ranks that gave no number is computed again by one process."""

import pytest

from medvlp.verbs.models.replay import main as replay
from tests.datasets import pairs, write_split
from tests.distributed.ranks import on_ranks, train_on_ranks
from tests.distributed.spoiled import train_spoiled
from tests.models.tiny import tiny_architecture
from tests.runs import losses, rows, tiny_words


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_process_replays_what_two_ranks_captured(tmp_path, capsys, strategy):
    write_split(tmp_path / "made/train", pairs(24))
    tiny_architecture(tmp_path)
    words = [*tiny_words(tmp_path), "trainer.max_steps=3", f"trainer.strategy={strategy}", "trainer.accumulate=2"]
    words += ["objective.same_text=masked", "model.patch_dropout=0.5"]
    code, said = train_on_ranks([[*words, "run_name=plain"]])
    assert code == 0, said
    samples = rows(tmp_path / "runs/plain/samples.jsonl")[1]["keys"]
    skipping = [*words, "run_name=spoiled", "trainer.non_finite=skip"]
    code, said = on_ranks(train_spoiled, 2, skipping, samples[-1])  # of one rank alone
    assert code == 0, said
    assert [sorted(row["keys"]) for row in rows(tmp_path / "runs/spoiled/skipped_steps.jsonl")] == [sorted(samples)]
    capture = tmp_path / "runs/spoiled/non_finite/step-000002"
    assert sorted(path.name for path in capture.iterdir()) == ["rank-0.pt", "rank-1.pt", "weights.pt"]
    capsys.readouterr()
    assert replay([str(capture)]) == 0
    loss = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("loss: ")).split()[1]
    assert float(loss) == pytest.approx(losses(tmp_path / "runs/plain")[1], rel=1e-5)
