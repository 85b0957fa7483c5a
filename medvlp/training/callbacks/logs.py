"""metrics.jsonl, samples.jsonl and status.json, row by row."""

import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from medvlp.jsonl import Appender
from medvlp.training.callbacks.checkpoints import Diverged
from medvlp.training.module import LOSSES_B
from medvlp.training.ranks import Ranks
from medvlp.training.run_folder import LOGS, Status, drop_rows_after
from medvlp.training.sharding import total_norm


class Logs(pl.Callback):
    """metrics.jsonl (and Lightning's loggers) every few steps, samples.jsonl every step where asked, status.json.

    Args:
        folder: the run's folder.
        interval: steps between two rows of metrics.
        log_samples: keep the keys of every step.
        status: follows the run.
    """

    def __init__(self, folder: Path, interval: int, log_samples: bool, status: Status) -> None:
        self.folder, self.interval, self.log_samples, self.status = folder, interval, log_samples, status
        self.metrics, self.samples = Appender(folder / LOGS[0]), Appender(folder / LOGS[1])
        self.row: dict[str, Any] = {}
        self.grad_norm = self.lr = 0.0
        self.keys: list[tuple[int, str]] = []
        self.losses: list[torch.Tensor] = []
        self.by_source = SourceTotals()
        self.missing: Counter[str] = Counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.ranks = Ranks()
        if trainer.is_global_zero:
            drop_rows_after(self.folder, trainer.global_step)
        self.status.running(trainer.global_step, write=trainer.is_global_zero)
        self.step, self.seconds_waited, self.samples_seen = trainer.global_step, 0.0, 0
        self.row_start = self.idle_start = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seconds_waited += time.perf_counter() - self.idle_start

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        self.lr = max(
            group["lr"] for group in optimizer.param_groups
        )  # before the scheduler moves on to the next step's
        if (trainer.global_step + 1) % self.interval == 0 or trainer.global_step + 1 == pl_module.total_steps:
            grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            self.grad_norm = float(total_norm(grads))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.samples_seen += pl_module.sample_count(batch)
        self.losses.append(outputs["loss"].detach())
        self.by_source.add(batch.sources, outputs["values"].pop(LOSSES_B, None))
        self.missing.update(batch.missing)
        if self.log_samples:
            positions = list(zip(batch.positions, batch.keys, strict=True))
            self.keys += [pair for pairs in self.ranks.gather(positions) for pair in pairs]
        if trainer.global_step > self.step:
            self.step = trainer.global_step
            if self.log_samples and trainer.is_global_zero:
                self.samples.append({"step": self.step, "keys": [key for _, key in sorted(self.keys)]})
            # Automatic optimisation hands back the loss divided by the number of accumulated batches.
            loss, self.losses, self.keys = torch.stack(self.losses).sum(), [], []
            if self.step % self.interval == 0 or self.step == pl_module.total_steps:
                self._write(trainer, pl_module, float(loss), outputs["values"])
        self.idle_start = time.perf_counter()

    def _write(self, trainer: pl.Trainer, pl_module: Any, loss: float, values: dict[str, Any]) -> None:
        row_end = time.perf_counter()
        seconds = row_end - self.row_start
        names = list(trainer.datamodule.sources)  # type: ignore[attr-defined]
        self.row = {
            "step": self.step,
            "split": "train",
            "loss": self.ranks.mean(loss),
            "epoch": round(self.step / trainer.datamodule.steps_per_epoch, 4),  # type: ignore[attr-defined]
            "lr": self.lr,
            "grad_norm": self.grad_norm,
            "samples_per_second": round(self.samples_seen * self.ranks.size / seconds, 2),
            "data_wait": round(self.seconds_waited / seconds, 4),
            **{name: float(value) for name, value in values.items()},
            **self.by_source.take(self.ranks, names),
            **self._take_missing(names),
        }
        self.samples_seen, self.seconds_waited, self.row_start = 0, 0.0, row_end
        self.status.running(self.step, write=trainer.is_global_zero)
        if pl_module.is_skipped:
            return  # it has a row in skipped_steps.jsonl
        if not math.isfinite(self.row["loss"]):
            raise Diverged(
                f"the loss is {self.row['loss']} at step {self.step}; the checkpoints before it are in "
                f"{self.folder / 'checkpoints'}. Lower optim.lr, or set optim.clip_norm"
            )
        if trainer.is_global_zero:
            self.metrics.append(self.row)
            self._to_loggers(trainer, self.row)

    def _take_missing(self, names: list[str]) -> dict[str, int]:
        """`missing/<source>/<field>`: samples since the last row whose texts lack a field, over all ranks. Collective."""
        total: Counter[str] = Counter()
        for counts in self.ranks.gather(dict(self.missing)):
            total.update(counts)
        self.missing.clear()
        numbers = {name.partition("/"): count for name, count in sorted(total.items())}
        return {f"missing/{names[int(source)]}/{field}": count for (source, _, field), count in numbers.items()}

    def evaluated(self, trainer: pl.Trainer, rows: list[dict[str, Any]]) -> None:
        """Write rows of evaluators, and leave the time they took out of the speed."""
        if trainer.is_global_zero:
            self.metrics.append(*rows)
            for row in rows:
                self._to_loggers(trainer, row)
        self.samples_seen, self.seconds_waited = 0, 0.0
        self.row_start = self.idle_start = time.perf_counter()

    def _to_loggers(self, trainer: pl.Trainer, row: dict[str, Any]) -> None:
        prefix = "/".join(str(row[key]) for key in ("split", "task") if key in row)
        numbers = {f"{prefix}/{name}": value for name, value in row.items() if isinstance(value, float)}
        for logger in trainer.loggers:
            logger.log_metrics(numbers, step=row["step"])


class SourceTotals:
    """Samples of each source, and the sums of their losses, since they were last taken."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[int], torch.Tensor | None]] = []

    def add(self, sources: list[int], losses_B: torch.Tensor | None) -> None:
        """Count a batch. sources: of its samples. losses_B: of each of them; None of an objective that has none."""
        self.batches.append((sources, losses_B))

    def take(self, ranks: Ranks, names: list[str]) -> dict[str, float]:
        """`samples/<source>` and, over all ranks, the mean of its samples' losses as `loss/<source>`; {} of one source alone.

        Collective where there are several sources.
        """
        batches, self.batches = self.batches, []
        if len(names) < 2:
            return {}
        counts, sums = [0] * len(names), [0.0] * len(names)
        has_losses = False
        for sources, losses_B in batches:
            values = [0.0] * len(sources) if losses_B is None else losses_B.tolist()
            has_losses |= losses_B is not None
            for source, value in zip(sources, values, strict=True):
                counts[source] += 1
                sums[source] += value
        totals = ranks.gather([counts, sums])
        row: dict[str, float] = {}
        for number, name in enumerate(names):
            count = sum(rank_counts[number] for rank_counts, _ in totals)
            row[f"samples/{name}"] = count
            if has_losses and count:
                row[f"loss/{name}"] = sum(rank_sums[number] for _, rank_sums in totals) / count
        return row
