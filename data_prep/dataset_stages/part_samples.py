"""The samples of all parts in the data set's order, by their tables: columns are streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medvlp.combinations import Values, item_values
from medvlp.shards import Conversation, Sample, read_members
from medvlp.shards.schema import strict_json
from medvlp.shards.vocabulary import SPLITS

if TYPE_CHECKING:
    import pyarrow as pa

    from data_prep.jobs import Part


FINGERPRINTS_SUFFIX = ".marks.parquet"
"""Of the table of a part's fingerprints; the name is older than the word."""


class PartSamples:
    """All samples of the parts, numbered in order."""

    def __init__(self, folder: Path, parts: Sequence[Part]) -> None:
        self.folder = folder
        self.parts = [part for part in parts if part.samples]
        self.starts = [0, *accumulate(part.samples for part in self.parts)]

    def __len__(self) -> int:
        return self.starts[-1]

    def locate(self, sample: int) -> tuple[Part, int]:
        """The part that holds a sample, and its position there."""
        number = int(np.searchsorted(self.starts, sample, side="right")) - 1
        return self.parts[number], sample - self.starts[number]

    def published_splits(self) -> np.ndarray:
        """(N,) int8: the splits in which the source gave the samples."""
        return np.repeat(
            np.array([SPLITS.index(part.split) for part in self.parts], np.int8), [part.samples for part in self.parts]
        )

    def column(self, name: str) -> Iterator[str]:
        """A column of the tables, streamed."""
        import pyarrow.parquet as pq

        for part in self.parts:
            yield from pq.read_table(part.file(self.folder, ".parquet"), columns=[name]).column(0).to_pylist()

    def groups(self) -> Iterator[str]:
        """Each sample's group; a sample without one is a group of its own."""
        return (group or f"\0{key}" for group, key in zip(self.column("group"), self.column("key"), strict=True))

    def item_values(self) -> Iterator[list[Values]]:
        """Of each sample the values of its items, from its JSON alone: images are not read."""
        for part in self.parts:
            for members in read_members(part.file(self.folder, ".tar"), range(part.samples), names=("json",)):
                content = strict_json(members["json"])
                turns = [Conversation([], metadata=c.get("metadata", {})) for c in content.get("conversations", [])]
                labels, metadata = content.get("labels", {}), content.get("metadata", {})
                yield item_values(Sample("", labels=labels, conversations=turns, metadata=metadata))

    def keys(self, samples: Sequence[int]) -> list[str]:
        """Keys of some samples, a part's table read once for neighbours."""
        import pyarrow.parquet as pq

        key_by_sample: dict[int, str] = {}
        table: tuple[Part, pa.ChunkedArray] | None = None
        for sample in sorted(set(samples)):
            part, position = self.locate(sample)
            if table is None or table[0] is not part:
                table = part, pq.read_table(part.file(self.folder, ".parquet"), columns=["key"]).column(0)
            key_by_sample[sample] = table[1][position].as_py()
        return [key_by_sample[sample] for sample in samples]

    def fingerprint_files(self) -> list[Path]:
        """Tables of fingerprints in order."""
        return [part.file(self.folder, FINGERPRINTS_SUFFIX) for part in self.parts]

    def members(self, sample: int) -> dict[str, bytes]:
        """A sample's members."""
        part, position = self.locate(sample)
        return next(iter(read_members(part.file(self.folder, ".tar"), [position])))
