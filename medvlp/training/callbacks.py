"""What happens around a step, for every objective: rows, bad samples, evaluation, signals, progress."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch.nn.utils import get_total_norm
from tqdm import tqdm

from medvlp.errors import UserError
from medvlp.jsonl import Appender, read_rows
from medvlp.process import interruption
from medvlp.training.keeping import Checkpoints, Diverged
from medvlp.training.ranks import Ranks
from medvlp.training.run_folder import LOGS, Status, drop_rows_after

Evaluate = Callable[[], Iterable[tuple[str, str, float]]]
"""Runs the tasks on every rank and yields (task, metric, value)."""


class TooManyBadSamples(UserError):
    """More of the data is unreadable than the configuration allows."""


class Logs(pl.Callback):
    """metrics.jsonl (and Lightning's loggers) every few steps, samples.jsonl every step where asked, status.json.

    Args:
        folder: the run's folder.
        every: steps between two rows of metrics.
        log_samples: keep the keys of every step.
        status: follows the run.
    """

    def __init__(self, folder: Path, every: int, log_samples: bool, status: Status) -> None:
        self.folder, self.every, self.log_samples, self.status = folder, every, log_samples, status
        self.metrics, self.samples = Appender(folder / LOGS[0]), Appender(folder / LOGS[1])
        self.row: dict[str, Any] = {}
        self.grad_norm = self.lr = 0.0
        self.keys: list[tuple[int, str]] = []
        self.losses: list[torch.Tensor] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.ranks = Ranks()
        if trainer.is_global_zero:
            drop_rows_after(self.folder, trainer.global_step)
        self.status.running(trainer.global_step, write=trainer.is_global_zero)
        self.step, self.waited, self.units = trainer.global_step, 0.0, 0
        self.since = self.idle_since = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.waited += time.perf_counter() - self.idle_since

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        self.lr = max(
            group["lr"] for group in optimizer.param_groups
        )  # before the scheduler moves on to the next step's
        if (trainer.global_step + 1) % self.every == 0 or trainer.global_step + 1 == pl_module.total_steps:
            grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            self.grad_norm = float(get_total_norm(grads))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.units += pl_module.units(batch)
        self.losses.append(outputs["loss"].detach())
        if self.log_samples:
            placed = list(zip(batch.positions, batch.keys, strict=True))
            self.keys += [pair for pairs in self.ranks.gather(placed) for pair in pairs]
        if trainer.global_step > self.step:
            self.step = trainer.global_step
            if self.log_samples and trainer.is_global_zero:
                self.samples.append({"step": self.step, "keys": [key for _, key in sorted(self.keys)]})
            # Automatic optimisation hands back the loss divided by the number of accumulated batches.
            loss, self.losses, self.keys = torch.stack(self.losses).sum(), [], []
            if self.step % self.every == 0 or self.step == pl_module.total_steps:
                self._write(trainer, pl_module, float(loss), outputs["values"])
        self.idle_since = time.perf_counter()

    def _write(self, trainer: pl.Trainer, pl_module: Any, loss: float, values: dict[str, Any]) -> None:
        now = time.perf_counter()
        seconds = now - self.since
        self.row = {
            "step": self.step,
            "split": "train",
            "loss": self.ranks.mean(loss),
            "epoch": round(self.step / trainer.datamodule.steps_per_epoch, 4),  # type: ignore[attr-defined]
            "lr": self.lr,
            "grad_norm": self.grad_norm,
            "pairs_per_second": round(self.units * self.ranks.size / seconds, 2),
            "data_wait": round(self.waited / seconds, 4),
            **{name: float(value) for name, value in values.items()},
        }
        self.units, self.waited, self.since = 0, 0.0, now
        self.status.running(self.step, write=trainer.is_global_zero)
        if not math.isfinite(self.row["loss"]):
            raise Diverged(
                f"the loss is {self.row['loss']} at step {self.step}; the checkpoints before it are in "
                f"{self.folder / 'checkpoints'}. Lower optim.lr, or set optim.clip_norm"
            )
        if trainer.is_global_zero:
            self.metrics.append(self.row)
            self._to_loggers(trainer, self.row)

    def evaluated(self, trainer: pl.Trainer, rows: list[dict[str, Any]]) -> None:
        """Write rows of evaluators, and leave the time they took out of the speed."""
        if trainer.is_global_zero:
            self.metrics.append(*rows)
            for row in rows:
                self._to_loggers(trainer, row)
        self.units, self.waited = 0, 0.0
        self.since = self.idle_since = time.perf_counter()

    def _to_loggers(self, trainer: pl.Trainer, row: dict[str, Any]) -> None:
        prefix = "/".join(str(row[key]) for key in ("split", "task") if key in row)
        numbers = {f"{prefix}/{name}": value for name, value in row.items() if isinstance(value, float)}
        for logger in trainer.loggers:
            logger.log_metrics(numbers, step=row["step"])


class BadSamples(pl.Callback):
    """bad_samples.jsonl: one row for each distinct sample that could not be read, over all ranks.

    Args:
        folder: the run's folder.
        every: steps between two collections from the ranks (each checkpoint collects too).
        allowed: distinct bad samples beyond which the run stops.
        total: samples in all sources.
    """

    def __init__(self, folder: Path, every: int, allowed: int, total: int) -> None:
        self.rows = Appender(folder / LOGS[2])
        self.every, self.allowed, self.total = every, allowed, total
        self.seen: set[tuple[str, str]] = set()
        self.waiting: list[dict[str, Any]] = []
        self.last: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.ranks = Ranks()
        known = list(read_rows(self.rows.path)) if trainer.is_global_zero else []
        known = [row for rows in self.ranks.gather(known) for row in rows]
        self.seen = {(row["source"], row["key"]) for row in known}
        self.last = known[-1] if known else None  # what is allowed may be less than it was

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        self.waiting += [{"step": max(step, 1), **problem} for problem in batch.bad]
        if step % self.every == 0 or step == pl_module.total_steps:
            self.collect(trainer)
            self.check()

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.collect(trainer)  # what a checkpoint has seen must not be lost with the process

    def collect(self, trainer: pl.Trainer) -> None:
        """Bring the ranks' finds together and write those that are new; every rank must call it at the same step."""
        found, self.waiting = [row for rows in self.ranks.gather(self.waiting) for row in rows], []
        new: dict[tuple[str, str], dict[str, Any]] = {}
        for row in sorted(found, key=lambda row: (row["epoch"], row["position"])):
            new.setdefault((row["source"], row["key"]), row)
        new = {name: row for name, row in new.items() if name not in self.seen}
        self.seen |= set(new)
        if trainer.is_global_zero:
            self.rows.append(*new.values())
        self.last = list(new.values())[-1] if new else self.last

    def check(self) -> None:
        """Raises TooManyBadSamples, on every rank."""
        if self.last is not None and len(self.seen) > self.allowed:
            last = self.last
            raise TooManyBadSamples(
                f"{len(self.seen)} of {self.total} samples are bad, more than data.max_bad_fraction allows ({self.allowed}). "
                f"The last: sample {last['key']} in shard {last['shard']} of source {last['source']}: {last['reason']} "
                f"({last['detail']}). All are in {self.rows.path}; `medvlp verify` checks the folder"
            )


class UnknownMetric(UserError):
    """`trainer.monitor` names a metric that its task does not give."""


class Evaluation(pl.Callback):
    """Runs injected evaluators every few steps and at the end; tells `Checkpoints` the monitored value.

    Args:
        evaluate: runs every task, on all ranks.
        every: steps between two runs; 0 leaves only the end.
        monitor: `<task>/<metric>`, higher is better; "" watches nothing.
        names: of the tasks.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        every: int,
        monitor: str,
        logs: Logs,
        checkpoints: Checkpoints,
        names: Sequence[str] = (),
    ) -> None:
        self.evaluate, self.every, self.monitor = evaluate, every, monitor
        self.logs, self.checkpoints, self.names = logs, checkpoints, set(names)
        self.done_at = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        # A run that died between a checkpoint and its evaluation makes up for it; so does one that has other tasks now.
        rows = read_rows(self.logs.metrics.path) if trainer.is_global_zero else iter(())
        done = {
            row.get("task") for row in rows if (row.get("step"), row.get("split")) == (trainer.global_step, "valid")
        }
        if any(Ranks().gather(bool(done) and self.names <= done)):
            self.done_at = trainer.global_step
        self._run_if_due(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._run_if_due(trainer, pl_module)

    def _run_if_due(self, trainer: pl.Trainer, pl_module: Any) -> None:
        step = trainer.global_step
        due = (self.every and step and step % self.every == 0) or step == pl_module.total_steps
        if due and step != self.done_at:
            self.checkpoints.save(trainer)  # first of all: an evaluator's failure must not cost the run
            self.done_at = step
            self._run(trainer, pl_module, step)

    def _run(self, trainer: pl.Trainer, pl_module: Any, step: int) -> None:
        pl_module.eval()
        tasks: dict[str, dict[str, Any]] = {}
        # Its step is saved, so a signal need not wait for its end.
        with torch.no_grad(), interruption.raising():
            for task, metric, value in self.evaluate():
                tasks.setdefault(task, {"step": step, "split": "valid", "task": task})[metric] = value
        pl_module.train()
        self.logs.evaluated(trainer, list(tasks.values()))
        if self.monitor:
            task, _, metric = self.monitor.partition("/")
            if metric not in tasks.get(task, {}):
                given = sorted(set(tasks.get(task, {})) - {"step", "split", "task"})
                raise UnknownMetric(f"trainer.monitor={self.monitor}: {task} gave {', '.join(given)}")
            self.checkpoints.offer(trainer, tasks[task][metric])


class Signals(pl.Callback):
    """On SIGTERM, SIGINT or SIGUSR1: finish the step, agree over the ranks, save, stop.

    Lightning's own SIGTERM handler broadcasts from inside the handler and can hang, so it is never put in place.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.stopped_by = ""
        self.listening = ExitStack()

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.ranks = Ranks()
        self.listening.enter_context(interruption.listen())
        with interruption.raising():  # one that came while this run was set up
            pass
        interruption.deferred = True

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if self.ranks.any(bool(interruption.received)) and trainer.global_step < pl_module.total_steps:
            self.stopped_by = interruption.received or "another rank's signal"
            self.checkpoints.save(trainer)
            trainer.should_stop = True

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        interruption.deferred = False
        self.listening.close()


class Progress(pl.Callback):
    """A bar in a terminal, a line every `every` steps in a log: loss, pairs/s, share of time spent waiting for data,
    time left."""

    def __init__(self, logs: Logs) -> None:
        self.logs = logs
        self.bar: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.began, self.first = time.perf_counter(), trainer.global_step
        if trainer.is_global_zero and sys.stderr.isatty():
            self.bar = tqdm(total=pl_module.total_steps, initial=self.first, unit="step", dynamic_ncols=True)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not trainer.is_global_zero:
            return
        step, row = trainer.global_step, self.logs.row
        if self.bar is not None:
            self.bar.n = step
            self.bar.set_postfix_str(self._summary(row) if row else "", refresh=True)
        elif row.get("step") == step and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            left = (time.perf_counter() - self.began) / max(step - self.first, 1) * (pl_module.total_steps - step)
            minutes, seconds = divmod(round(left), 60)
            print(
                f"step {step}/{pl_module.total_steps}  {self._summary(row)}  {minutes}:{seconds:02d} left", flush=True
            )

    def _summary(self, row: dict[str, Any]) -> str:
        return f"loss {row['loss']:.4f}  {row['pairs_per_second']:.1f} pairs/s  data wait {row['data_wait']:.0%}"

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if self.bar is not None:
            self.bar.close()
