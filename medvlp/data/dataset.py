"""Datasets of a run: samples by request, and the replacement of one that cannot be read."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch.utils import data as torch_data

from medvlp.data.order import philox
from medvlp.data.plan import Request
from medvlp.errors import UserError
from medvlp.shards import BadSample, Sample, ShardDataset

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


@runtime_checkable
class ChangingDataset(Protocol):
    """A dataset whose samples are others in every epoch."""

    def read_in(self, i: int, epoch: int, /) -> Sample:
        """Row i in an epoch; raises BadSample."""


class TextsOnly:
    """A dataset whose samples are read without their images, which something else stands for."""

    def __init__(self, dataset: ShardDataset) -> None:
        self.dataset = dataset

    @property
    def manifest_hash(self) -> str:
        return self.dataset.manifest_hash

    @property
    def shards_hash(self) -> str:
        return self.dataset.shards_hash

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, i: int) -> Sample:
        """Row i; `images` is empty. Raises BadSample."""
        return self.dataset.read_text(i)

    read_text = read

    def key(self, i: int) -> str:
        return self.dataset.key(i)

    def locate(self, i: int) -> tuple[str, int]:
        return self.dataset.locate(i)


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
        counts_NH: what each sample counts in the divisors of the losses; a replacement counts as much, where there is one
            that does.
    """

    def __init__(
        self,
        sources: Sequence[tuple[str, Dataset]],
        prepare: Prepare,
        seed: int,
        replace: bool = True,
        counts_NH: NDArray[np.float64] | None = None,
    ) -> None:
        self.sources, self.prepare, self.seed, self.counts_NH = list(sources), prepare, seed, counts_NH
        self.attempts = ATTEMPTS if replace else 1
        self.starts = np.cumsum([0, *(len(dataset) for _, dataset in sources)])

    def __getitem__(self, request: Request) -> dict[str, Any]:
        """{"items": [fields of each sample, its key, position and source], "bad": [what was bad], "total": the request's}."""
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
        spare: np.random.Generator | None = None
        bad: list[dict[str, Any]] = []
        rows_tried = []
        for _ in range(self.attempts):
            try:
                sample = dataset.read_in(row, epoch) if isinstance(dataset, ChangingDataset) else dataset.read(row)
                fields = self.prepare(sample, index, np.random.Generator(philox("augmentation", *key)))
                return {"key": sample.key, "position": position, "source": index, **fields}, bad
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
                rows_tried.append(row)
                spare = spare or np.random.Generator(philox("replacement", *key))
                row = self._replacement(spare, index, rows_tried)
        if self.attempts == 1:
            return None, bad
        raise Unreadable(
            f"source {name!r}: {ATTEMPTS} samples in a row could not be read, the last is {bad[-1]['key']} in shard "
            f"{bad[-1]['shard']}: {bad[-1]['reason']} ({bad[-1]['detail']}). Check the folder with `medvlp verify`"
        )

    def _replacement(self, spare: np.random.Generator, index: int, rows_tried: Sequence[int]) -> int:
        """A row of the source; rows_tried: the bad one, and its bad replacements."""
        start, stop = self.starts[index], self.starts[index + 1]
        if self.counts_NH is not None:
            counts_MH = self.counts_NH[start:stop]
            is_equal_M = (counts_MH == counts_MH[rows_tried[0]]).all(axis=1)
            is_equal_M[list(rows_tried)] = False
            if is_equal_M.any():
                return int(spare.choice(np.flatnonzero(is_equal_M)))
        return int(spare.integers(stop - start))
