"""Items of a dataset: what is said of each sample, read without its images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from medvlp.combinations import Values, values_of
from medvlp.distributed import on_all_ranks
from medvlp.eval.statistics.fields import Field, fields_of
from medvlp.shards import BadSample, Sample, ShardDataset


@dataclass(frozen=True)
class Item:
    """A sample without its images: key, group, texts, labels and metadata."""

    key: str
    group: str
    """What must stay together, such as an article or a patient; the key where the sample names none."""
    texts: dict[str, str]
    labels: dict[str, Any]
    group_kind: str = ""
    """What a group is, such as article or patient; empty where the sample does not state it."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """All that the sample's metadata hold, the group included."""

    @property
    def fields(self) -> dict[str, Field]:
        """Labels and metadata by which subgroups can be formed; a label goes before metadata of its name."""
        return fields_of(self.metadata, self.labels)


def item_of(sample: Sample) -> Item:
    """The item of a sample."""
    metadata = sample.metadata
    group, kind = str(metadata.get("group") or sample.key), str(metadata.get("group_kind") or "")
    return Item(sample.key, group, dict(sample.texts), dict(sample.labels), kind, dict(metadata))


READ_AT_ONCE = 256
"""Samples that a rank reads in one turn."""

Result = TypeVar("Result")


def read_samples(
    dataset: ShardDataset, rows: Sequence[int], of_sample: Callable[[Sample, int], Result]
) -> tuple[list[Result], dict[str, str]]:
    """What is made of each readable sample, in order, and key → reason of the others. Where torch.distributed runs, every
    rank reads its share and gets all.

    of_sample: (sample, row) → a result.
    """

    def read(batch: Sequence[int]) -> tuple[list[Result], dict[str, str]]:
        results, bad = [], {}
        for row in batch:
            try:
                sample = dataset.read(row)
            except BadSample as problem:
                bad[dataset.key(row)] = problem.reason
                continue
            results.append(of_sample(sample, row))
        return results, bad

    parts = on_all_ranks([rows[start : start + READ_AT_ONCE] for start in range(0, len(rows), READ_AT_ONCE)], read)
    results = [result for part in parts for result in part[0]]
    return results, {key: reason for part in parts for key, reason in part[1].items()}


_items: dict[tuple[str, str], list[Item | BadSample]] = {}
"""(folder, manifest's hash) → items; of the folder, too, because what is there may be damaged in one and not in another."""


def items_of(dataset: ShardDataset) -> list[Item | BadSample]:
    """A row's item, or why it cannot be read; read once a process for all tasks."""
    key = str(dataset.folder), dataset.manifest_hash
    if key not in _items:
        _items[key] = [_read(dataset, row) for row in range(len(dataset))]
    return _items[key]


def sample_values(dataset: ShardDataset) -> dict[str, Values]:
    """Key → values of a sample's metadata and labels, lists included, which a record's fields are without."""
    items = [item for item in items_of(dataset) if isinstance(item, Item)]
    return {item.key: values_of(item.metadata, item.labels) for item in items}


def _read(dataset: ShardDataset, row: int) -> Item | BadSample:
    try:
        return item_of(dataset.read_text(row))
    except BadSample as problem:
        return problem
