"""Progress of a run: a bar in a terminal, lines in a log."""

import sys
import time
from typing import Any

import lightning.pytorch as pl
from tqdm import tqdm

from medvlp.training.callbacks.logs import Logs


class Progress(pl.Callback):
    """A bar in a terminal, a line every `every` steps in a log: loss, samples/s, share of time spent waiting for data,
    time left."""

    def __init__(self, logs: Logs) -> None:
        self.logs = logs
        self.bar: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.start, self.first = time.perf_counter(), trainer.global_step
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
            remaining = (time.perf_counter() - self.start) / max(step - self.first, 1) * (pl_module.total_steps - step)
            minutes, seconds = divmod(round(remaining), 60)
            print(
                f"step {step}/{pl_module.total_steps}  {self._summary(row)}  {minutes}:{seconds:02d} left", flush=True
            )

    def _summary(self, row: dict[str, Any]) -> str:
        return f"loss {row['loss']:.4f}  {row['samples_per_second']:.1f} samples/s  data wait {row['data_wait']:.0%}"

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if self.bar is not None:
            self.bar.close()
