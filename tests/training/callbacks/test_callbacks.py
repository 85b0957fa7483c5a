"""What callbacks bring back of an earlier run, without a run."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from medvlp.jsonl import Appender, read_rows
from medvlp.training.callbacks.bad_samples import BadSamples, TooManyBadSamples
from medvlp.training.callbacks.evaluation import Evaluation
from medvlp.training.callbacks.logs import SourceTotals

TRAINER = SimpleNamespace(is_global_zero=True, global_step=4)
BAD = {"source": "a", "shard": "000000.tar", "reason": "broken_json", "detail": "", "epoch": 0, "position": 1}


def test_what_was_bad_before_counts_against_what_is_allowed_now(tmp_path):
    for key in ("k1", "k2"):
        Appender(tmp_path / "bad_samples.jsonl").append({**BAD, "key": key, "step": 1})
    callback = BadSamples(tmp_path, interval=1, allowed=2, total=10)
    callback.on_train_start(TRAINER, None)
    callback.check()
    stricter = BadSamples(tmp_path, interval=1, allowed=1, total=10)
    stricter.on_train_start(TRAINER, None)
    with pytest.raises(
        TooManyBadSamples, match=r"2 of 10 samples are bad, more than .* allows \(1\)\. The last: sample k2"
    ):
        stricter.check()


@pytest.mark.parametrize(
    ("names", "evaluated"), [([], 0), (["one"], 0), (["one", "other"], 1), (["other"], 1)], ids=str
)
def test_a_resumed_step_is_evaluated_where_a_task_of_now_was_not(tmp_path, names, evaluated):
    Appender(tmp_path / "metrics.jsonl").append(
        {"step": 3, "split": "valid", "task": "other"},
        {"step": 4, "split": "train", "loss": 1.0},
        {"step": 4, "split": "valid", "task": "one"},
    )
    logs = SimpleNamespace(metrics=Appender(tmp_path / "metrics.jsonl"), evaluated=lambda *rows: None)
    asked = []
    module = SimpleNamespace(total_steps=9, eval=lambda: None, train=lambda: asked.append(1), as_evaluated=nullcontext)
    checkpoints = SimpleNamespace(save=lambda trainer: None)
    callback = Evaluation(lambda: [], 2, "", logs, checkpoints, names)
    callback.on_train_start(TRAINER, module)
    assert len(asked) == evaluated


def test_what_is_forgotten_is_told_from_the_first_step_and_after_a_resume(tmp_path):
    metrics, values = Appender(tmp_path / "metrics.jsonl"), iter([0.75, 0.5, 0.25])
    logs = SimpleNamespace(metrics=metrics, evaluated=lambda trainer, rows: metrics.append(*rows))
    module = SimpleNamespace(total_steps=9, eval=lambda: None, train=lambda: None, as_evaluated=nullcontext)
    checkpoints = SimpleNamespace(save=lambda trainer: None)

    def started(step):
        trainer = SimpleNamespace(is_global_zero=True, global_step=step)
        callback = Evaluation(
            lambda: [("general", "acc1", next(values))], 2, "", logs, checkpoints, ["general"], "general/acc1"
        )
        callback.on_train_start(trainer, module)
        return callback, trainer

    callback, trainer = started(0)
    trainer.global_step = 2
    callback.on_train_batch_end(trainer, module, None, None, 0)
    started(4)
    rows = [(row["step"], row["acc1"], row["forgotten"]) for row in read_rows(metrics.path)]
    assert rows == [(0, 0.75, 0.0), (2, 0.5, 0.25), (4, 0.25, 0.5)]


def test_the_mean_loss_of_each_source_is_by_sample_over_ranks():
    totals, names = SourceTotals(), ["a", "b", "c"]
    totals.add([0, 1, 0], torch.tensor([1.0, 8.0, 2.0]))
    totals.add([0], torch.tensor([6.0]))
    ranks = SimpleNamespace(gather=lambda value: [value, [[1, 0, 0], [5.0, 0.0, 0.0]]])
    assert totals.take(ranks, names) == {
        "samples/a": 4,
        "loss/a": (1.0 + 2.0 + 6.0 + 5.0) / 4,
        "samples/b": 1,
        "loss/b": 8.0,
        "samples/c": 0,
    }
    totals.add([1], None)
    assert totals.take(SimpleNamespace(gather=lambda value: [value]), names) == {
        "samples/a": 0,
        "samples/b": 1,
        "samples/c": 0,
    }
    totals.add([0], torch.tensor([1.0]))
    assert totals.take(None, ["a"]) == {}  # the row's own loss is its
