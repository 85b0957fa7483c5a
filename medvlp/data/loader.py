"""The training loader: a true length, and a state that is a step and the data's identity, whatever ranks and workers."""

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from medvlp.data.batch import Batch
from medvlp.data.dataset import Units
from medvlp.data.plan import Schedule
from medvlp.data.workers import batches
from medvlp.errors import UserError

Collate = Callable[[list[dict[str, Any]]], Batch]


class DataChanged(UserError):
    """A checkpoint was trained on other data than is there now."""


class TrainingLoader:
    """All batches of a run, epoch after epoch, behind one iterator whose workers stay alive.

    Lightning sees one long epoch of `total_steps`; where data epochs begin and end is the schedule's affair. The state
    (Lightning's `state_dict` protocol) counts what was handed out, never what workers read ahead.

    Args:
        units: reads a request.
        schedule: this rank's requests.
        collate: a list of unit results → batch.
        total_steps: optimizer steps in the run.
        workers: loader processes; 0 reads in this one.
    """

    def __init__(
        self, units: Units, schedule: Schedule, collate: Collate, total_steps: int, workers: int, pin: bool
    ) -> None:
        self.units, self.schedule, self.collate = units, schedule, collate
        self.total_steps, self.workers, self.pin = total_steps, workers, pin
        self.manifests = {name: dataset.manifest_hash for name, dataset in units.sources}
        self.shards = {name: dataset.shards_hash for name, dataset in units.sources}
        self.handed_out = 0

    def __len__(self) -> int:
        """Batches in the whole run, also after a resume."""
        return self.total_steps * self.schedule.accumulate

    def __iter__(self) -> Iterator[Batch]:
        first = self.handed_out // self.schedule.accumulate
        loader: DataLoader[Any] = DataLoader(
            self.units,
            batch_sampler=_Requests(self.schedule, first, self.total_steps),
            num_workers=self.workers,
            collate_fn=self.collate,
            pin_memory=self.pin,
        )
        for batch in batches(loader):
            self.handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """{manifests, epoch, step_in_epoch, step}: what is needed to go on, on any number of ranks and workers.

        And shards: the hashes of the shards' own manifests, which say later what was trained on; in manifests stands the
        hash of what the run made of them.
        """
        step = self.handed_out // self.schedule.accumulate
        epoch, within = divmod(step, self.schedule.steps_per_epoch)
        hashes = {"manifests": dict(self.manifests), "shards": dict(self.shards)}
        return {**hashes, "epoch": epoch, "step_in_epoch": within, "step": step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after `state`.

        Raises:
            DataChanged: the shards are not the ones that the checkpoint saw.
        """
        if state["manifests"] != self.manifests:
            changed = sorted({*state["manifests"].items()} ^ {*self.manifests.items()})
            raise DataChanged(
                f"the data changed since the checkpoint: {', '.join(sorted({name for name, _ in changed}))} has another "
                f"manifest.json. An exact resume needs the same shards; start a new run with init_from=<checkpoint> instead"
            )
        self.handed_out = state["step"] * self.schedule.accumulate


class _Requests:
    """A batch sampler over requests; its own class so that the DataLoader knows its length."""

    def __init__(self, schedule: Schedule, first: int, last: int) -> None:
        self.schedule, self.first, self.last = schedule, first, last

    def __len__(self) -> int:
        return (self.last - self.first) * self.schedule.accumulate

    def __iter__(self) -> Iterator[Any]:
        return self.schedule.requests(self.first, self.last)
