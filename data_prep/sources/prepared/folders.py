"""Sources that read what `medvlp prep` wrote, to make something else of its samples.

<input>/{train,valid,test}/          splits, as the shard contract says; those that are there
<input>/ledger.json                  whose publication and licence are passed on
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_prep.errors import PrepError
from data_prep.source import Dropped, Source, Unit, chunks
from medvlp.shards import BadSample, Sample, ShardDataset, ShardError
from medvlp.shards.manifest import LEDGER, MANIFEST
from medvlp.shards.publication import Publication
from medvlp.shards.vocabulary import SPLITS


class PreparedSource(Source):
    """Reader of a prepared folder; a subclass makes a sample or a drop of each of its samples.

    Raises:
        PrepError: no split in the folder.
    """

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        self.folder = Path(input)
        self.splits = [name for name in SPLITS if input and (self.folder / name / MANIFEST).is_file()]
        if not self.splits:
            raise PrepError(
                f"input={input or '(not given)'} is no folder that medvlp prep wrote: it lacks <split>/{MANIFEST}; "
                "prepare the data first, and give the folder above its splits"
            )
        self._dataset = lru_cache(maxsize=None)(self._open)
        facts = _facts(self.folder / LEDGER)
        self.licence = str(facts.get("licence") or "")
        self.publication = _publication(facts.get("publication"))

    def made_of(self, sample: Sample, split: str) -> Sample | Dropped:
        """What becomes of a sample; the source may change it."""
        raise NotImplementedError

    def _open(self, split: str) -> ShardDataset:
        try:
            return ShardDataset(self.folder / split)
        except ShardError as error:
            raise PrepError(str(error)) from None

    def fingerprint(self) -> dict[str, str]:
        """The manifest of each split, which has the digests of all its shards."""
        return {f"{split}/{MANIFEST}": self._dataset(split).manifest_hash for split in self.splits}

    def units(self) -> list[Unit]:
        """Consecutive samples of each split."""
        return [
            unit for split in self.splits for unit in chunks(split, len(self._dataset(split)), self.samples_per_shard)
        ]

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """What is made of the samples; one that is damaged is a drop."""
        self.counts.clear()
        dataset = self._dataset(unit.split)
        start, stop = unit.selection
        for row in range(start, stop):
            try:
                sample = dataset.read(row)
            except BadSample as bad:
                yield Dropped(dataset.key(row), bad.reason, bad.detail or "the sample cannot be read")
                continue
            yield self.made_of(sample, unit.split)

    def samples(self, split: str) -> Iterator[Sample]:
        """The readable samples of a split, without their images."""
        dataset = self._dataset(split)
        for row in range(len(dataset)):
            try:
                yield dataset.read_text(row)
            except BadSample:
                continue


def name_of(sample: Sample) -> str:
    """The publisher's name of a sample, for drops."""
    return str(sample.metadata.get("original_name") or sample.key)


def _facts(path: Path) -> dict[str, Any]:
    """What the ledger says of the source; nothing where there is no ledger that can be read."""
    try:
        facts = json.loads(path.read_text("utf-8")).get("source")
    except (OSError, ValueError, AttributeError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _publication(value: Any) -> Publication | None:
    try:
        return Publication(**value)
    except TypeError:
        return None
