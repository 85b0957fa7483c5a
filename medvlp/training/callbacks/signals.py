"""Signals that end a run after its step, with a checkpoint."""

from contextlib import ExitStack
from typing import Any

import lightning.pytorch as pl

from medvlp.process import interruption
from medvlp.training.callbacks.checkpoints import Checkpoints
from medvlp.training.ranks import Ranks


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
        if self.ranks.any(bool(interruption.reason)) and trainer.global_step < pl_module.total_steps:
            self.stopped_by = interruption.reason or "another rank's signal"
            self.checkpoints.save(trainer)
            trainer.should_stop = True

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        interruption.deferred = False
        self.listening.close()
