"""Datasets of a run: samples by request, and the replacement of one that cannot be read."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from torch.utils import data as torch_data

from medvlp.data.order import philox
from medvlp.data.plan import Request
from medvlp.errors import UserError
from medvlp.shards import BadSample, Sample

Prepare = Callable[[Sample, int, np.random.Generator], dict[str, Any]]
"""(sample, number of its source, random state) → the fields that `collate` batches. Raises BadSample."""

ATTEMPTS = 20
"""Replacements tried for one sample before the data is called unusable."""


class Unreadable(UserError):
    """So many samples in a row are bad that no replacement was found."""


class Dataset(Protocol):
    """Samples of one source by row: `ShardDataset`, or a view of one."""

    @property
    def manifest_hash(self) -> str:
        """What identifies its content and its order of rows."""

    @property
    def shards_hash(self) -> str:
        """The hash of the shards' own manifest, whatever view of them this is."""

    def __len__(self) -> int:
        """Rows."""

    def read(self, i: int, /) -> Sample:
        """Row i; raises BadSample."""

    def key(self, i: int, /) -> str:
        """The key of row i."""

    def locate(self, i: int, /) -> tuple[str, int]:
        """The shard of row i, and its position there."""


class RequestedSamples(torch_data.Dataset[dict[str, Any]]):
    """Samples of several sources by request: read, decoded, augmented.

    All randomness is keyed by (seed, epoch, position), so it depends on neither worker nor rank. A bad sample is
    replaced by one of its own source, sampled with the same key; what was bad is returned with it.

    Args:
        sources: names and datasets, numbered as in the order.
        prepare: the stages from sample to fields.
        seed: the run's seed.
        replace: put another sample in a bad one's place; otherwise it stays empty, as in a pack whose length was
            planned.
    """

    def __init__(
        self, sources: Sequence[tuple[str, Dataset]], prepare: Prepare, seed: int, replace: bool = True
    ) -> None:
        self.sources, self.prepare, self.seed = list(sources), prepare, seed
        self.attempts = ATTEMPTS if replace else 1
        self.starts = np.cumsum([0, *(len(dataset) for _, dataset in sources)])

    def __getitem__(self, request: Request) -> dict[str, Any]:
        """{"items": [fields of each sample, with "key" and "position"], "bad": [what was bad], "total": the request's}."""
        items, bad = [], []
        for position, number in zip(request.positions, request.samples, strict=True):
            item, problems = self._read(request.epoch, position, number)
            items += [] if item is None else [item]
            bad += problems
        return {"items": items, "bad": bad, "total": request.total}

    def _read(self, epoch: int, position: int, number: int) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        index = int(np.searchsorted(self.starts, number, side="right")) - 1
        name, dataset = self.sources[index]
        row = number - int(self.starts[index])
        key = (self.seed, epoch, position)
        spare = np.random.Generator(philox("replacement", *key))
        bad: list[dict[str, Any]] = []
        for _ in range(self.attempts):
            try:
                sample = dataset.read(row)
                fields = self.prepare(sample, index, np.random.Generator(philox("augmentation", *key)))
                return {"key": sample.key, "position": position, **fields}, bad
            except BadSample as problem:
                shard, _ = dataset.locate(row)
                bad.append(
                    {
                        "key": dataset.key(row),
                        "source": name,
                        "shard": shard,
                        "reason": problem.reason,
                        "detail": problem.detail,
                        "epoch": epoch,
                        "position": position,
                    }
                )
                row = int(spare.integers(len(dataset)))
        if self.attempts == 1:
            return None, bad
        raise Unreadable(
            f"source {name!r}: {ATTEMPTS} samples in a row could not be read, the last is {bad[-1]['key']} in shard "
            f"{bad[-1]['shard']}: {bad[-1]['reason']} ({bad[-1]['detail']}). Check the folder with `medvlp verify`"
        )
