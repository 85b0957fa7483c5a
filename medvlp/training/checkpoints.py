"""Checkpoints that are whole or absent; which are kept; which is the newest."""

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from medvlp.shards import ShardError
from medvlp.shards.atomic import whole_file, write_whole


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or belongs to something else."""


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the target, syncs, renames. Lightning's own moves from the temporary folder, which is not atomic
    across file systems."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with whole_file(target) as file:
                torch.save(checkpoint, file)
        except (ShardError, RuntimeError) as error:  # torch's archive writer reports a full disk as a RuntimeError
            free = shutil.disk_usage(target.parent).free
            raise CheckpointError(
                f"could not save {target}: {error}. {free / 2**20:.0f} MiB are free there; the earlier checkpoints are "
                f"whole, so make room and go on with resume=auto"
            ) from None


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content; nothing but tensors and plain values is accepted.

    Raises:
        CheckpointError: no such file, damaged, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path}: no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError and more
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise CheckpointError(f"checkpoint {path} cannot be read: not a checkpoint, or cut short ({reason})") from None
    if not isinstance(content, dict) or "medvlp" not in content:
        raise CheckpointError(f"checkpoint {path} was not written by medvlp train")
    return content


def step_of(path: Path) -> int:
    """The optimizer step that a file name states."""
    return int(path.stem.split("-")[1])


def steps(folder: Path) -> list[Path]:
    """step-NNNNNN.ckpt files, oldest first."""
    return sorted(folder.glob("step-*.ckpt"), key=step_of)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that can be read whole, or None; damaged ones are named on the way."""
    for path in reversed(steps(folder)):
        try:
            load_checkpoint(path)
            return path
        except CheckpointError as error:
            print(f"passed over: {error}", flush=True)
    return None


class Checkpoints(pl.Callback):
    """Saves step-NNNNNN.ckpt; keeps the last three, the best, and `last` as another name of the newest.

    Args:
        folder: the run's checkpoints/.
        every: steps between two.
        keep: how many of the newest stay.
    """

    def __init__(self, folder: Path, every: int, keep: int = 3) -> None:
        self.folder, self.every, self.keep = folder, every, keep
        self.best: float | None = None
        self.saved_at = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.saved_at = trainer.global_step  # a resumed step is on disk already; step 0 is not worth a file
        best = self.folder / "best.json"
        self.best = json.loads(best.read_text())["value"] if trainer.global_step and best.exists() else None
        if trainer.is_global_zero:
            for path in steps(self.folder):
                if step_of(path) > trainer.global_step:  # of a timeline that this run has left
                    path.rename(path.with_name(f"set-aside-{path.name}"))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # The last one too is saved here, in mid-epoch to Lightning, so that a longer horizon can go on from it.
        if trainer.global_step % self.every == 0 or trainer.global_step == pl_module.total_steps:
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Save the present step, unless it was."""
        step = trainer.global_step
        if step == self.saved_at or (trainer.fit_loop.epoch_loop.batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        path = self.folder / f"step-{step:06d}.ckpt"
        trainer.save_checkpoint(path)
        self.saved_at = step
        if trainer.is_global_zero:
            self._name(path, "last.ckpt")
            for old in steps(self.folder)[: -self.keep]:
                old.unlink()

    def offer(self, trainer: pl.Trainer, value: float) -> None:
        """Keep the present step as best.ckpt if the monitored value is the highest so far."""
        if math.isfinite(value) and (self.best is None or value > self.best):
            self.best = value
            self.save(trainer)
            if trainer.is_global_zero:
                self._name(self.folder / f"step-{trainer.global_step:06d}.ckpt", "best.ckpt")
                row = {"value": value, "step": trainer.global_step}
                write_whole(self.folder / "best.json", json.dumps(row).encode())

    def _name(self, path: Path, name: str) -> None:
        aside = self.folder / f".{name}.partial"
        aside.unlink(missing_ok=True)
        try:
            os.link(path, aside)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, aside)
        aside.replace(self.folder / name)
