"""Between order and batch: what one place in a batch holds, and which places a rank reads at a step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from medvlp.data.order import Order


class Plan(Protocol):
    """Groups the order's samples into units. A unit fills one place in a batch: a sample, or a pack of samples."""

    def __len__(self) -> int:
        """Units in one epoch, the same in every epoch."""

    def epoch(self, number: int) -> Sequence[Sequence[int]]:
        """Units of one epoch, each a sequence of sample numbers."""


class SamplePlan:
    """Every sample is a unit of its own."""

    def __init__(self, order: Order) -> None:
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int) -> Sequence[Sequence[int]]:
        return self.order.epoch(number)[:, None]  # type: ignore[return-value]


@dataclass(frozen=True)
class Request:
    """One place of a batch: read these samples; augment with the random state of (epoch, position)."""

    epoch: int
    position: int
    samples: tuple[int, ...]


class Schedule:
    """Slices the global batch of every step among ranks, by index.

    A rank's slices, concatenated over ranks and over the step's `accumulate` batches, are the global batch in order,
    whatever the number of ranks. What does not fill a last batch of an epoch is left out of that epoch; another order
    leaves others out.

    Args:
        plan: the units of each epoch.
        global_batch_size: units in one optimizer step, over all ranks and accumulated batches.
        accumulate: batches in one optimizer step.
        rank, world_size: this process among all.
    Raises:
        ValueError: the global batch cannot be divided, or an epoch does not fill one.
    """

    def __init__(
        self, plan: Plan, global_batch_size: int, accumulate: int = 1, rank: int = 0, world_size: int = 1
    ) -> None:
        share, rest = divmod(global_batch_size, accumulate * world_size)
        if rest or not share:
            raise ValueError(
                f"data.global_batch_size={global_batch_size} cannot be divided evenly over {world_size} ranks and "
                f"{accumulate} accumulated batches; use a multiple of {accumulate * world_size}"
            )
        if len(plan) < global_batch_size:
            raise ValueError(
                f"an epoch has {len(plan)} units, fewer than data.global_batch_size={global_batch_size}; lower it or add data"
            )
        self.plan, self.share, self.accumulate = plan, share, accumulate
        self.global_batch_size, self.rank, self.world_size = global_batch_size, rank, world_size
        self.steps_per_epoch = len(plan) // global_batch_size
        self.left_out = len(plan) % global_batch_size

    def requests(self, first_step: int, last_step: int) -> Iterator[list[Request]]:
        """This rank's batches for optimizer steps first_step … last_step - 1, `accumulate` batches a step."""
        epoch, units = -1, []  # type: ignore[var-annotated]
        for step in range(first_step, last_step):
            if epoch != step // self.steps_per_epoch:
                epoch = step // self.steps_per_epoch
                units = self.plan.epoch(epoch)  # type: ignore[assignment]
            begin = step % self.steps_per_epoch * self.global_batch_size
            for part in range(self.accumulate):
                low = begin + (part * self.world_size + self.rank) * self.share
                yield [
                    Request(epoch, position, tuple(map(int, units[position])))
                    for position in range(low, low + self.share)
                ]
