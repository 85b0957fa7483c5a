"""A loss or gradients that are no finite numbers: the step is captured, and the run stops or goes on without the step."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from medvlp.data.batch import Batch
from medvlp.jsonl import Appender, read_rows
from medvlp.training.callbacks.checkpoints import Diverged
from medvlp.training.ranks import Ranks
from medvlp.training.run_folder import LOGS
from medvlp.training.sharding import total_norm
from medvlp.training.steps.capture import write_rank, write_weights

FOLDER = "non_finite"
MAX_CAPTURES = 3
"""Steps of a run that are captured; weights are large."""


class NonFinite(pl.Callback):
    """Looks at loss and gradients before every optimizer step.

    Gradients are those that all ranks share by then, so that the ranks agree. With a gradient scaler (16-mixed) the
    scaler does this by itself.

    Args:
        folder: the run's folder.
        skips: leave the step out instead of stopping.
        most: steps that may be left out.
    """

    def __init__(self, folder: Path, skips: bool, most: int) -> None:
        self.folder, self.skips, self.most = folder / FOLDER, skips, most
        self.rows = Appender(folder / LOGS[3])
        self.batches: list[Batch] = []
        self.count = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.ranks = Ranks()
        count = sum(1 for _ in read_rows(self.rows.path)) if trainer.is_global_zero else 0
        self.count = self.ranks.gather(count)[0]
        self.has_scaler = getattr(trainer.precision_plugin, "scaler", None) is not None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.batches, self.first = [], batch_idx
        self.batches.append(batch)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        if self.has_scaler:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        largest = total_norm([p.grad for p in parameters], norm_type=torch.inf)
        if not self.ranks.any(not bool(torch.isfinite(largest) & torch.isfinite(pl_module.last_loss).all())):
            return
        step, keys = trainer.global_step + 1, [key for batch in self.batches for key in batch.keys]
        all_keys = [key for keys_of_rank in self.ranks.gather(keys) for key in keys_of_rank]
        loss = self.ranks.mean(float(pl_module.last_loss))
        description = self.describe(trainer, pl_module, step, loss, all_keys)
        if not self.skips:
            raise Diverged(
                f"{description} The checkpoints before it are in {self.folder.parent / 'checkpoints'}. Lower optim.lr, set "
                f"optim.clip_norm, or leave such steps out with trainer.non_finite=skip"
            )
        self.count += 1
        if self.count > self.most:
            raise Diverged(f"{description} It is the {self.count}th, more than trainer.max_skipped={self.most} allow")
        if trainer.is_global_zero:
            self.rows.append({"step": step, "loss": repr(loss), "keys": all_keys})
            print(f"skipped: {description}", flush=True)
        for parameter in parameters:
            parameter.grad = None  # AdamW leaves a weight without a gradient, and what it remembers of it, as they are
        pl_module.is_skipped = True

    def describe(self, trainer: pl.Trainer, pl_module: Any, step: int, loss: float, keys: list[str]) -> str:
        """What happened, in words, after the step was captured."""
        folder = self.folder / f"step-{step:06d}"
        captures = len(list(self.folder.glob("step-*"))) if trainer.is_global_zero else 0
        is_captured = self.ranks.gather(captures)[0] < MAX_CAPTURES
        if is_captured:
            state = trainer.strategy.lightning_module_state_dict()
            if trainer.is_global_zero:
                card = {"step": step, "ranks": self.ranks.size, "config": pl_module.metadata.get("config", {})}
                card |= {"precision": trainer.precision, "keys": keys, "loss": repr(loss)}
                card["auxiliary"] = pl_module.auxiliary.state_dict()
                write_weights(folder, state, card)
            seeds = [pl_module.batch_seed(self.first + index) for index in range(len(self.batches))]
            write_rank(folder, trainer.global_rank, seeds, self.batches)
        broken = "the loss" if loss != loss or loss in (float("inf"), float("-inf")) else "a gradient"
        value = f"{loss}" if broken == "the loss" else "not a finite number"
        examples = f"{', '.join(keys[:3])}{' and others' if len(keys) > 3 else ''}"
        replay = f" `medvlp replay {folder}` computes it again." if is_captured else ""
        return f"{broken} is {value} at step {step} (samples {examples}).{replay}"
