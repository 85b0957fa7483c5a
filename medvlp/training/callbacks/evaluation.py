"""Evaluation tasks during training."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning.pytorch as pl
import torch

from medvlp.config.evaluation.metric_names import direction
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
        monitor: `<task>/<metric>` that chooses the best checkpoint; "" watches nothing.
        names: of the tasks.
        forgetting: `<task>/<metric>` that is measured before the first step too; each later row says how much of it is lost.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        interval: int,
        monitor: str,
        logs: Logs,
        checkpoints: Checkpoints,
        names: Sequence[str] = (),
        forgetting: str = "",
    ) -> None:
        self.evaluate, self.interval, self.monitor = evaluate, interval, monitor
        self.logs, self.checkpoints, self.names = logs, checkpoints, set(names)
        self.forgetting = forgetting
        self.start_value: float | None = None
        self.done_at = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        # A run that died between a checkpoint and its evaluation makes up for it; so does one that has other tasks now.
        rows = read_rows(self.logs.metrics.path) if trainer.is_global_zero else iter(())
        evaluated_tasks = {
            row.get("task") for row in rows if (row.get("step"), row.get("split")) == (trainer.global_step, "valid")
        }
        self.begin_forgetting(trainer)
        if any(Ranks().gather(bool(evaluated_tasks) and self.names <= evaluated_tasks)):
            self.done_at = trainer.global_step
        self._run_if_due(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._run_if_due(trainer, pl_module)

    def _run_if_due(self, trainer: pl.Trainer, pl_module: Any) -> None:
        step = trainer.global_step
        due = (
            (not step and self.forgetting)
            or (self.interval and step and step % self.interval == 0)
            or step == pl_module.total_steps
        )
        if due and step != self.done_at:
            self.checkpoints.save(trainer)  # first of all: an evaluator's failure must not cost the run
            self.done_at = step
            self._run(trainer, pl_module, step)

    def _run(self, trainer: pl.Trainer, pl_module: Any, step: int) -> None:
        pl_module.eval()
        tasks: dict[str, dict[str, Any]] = {}
        # Its step is saved, so a signal need not wait for its end.
        with torch.no_grad(), interruption.raising(), pl_module.as_evaluated():
            for task, metric, value in self.evaluate():
                tasks.setdefault(task, {"step": step, "split": "valid", "task": task})[metric] = value
        pl_module.train()
        if self.forgetting:
            self.compare_with_start(tasks, step)
        self.logs.evaluated(trainer, list(tasks.values()))
        if self.monitor and step:
            self.checkpoints.offer(trainer, value_of(tasks, self.monitor, "monitor"))

    def begin_forgetting(self, trainer: pl.Trainer) -> None:
        """The value before the first step, of a run that goes on."""
        task, _, metric = self.forgetting.partition("/")
        values = [
            row[metric]
            for row in (read_rows(self.logs.metrics.path) if trainer.is_global_zero and self.forgetting else ())
            if row.get("task") == task and row.get("step") == 0 and metric in row
        ]
        self.start_value = Ranks().gather(values[0] if values else None)[0]

    def compare_with_start(self, tasks: dict[str, dict[str, Any]], step: int) -> None:
        """Say in the task's row how much of the value before the first step is lost; a negative number is a gain."""
        value = value_of(tasks, self.forgetting, "forgetting")
        if step == 0:
            self.start_value = value
        if self.start_value is not None:  # it is not known of a run that began without being asked
            task, _, metric = self.forgetting.partition("/")
            tasks[task]["forgotten"] = direction(metric) * (self.start_value - value)


def value_of(tasks: dict[str, dict[str, Any]], name: str, key: str) -> float:
    """`<task>/<metric>` of the rows of tasks. Raises UnknownMetric."""
    task, _, metric = name.partition("/")
    if metric not in tasks.get(task, {}):
        metrics = sorted(set(tasks.get(task, {})) - {"step", "split", "task"})
        raise UnknownMetric(f"trainer.{key}={name}: {task} gave {', '.join(metrics)}")
    return float(tasks[task][metric])
