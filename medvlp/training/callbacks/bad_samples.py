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
