"""The training loader, with a true length and a state that is a step and the data's identity; and loader processes.

No signal reaches those processes, none outlives its loader, and one that was killed is told as that.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from medvlp import process
from medvlp.data.batch import Batch, StepBatch
from medvlp.data.dataset import RequestedSamples
from medvlp.data.plan import RankSchedule
from medvlp.data.workers.memory import CollateIntoSlots, opened, slot_memory
from medvlp.errors import UserError

Collate = Callable[[list[dict[str, Any]]], Batch]


class DataChanged(UserError):
    """A checkpoint was trained on other data than is there now."""


class TrainingLoader:
    """All batches of a run, epoch after epoch, behind one iterator whose workers stay alive.

    Lightning sees one long epoch of `total_steps`; where data epochs begin and end is the schedule's affair. The state
    (Lightning's `state_dict` protocol) counts what was handed out, never what workers read ahead.

    Args:
        samples: reads a request.
        schedule: this rank's requests.
        collate: samples as they were read → batch.
        total_steps: optimizer steps in the run.
        workers: loader processes; 0 reads in this one.
        whole_steps: hand out the accumulated batches of a step as one `StepBatch`.
        batch_bytes: of a batch at most; workers then write batches into memory that is shared; 0: they are sent.
    """

    def __init__(
        self,
        samples: RequestedSamples,
        schedule: RankSchedule,
        collate: Collate,
        total_steps: int,
        workers: int,
        pin: bool,
        whole_steps: bool = False,
        batch_bytes: int = 0,
    ) -> None:
        self.batch_bytes = batch_bytes
        self.samples, self.schedule, self.collate = samples, schedule, collate
        self.total_steps, self.workers, self.pin = total_steps, workers, pin
        self.manifests = {name: dataset.manifest_hash for name, dataset in samples.sources}
        self.shards = {name: dataset.shards_hash for name, dataset in samples.sources}
        self.handed_out = 0
        self.parts = schedule.accumulate if whole_steps else 1
        self.batches_per_step = schedule.accumulate // self.parts

    def __len__(self) -> int:
        """Batches in the whole run, also after a resume."""
        return self.total_steps * self.batches_per_step

    def __iter__(self) -> Iterator[Batch]:
        first = self.handed_out // self.batches_per_step
        memory = slot_memory(self.workers, self.batch_bytes, self.parts)
        loader: DataLoader[Any] = DataLoader(
            self.samples,
            batch_sampler=_Requests(self.schedule, first, self.total_steps),
            num_workers=self.workers,
            collate_fn=self.collate if memory is None else CollateIntoSlots(self.collate, memory),
            pin_memory=self.pin,
        )
        parts: list[Batch] = []
        for batch in batches(loader):
            parts.append(opened(batch))
            if len(parts) == self.parts:
                self.handed_out += 1
                yield parts[0] if self.parts == 1 else StepBatch.of(parts)
                parts = []

    def state_dict(self) -> dict[str, Any]:
        """{manifests, epoch, step_in_epoch, step}: what is needed to go on, on any number of ranks and workers.

        And shards: the hashes of the shards' own manifests, which say later what was trained on; in manifests stands the
        hash of what the run made of them.
        """
        step = self.handed_out // self.batches_per_step
        epoch, within = divmod(step, self.schedule.steps_per_epoch)
        hashes = {"manifests": dict(self.manifests), "shards": dict(self.shards)}
        return {**hashes, "epoch": epoch, "step_in_epoch": within, "step": step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after `state`.

        Raises:
            DataChanged: the shards are not the ones that the checkpoint saw.
        """
        if state["manifests"] != self.manifests:
            changed = sorted({name for name, _ in {*state["manifests"].items()} ^ {*self.manifests.items()}})
            is_selection = all(
                name in self.shards and state.get("shards", {}).get(name) == self.shards[name] for name in changed
            )
            difference = (
                "selects or makes other samples (where, its score tables and lists)"
                if is_selection
                else "has another manifest.json"
            )
            raise DataChanged(
                f"the data changed since the checkpoint: {', '.join(changed)} {difference}. An exact resume needs "
                f"the same samples; start a new run with init_from=<checkpoint> instead"
            )
        self.handed_out = state["step"] * self.batches_per_step


class _Requests:
    """A batch sampler over requests; its own class so that the DataLoader knows its length."""

    def __init__(self, schedule: RankSchedule, first: int, last: int) -> None:
        self.schedule, self.first, self.last = schedule, first, last

    def __len__(self) -> int:
        return (self.last - self.first) * self.schedule.accumulate

    def __iter__(self) -> Iterator[Any]:
        return self.schedule.requests(self.first, self.last)


def batches(loader: "DataLoader[Any]") -> Iterator[Any]:
    """The batches of a loader, whose workers end with this iterator.

    Raises:
        process.WorkerKilled: the system ended one of them.
    """
    with process.holding_signals() as workers:
        iterator = iter(loader)
    try:
        while True:
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except Exception as error:
                if cause := process.killed(error, workers) or raised_there(error):
                    raise cause from error
                raise
            yield batch
    finally:
        process.end_children(workers)


def raised_there(error: Exception) -> Exception | None:
    """An error of a worker as it was raised there: PyTorch puts the worker's traceback into the message."""
    text = str(error)
    if not (text.startswith("Caught ") and "in DataLoader worker process" in text):
        return None
    heads = list(re.finditer(rf"^(?:\w+\.)*{type(error).__name__}: ", text, re.MULTILINE))
    return type(error)(text[heads[-1].end() :].strip()) if heads else None
