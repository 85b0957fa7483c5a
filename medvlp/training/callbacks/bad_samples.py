"""bad_samples.jsonl: the samples that could not be read, over all ranks."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from medvlp.errors import UserError
from medvlp.jsonl import Appender, read_rows
from medvlp.training.ranks import Ranks
from medvlp.training.run_folder import LOGS


class TooManyBadSamples(UserError):
    """More of the data is unreadable than the configuration allows."""


class BadSamples(pl.Callback):
    """bad_samples.jsonl: one row for each distinct sample that could not be read, over all ranks.

    Args:
        folder: the run's folder.
        interval: steps between two collections from the ranks (each checkpoint collects too).
        allowed: distinct bad samples beyond which the run stops.
        total: samples in all sources.
    """

    def __init__(self, folder: Path, interval: int, allowed: int, total: int) -> None:
        self.rows = Appender(folder / LOGS[2])
        self.interval, self.allowed, self.total = interval, allowed, total
        self.names: set[tuple[str, str]] = set()
        self.pending: list[dict[str, Any]] = []
        self.last: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.ranks = Ranks()
        earlier_rows = list(read_rows(self.rows.path)) if trainer.is_global_zero else []
        earlier_rows = [row for rows in self.ranks.gather(earlier_rows) for row in rows]
        self.names = {(row["source"], row["key"]) for row in earlier_rows}
        self.last = earlier_rows[-1] if earlier_rows else None  # what is allowed may be less than it was

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        self.pending += [{"step": max(step, 1), **problem} for problem in batch.bad]
        if step % self.interval == 0 or step == pl_module.total_steps:
            self.collect(trainer)
            self.check()

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.collect(trainer)  # what a checkpoint has seen must not be lost with the process

    def collect(self, trainer: pl.Trainer) -> None:
        """Bring the ranks' bad samples together and write those that are new; every rank must call it at the same step."""
        problems, self.pending = [row for rows in self.ranks.gather(self.pending) for row in rows], []
        new: dict[tuple[str, str], dict[str, Any]] = {}
        for row in sorted(problems, key=lambda row: (row["epoch"], row["position"])):
            new.setdefault((row["source"], row["key"]), row)
        new = {name: row for name, row in new.items() if name not in self.names}
        self.names |= set(new)
        if trainer.is_global_zero:
            self.rows.append(*new.values())
        self.last = list(new.values())[-1] if new else self.last

    def check(self) -> None:
        """Raises TooManyBadSamples, on every rank."""
        if self.last is not None and len(self.names) > self.allowed:
            last = self.last
            raise TooManyBadSamples(
                f"{len(self.names)} of {self.total} samples are bad, more than data.max_bad_fraction allows ({self.allowed}). "
                f"The last: sample {last['key']} in shard {last['shard']} of source {last['source']}: {last['reason']} "
                f"({last['detail']}). All are in {self.rows.path}; `medvlp verify` checks the folder"
            )
