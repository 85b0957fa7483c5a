"""The Lightning side of loading: rank and world size meet the schedule here, and nowhere else."""

from collections.abc import Callable

import lightning.pytorch as pl

from medvlp.data.dataset import Units
from medvlp.data.loader import Collate, TrainingLoader
from medvlp.data.plan import Plan, Schedule


class TrainingData(pl.LightningDataModule):
    """Training batches of one run.

    Args:
        units: reads a request.
        plan: the units of each epoch.
        collate: units → batch.
        global_batch_size: units in one optimizer step, over all ranks.
        accumulate: batches in one optimizer step.
        total_steps: from an epoch's steps to the run's.
        workers: loader processes a rank.
    """

    def __init__(
        self,
        units: Units,
        plan: Plan,
        collate: Collate,
        global_batch_size: int,
        accumulate: int,
        total_steps: Callable[[int], int],
        workers: int,
    ) -> None:
        super().__init__()
        self.units, self.plan, self.collate = units, plan, collate
        self.global_batch_size, self.accumulate, self.workers = global_batch_size, accumulate, workers
        one_rank = Schedule(plan, global_batch_size)
        self.steps_per_epoch, self.left_out = one_rank.steps_per_epoch, one_rank.left_out
        self.total_steps = total_steps(self.steps_per_epoch)

    def train_dataloader(self) -> TrainingLoader:
        """This rank's loader."""
        trainer = self.trainer
        assert trainer is not None
        schedule = Schedule(self.plan, self.global_batch_size, self.accumulate, trainer.global_rank, trainer.world_size)
        pin = trainer.strategy.root_device.type == "cuda"
        return TrainingLoader(self.units, schedule, self.collate, self.total_steps, self.workers, pin)
