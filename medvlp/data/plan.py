"""Batch plans and rank schedules: which samples of a step each rank reads, and which of them share a sequence."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medvlp.data.order import Order, dealt
from medvlp.errors import UserError

Pack = tuple[int, ...]
"""Indices into a step's samples that are read together; they fill one row of a batch."""


Total = float | tuple[float, ...]
"""Of an objective's loss, or of each of several."""


class BatchPlan(Protocol):
    """Divides a step's samples among batches. What a step holds is the order's affair and does not depend on it."""

    def __len__(self) -> int:
        """Samples in one epoch, the same in every epoch."""

    def epoch(self, number: int) -> NDArray[np.int64]:
        """Sample numbers of one epoch, in order."""

    def divide(self, numbers: NDArray[np.int64], batches: int) -> list[list[Pack]]:
        """For each of a step's batches its packs, as indices into `numbers`; every index occurs once."""

    def longest_step(self, size: int) -> int:
        """Of the first epoch's steps of `size` samples, the one whose batches are the longest."""

    def total(self, numbers: NDArray[np.int64]) -> Total:
        """What the losses of a step, summed over its batches, are divided by."""


class SamplePlan:
    """Every sample stands alone, and batches are equal stretches of the step."""

    def __init__(self, order: Order) -> None:
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int) -> NDArray[np.int64]:
        return self.order.epoch(number)

    def divide(self, numbers: NDArray[np.int64], batches: int) -> list[list[Pack]]:
        share = len(numbers) // batches
        return [[(index,) for index in range(batch * share, (batch + 1) * share)] for batch in range(batches)]

    def longest_step(self, size: int) -> int:
        return 0  # lengths are not known before samples are read

    def total(self, numbers: NDArray[np.int64]) -> Total:
        return len(numbers)


class ApartPlan(SamplePlan):
    """Every sample stands alone, and those of one group in different batches, as far as an epoch has batches.

    Like the order that it deals out, it depends on neither ranks nor workers.

    Args:
        order: the sequence of samples.
        group_N: the group of every sample, by its number in the order.
        batch: samples of one step.
    """

    def __init__(self, order: Order, group_N: NDArray[np.int64], batch: int) -> None:
        super().__init__(order)
        self.group_N, self.batch = group_N, batch

    def epoch(self, number: int) -> NDArray[np.int64]:
        return dealt(self.order.epoch(number), self.group_N, self.batch)

    def repeats(self, number: int = 0) -> int:
        """Samples of an epoch that meet another of their group in their batch."""
        batches = self.epoch(number)[: len(self) // self.batch * self.batch].reshape(-1, self.batch)
        return sum(self.batch - len(np.unique(row)) for row in self.group_N[batches])


@dataclass(frozen=True)
class Request:
    """One row of a batch: read these samples; augment each with the random state of its (epoch, position).

    total: see `BatchPlan.total`.
    """

    epoch: int
    positions: tuple[int, ...]
    samples: tuple[int, ...]
    total: Total = 1.0


class RankSchedule:
    """Slices the global batch of every step among ranks and accumulated batches.

    What the batches of a step hold, taken together, is the global batch, whatever the number of ranks. What does not
    fill a last batch of an epoch is skipped in that epoch; another order skips others.

    Args:
        plan: the samples of each epoch, and how a step is divided.
        global_batch_size: samples in one optimizer step, over all ranks and accumulated batches.
        accumulate: batches in one optimizer step.
        rank, world_size: this process among all.
    batch_size: samples of a rank in one batch.

    Raises:
        UserError: the global batch cannot be divided, or an epoch does not fill one.
    """

    def __init__(
        self, plan: BatchPlan, global_batch_size: int, accumulate: int = 1, rank: int = 0, world_size: int = 1
    ) -> None:
        share, remainder = divmod(global_batch_size, accumulate * world_size)
        if remainder or not share:
            raise UserError(
                f"data.global_batch_size={global_batch_size} cannot be divided evenly over {world_size} ranks and "
                f"{accumulate} accumulated batches; use a multiple of {accumulate * world_size}"
            )
        if len(plan) < global_batch_size:
            raise UserError(
                f"an epoch has {len(plan)} samples, fewer than data.global_batch_size={global_batch_size}; lower it or add data"
            )
        self.plan, self.accumulate = plan, accumulate
        self.global_batch_size, self.rank, self.world_size, self.batch_size = global_batch_size, rank, world_size, share
        self.steps_per_epoch = len(plan) // global_batch_size
        self.unfilled = len(plan) % global_batch_size

    def requests(self, first_step: int, last_step: int) -> Iterator[list[Request]]:
        """This rank's batches for optimizer steps first_step … last_step - 1, `accumulate` batches a step."""
        numbers_epoch, numbers = -1, np.empty(0, np.int64)
        batches = self.accumulate * self.world_size
        for step in range(first_step, last_step):
            epoch, within = divmod(step, self.steps_per_epoch)
            if epoch != numbers_epoch:
                numbers_epoch, numbers = epoch, self.plan.epoch(epoch)
            begin = within * self.global_batch_size
            step_numbers = numbers[begin : begin + self.global_batch_size]
            packs, total = self.plan.divide(step_numbers, batches), self.plan.total(step_numbers)
            for part in range(self.accumulate):
                yield [
                    Request(epoch, tuple(begin + i for i in pack), tuple(int(step_numbers[i]) for i in pack), total)
                    for pack in packs[part * self.world_size + self.rank]
                ]
