"""A split without what conditions on its tables drop, and without what is held out of its labels and metadata."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.combinations import CombinationError, ItemFilter, Occurrences, item_values
from medvlp.selection import Conditions, Selected, select
from medvlp.shards import BadSample, Sample, ShardDataset
from medvlp.shards.manifest import SAMPLES
from medvlp.shards.storage import RemoteSettings

NO_CONDITIONS = Conditions()


class FilteredDataset(ShardDataset):
    """The shards of a split without what is not trained on: fewer samples, and of those fewer conversations.

    Conditions are answered by the split's tables. For a filter, the texts of what they leave are read once; a sample whose text
    cannot be read stays: reading it counts it as bad. Both are the same on every rank. The `manifest_hash` is of the shards, the
    filter and the selected rows, so that orders, caches and resumes tell it from the whole. `manifest` stays the shards' own.

    Args:
        key: what messages call the source.
        tars, remote: see `ShardDataset`.
        conditions: on the tables.

    Raises:
        ShardError: the folder is not a finished split.
        CombinationError: no sample is of one of the combinations, or the filter leaves none.
        ConditionError: as `select`.
    """

    def __init__(
        self,
        folder: str | Path,
        item_filter: ItemFilter,
        key: str,
        tars: str = "",
        remote: RemoteSettings | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> None:
        super().__init__(folder, tars, remote)
        self.item_filter = item_filter
        self.selected: Selected | None = None
        self.all_shards_hash = self.manifest_hash
        material: list[Any] = [self.manifest_hash, item_filter.to_json()]
        if conditions:
            table, count = self.local_file(SAMPLES), self.manifest.samples
            self.selected = select(self.folder, table, count, self.manifest_hash, conditions, f"{key}.where")
            material.append(self.selected.rows_hash)
        self.manifest_hash = hashlib.sha256(json.dumps(material).encode()).hexdigest()
        self.held_out: Counter[str] = Counter()
        """Combination → its items (conversations, or samples without any)."""
        self.reduced_rows: set[int] = set()
        """Rows of the shards that are filtered as they are read: some conversations are held out, or nobody could look."""
        self.rows = np.arange(self.manifest.samples) if self.selected is None else self.selected.rows_N
        if item_filter:
            self.rows = np.array(self._trained_rows(key, self.rows.tolist()), np.int64)
        if not len(self.rows):
            raise CombinationError(
                f"{key}: only and exclude leave none of the {self.manifest.samples} samples of {self.folder}"
            )

    def _trained_rows(self, key: str, selected_rows: Iterable[int]) -> list[int]:
        occurrences = {name: Occurrences(getattr(self.item_filter, name)) for name in ("only", "exclude")}
        rows = []
        for row in selected_rows:
            try:
                of_items = item_values(super().read_text(row))
            except BadSample:
                rows.append(row)
                self.reduced_rows.add(row)
                continue
            for values in of_items:
                for counted in occurrences.values():
                    counted.add(values)
            reasons = [self.item_filter.reason(values) for values in of_items]
            self.held_out.update(reason for reason in reasons if reason)
            if not all(reasons):
                rows.append(row)
                self.reduced_rows.update([row] if any(reasons) else [])
        for name, counted in occurrences.items():
            counted.check(f"{key}.{name}", str(self.folder))
        return rows

    @property
    def shards_hash(self) -> str:
        return self.all_shards_hash

    @property
    def keys(self) -> list[str]:
        return self._keys.take(self.rows).to_pylist()

    @property
    def summary(self) -> str:
        """What is trained on and what is not, in words."""
        parts = [f"{len(self)} of {self.manifest.samples} samples are trained on"]
        parts += [self.selected.dropped_words] if self.selected else []
        if self.item_filter:
            reasons = "; ".join(f"{name} ({count} items)" for name, count in self.held_out.items())
            parts.append(f"held out: {reasons or 'nothing'}")
        return "; ".join(parts)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"FilteredDataset({str(self.folder)!r}, {len(self)} of {self.manifest.samples} samples)"

    def _row(self, i: int) -> int:
        if not 0 <= i < len(self.rows):
            raise IndexError(f"sample {i} of {self!r}")
        return int(self.rows[i])

    def locate(self, i: int) -> tuple[str, int]:
        """The shard's file name and the sample's position in it."""
        return super().locate(self._row(i))

    def key(self, i: int) -> str:
        """The key of sample i."""
        return super().key(self._row(i))

    def column(self, name: str) -> list[Any]:
        """A column of samples.parquet as a list, in the samples' order."""
        return self._arrow_column(name).take(self.rows).to_pylist()

    def read(self, i: int) -> Sample:
        """Sample i with the conversations that are trained on. Raises IndexError, and BadSample as a `ShardDataset`."""
        row = self._row(i)
        return self._reduced(row, super().read(row))

    def read_text(self, i: int) -> Sample:
        """Sample i likewise, without its images."""
        row = self._row(i)
        return self._reduced(row, super().read_text(row))

    def read_images(self, i: int, names: Sequence[str]) -> Sample:
        """Sample i likewise, with these of its images."""
        row = self._row(i)
        return self._reduced(row, super().read_images(row, names))

    def image_names(self, i: int) -> list[str]:
        """Names of sample i's images. Raises BadSample as a `ShardDataset`."""
        return super().image_names(self._row(i))

    def _reduced(self, row: int, sample: Sample) -> Sample:
        return self.item_filter.reduced(sample) if row in self.reduced_rows else sample


def open_split(
    folder: str | Path,
    item_filter: ItemFilter,
    key: str,
    tars: str = "",
    remote: RemoteSettings | None = None,
    conditions: Conditions = NO_CONDITIONS,
) -> ShardDataset:
    """A split as it is trained on: the shards, without what is not. Raises as `FilteredDataset`."""
    if item_filter or conditions:
        return FilteredDataset(folder, item_filter, key, tars, remote, conditions)
    return ShardDataset(folder, tars, remote)
