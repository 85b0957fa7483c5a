"""Evaluation tasks during training."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning.pytorch as pl
import torch

from medvlp.errors import UserError
from medvlp.jsonl import read_rows
from medvlp.process import interruption
from medvlp.training.callbacks.checkpoints import Checkpoints
from medvlp.training.callbacks.logs import Logs
from medvlp.training.ranks import Ranks

Evaluate = Callable[[], Iterable[tuple[str, str, float]]]
"""Runs the tasks on every rank and yields (task, metric, value)."""


class UnknownMetric(UserError):
    """`trainer.monitor` names a metric that its task does not give."""


class Evaluation(pl.Callback):
    """Runs injected evaluators every few steps and at the end; tells `Checkpoints` the monitored value.

    Args:
        evaluate: runs every task, on all ranks.
        interval: steps between two runs; 0 leaves only the end.
        monitor: `<task>/<metric>`, higher is better; "" watches nothing.
        names: of the tasks.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        interval: int,
        monitor: str,
        logs: Logs,
        checkpoints: Checkpoints,
        names: Sequence[str] = (),
    ) -> None:
        self.evaluate, self.interval, self.monitor = evaluate, interval, monitor
        self.logs, self.checkpoints, self.names = logs, checkpoints, set(names)
        self.done_at = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        # A run that died between a checkpoint and its evaluation makes up for it; so does one that has other tasks now.
        rows = read_rows(self.logs.metrics.path) if trainer.is_global_zero else iter(())
        evaluated_tasks = {
            row.get("task") for row in rows if (row.get("step"), row.get("split")) == (trainer.global_step, "valid")
        }
        if any(Ranks().gather(bool(evaluated_tasks) and self.names <= evaluated_tasks)):
            self.done_at = trainer.global_step
        self._run_if_due(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._run_if_due(trainer, pl_module)

    def _run_if_due(self, trainer: pl.Trainer, pl_module: Any) -> None:
        step = trainer.global_step
        due = (self.interval and step and step % self.interval == 0) or step == pl_module.total_steps
        if due and step != self.done_at:
            self.checkpoints.save(trainer)  # first of all: an evaluator's failure must not cost the run
            self.done_at = step
            self._run(trainer, pl_module, step)

    def _run(self, trainer: pl.Trainer, pl_module: Any, step: int) -> None:
        pl_module.eval()
        tasks: dict[str, dict[str, Any]] = {}
        # Its step is saved, so a signal need not wait for its end.
        with torch.no_grad(), interruption.raising(), pl_module.averaged():
            for task, metric, value in self.evaluate():
                tasks.setdefault(task, {"step": step, "split": "valid", "task": task})[metric] = value
        pl_module.train()
        self.logs.evaluated(trainer, list(tasks.values()))
        if self.monitor:
            task, _, metric = self.monitor.partition("/")
            if metric not in tasks.get(task, {}):
                metrics = sorted(set(tasks.get(task, {})) - {"step", "split", "task"})
                raise UnknownMetric(f"trainer.monitor={self.monitor}: {task} gave {', '.join(metrics)}")
            self.checkpoints.offer(trainer, tasks[task][metric])
