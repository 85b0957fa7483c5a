"""Reading what a request asks for, and what replaces a sample that cannot be read."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from medvlp.data.order import philox
from medvlp.data.plan import Request
from medvlp.shards import BadSample, Sample, ShardDataset

Prepare = Callable[[Sample, int, np.random.Generator], dict[str, Any]]
"""(sample, number of its source, random state) → the fields that `collate` batches. Raises BadSample."""

ATTEMPTS = 20
"""Replacements tried for one place before the data is called unusable."""


class Unreadable(RuntimeError):
    """So many samples in a row are bad that no replacement was found."""


class Units(Dataset[dict[str, Any]]):
    """Samples of several sources by request: read, decoded, augmented.

    All randomness is keyed by (seed, epoch, position), so it depends on neither worker nor rank. A bad sample is
    replaced by one of its own source, drawn from the same key; what was bad is returned beside the unit.

    Args:
        sources: names and shard folders, numbered as in the order.
        prepare: the stages from sample to fields.
        seed: the run's seed.
    """

    def __init__(self, sources: Sequence[tuple[str, ShardDataset]], prepare: Prepare, seed: int) -> None:
        self.sources, self.prepare, self.seed = list(sources), prepare, seed
        self.starts = np.cumsum([0, *(len(dataset) for _, dataset in sources)])

    def __getitem__(self, request: Request) -> dict[str, Any]:
        """{"items": [fields of each sample, with "key"], "bad": [what was replaced]}."""
        items, bad = [], []
        for place, number in enumerate(request.samples):
            item, problems = self._read(request, place, number)
            items.append(item)
            bad += problems
        return {"items": items, "bad": bad}

    def _read(self, request: Request, place: int, number: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        index = int(np.searchsorted(self.starts, number, side="right")) - 1
        name, dataset = self.sources[index]
        row = number - int(self.starts[index])
        key = (self.seed, request.epoch, request.position, place)
        spare = np.random.Generator(philox("replacement", *key))
        bad: list[dict[str, Any]] = []
        for _ in range(ATTEMPTS):
            try:
                sample = dataset.read(row)
                fields = self.prepare(sample, index, np.random.Generator(philox("augmentation", *key)))
                return {"key": sample.key, **fields}, bad
            except BadSample as problem:
                shard, _ = dataset.locate(row)
                bad.append(
                    {
                        "key": dataset.key(row),
                        "source": name,
                        "shard": shard,
                        "reason": problem.reason,
                        "detail": problem.detail,
                        "epoch": request.epoch,
                        "position": request.position,
                    }
                )
                row = int(spare.integers(len(dataset)))
        raise Unreadable(
            f"source {name!r}: {ATTEMPTS} samples in a row could not be read, the last is {bad[-1]['key']} in shard "
            f"{bad[-1]['shard']}: {bad[-1]['reason']} ({bad[-1]['detail']}). Check the folder with `medvlp verify`"
        )
