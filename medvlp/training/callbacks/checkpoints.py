"""Checkpoint retention: the last three, the best, and none that holds no numbers."""

import json
import math
import os
import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from medvlp.config.evaluation.metric_names import direction
from medvlp.errors import UserError
from medvlp.process import interruption
from medvlp.shards.atomic import write_text
from medvlp.training.checkpoints import CheckpointError, first_broken, load_checkpoint, step_of, steps
from medvlp.training.ranks import Ranks
from medvlp.training.sharding import local

NEWEST_COUNT = 3
"""Newest checkpoints that stay, next to the best."""


class Diverged(UserError):
    """The loss or the weights are not numbers any more."""


def check_numbers(trainer: pl.Trainer, ranks: Ranks, folder: Path) -> None:
    """What is about to be saved can be gone on from: a checkpoint without numbers would push out the good ones.

    Raises:
        Diverged: a weight, or what the optimizer remembers of one, is not a finite number. The same on every rank.
    """
    weights = list(trainer.lightning_module.named_parameters())
    memory = [
        (f"the optimizer's {name}", value)
        for optimizer in trainer.optimizers
        for state in optimizer.state.values()
        for name, value in state.items()
        if isinstance(value, Tensor)
    ]
    broken = first_broken([*weights, *memory], lambda tensor: ~local(tensor).isfinite())
    if ranks.any(bool(broken)):
        raise Diverged(
            f"{broken or 'a weight of another rank'} is not a finite number at step {trainer.global_step}, so this step is "
            f"not saved; the checkpoints before it are in {folder}. Lower optim.lr, or set optim.clip_norm"
        )


def leave_later(folder: Path, step: int) -> None:
    """Rename the checkpoints of later steps: they are of a timeline that the run has left."""
    for path in steps(folder):
        if step_of(path) > step:
            rename_former(path)
    for name in ("last", "best"):
        path = folder / f"{name}.ckpt"
        with suppress(CheckpointError):  # absent, or damaged: a name for the next whole one
            if load_checkpoint(path)["global_step"] > step:
                if path.stat().st_nlink > 1:  # another name of a step's, which stays
                    path.unlink()
                else:
                    rename_former(path)
                (folder / f"{name}.json").unlink(missing_ok=True)


def rename_former(path: Path) -> Path | None:
    """Give a checkpoint a name under which nothing looks for it, and which nothing has."""
    if not path.is_file():
        return None
    names = (path.with_name(f"set-aside-{f'{n}-' if n else ''}{path.name}") for n in count())
    return path.rename(next(name for name in names if not name.exists()))


class Checkpoints(pl.Callback):
    """Saves step-NNNNNN.ckpt; keeps the last `NEWEST_COUNT`, the best, and `last` as another name of the newest.

    Args:
        folder: the run's checkpoints/.
        interval: steps between two.
        monitor: `<task>/<metric>` that chooses the best, the lowest of an error's; "" chooses none.
    """

    def __init__(self, folder: Path, interval: int, monitor: str = "") -> None:
        self.folder, self.interval, self.monitor = folder, interval, monitor
        self.direction = direction(monitor.partition("/")[2])
        self.best: float | None = None
        self.saved_at = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.saved_at = trainer.global_step  # a resumed step is on disk already; step 0 is not worth a file
        self.ranks = Ranks()
        best = None
        if trainer.is_global_zero:
            leave_later(self.folder, trainer.global_step)
            best = self._best_so_far()
        self.best = self.ranks.gather(best)[0]  # whether a step is saved as best is every rank's affair

    def _best_so_far(self) -> float | None:
        """The best value of what is monitored, as far as it is known."""
        path = self.folder / "best.json"
        if not path.is_file():
            return None
        try:
            row = json.loads(path.read_bytes())
            value, monitor = float(row["value"]), str(row.get("monitor", self.monitor))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            print(f"note: {path} is damaged ({error}); the best checkpoint is sought again", flush=True)
            return None
        if self.monitor and monitor != self.monitor:
            former = rename_former(self.folder / "best.ckpt")
            print(
                f"note: trainer.monitor was {monitor}, it is {self.monitor} now: the best is sought again"
                + (f", and the former best.ckpt is {former.name}" if former else ""),
                flush=True,
            )
            return None
        return value

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # The last one too is saved here, in mid-epoch to Lightning, so that a longer horizon can go on from it.
        if trainer.global_step % self.interval == 0 or trainer.global_step == pl_module.total_steps:
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Save the present step, unless it was."""
        step = trainer.global_step
        if step == self.saved_at or (trainer.fit_loop.epoch_loop.batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        path = self.folder / f"step-{step:06d}.ckpt"
        check_numbers(trainer, self.ranks, self.folder)
        with interruption.unhurried():
            trainer.save_checkpoint(path)
        self.saved_at = step
        if trainer.is_global_zero:
            self._name(path, "last.ckpt")
            for old in steps(self.folder)[:-NEWEST_COUNT]:
                old.unlink()

    def offer(self, trainer: pl.Trainer, value: float) -> None:
        """Keep the present step as best.ckpt if the monitored value is the best so far."""
        if math.isfinite(value) and (self.best is None or self.direction * (value - self.best) > 0):
            self.best = value
            self.save(trainer)
            if trainer.is_global_zero:
                saved = self.folder / f"step-{trainer.global_step:06d}.ckpt"
                self._name(saved if saved.exists() else self.folder / "last.ckpt", "best.ckpt")
                row = {"monitor": self.monitor, "value": value, "step": trainer.global_step}
                write_text(self.folder / "best.json", json.dumps(row))

    def _name(self, path: Path, name: str) -> None:
        temporary = self.folder / f".{name}.partial"
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, temporary)
        temporary.replace(self.folder / name)
