"""Contents of a prepared folder, by its ledger, manifests and tables: columns are streamed, never a list of samples."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medvlp.report.dataset.ledger import Drops, drops_of
from medvlp.report.files import NotARun, Row, explained, read_json
from medvlp.shards import ShardDataset, ShardError
from medvlp.shards.manifest import LEDGER, MANIFEST, SAMPLES
from medvlp.shards.publication import Publication

if TYPE_CHECKING:
    import pyarrow as pa

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Split:
    """One split by the columns of its table."""

    name: str
    manifest_hash: str
    samples: int
    groups: int
    samples_in: int | None
    drops: Drops


@dataclass(frozen=True)
class Contents:
    """A finished preparation."""

    folder: Path
    ledger: Row
    datasets: list[ShardDataset]
    """The splits, by name."""

    @property
    def stages(self) -> list[Row]:
        """What all samples went through: the source first. The same in every split."""
        return self.datasets[0].manifest.stages

    @property
    def source(self) -> str:
        """The name of the source; the folder's own name is the user's, and no part of the data."""
        return str(self.stages[0].get("source") or "unnamed") if self.stages else "unnamed"

    @property
    def publications(self) -> dict[str, Publication]:
        """Source → the publication that its ledger states; empty for files that anyone may have, such as a folder's."""
        facts = self.ledger.get("source", {})
        return {facts["name"]: Publication(**facts["publication"])} if "publication" in facts else {}

    @property
    def tools(self) -> dict[str, str]:
        """Versions of what made the bytes."""
        return self.datasets[0].manifest.tools

    @property
    def samples(self) -> int:
        """Over all splits."""
        return sum(map(len, self.datasets))

    @property
    def samples_in(self) -> int:
        """Samples that came in, panels included."""
        return int(self.ledger["in"])

    @property
    def drops(self) -> Drops:
        """Over all splits."""
        return drops_of(self.ledger)

    @property
    def stage_counts(self) -> list[tuple[str, str, int]]:
        """(stage, subject, how often): the stages' own counts."""
        pages = self.ledger.get("counts", {})
        return [(stage, subject, int(count)) for stage, page in pages.items() for subject, count in page.items()]

    @property
    def blacked(self) -> dict[str, float]:
        """Key → share of an image that de-identification blacked out, of the samples that lost most."""
        images = self.ledger.get("blacked", [])
        return {str(image["key"]): float(image["share"]) for image in reversed(images)}

    @property
    def moved(self) -> dict[str, int]:
        """ "train→test" → samples that changed their split."""
        return {str(move): int(count) for move, count in self.ledger.get("moved", {}).items()}

    def stage(self, name: str) -> Row | None:
        """A stage with its parameters, if the samples went through it."""
        return next((entry for entry in self.stages if entry.get("stage") == name), None)

    def counts(self, column: str) -> list[tuple[str, int]]:
        """(value, samples) of a column of samples.parquet, most frequent first."""
        counts: Counter[str] = Counter()
        for dataset in self.datasets:
            counts.update(_value_counts(dataset, column))
        return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))

    def numbers(self, column: str) -> np.ndarray:
        """(N,) int32: a column of numbers over all splits."""
        batches = [batch.column(0).to_numpy() for dataset in self.datasets for batch in _batches(dataset, [column])]
        return np.concatenate([np.zeros(0, np.int32), *batches])

    @cached_property
    def splits(self) -> list[Split]:
        """The splits with their numbers of groups, read once."""
        return [self._split(dataset, groups) for dataset, groups in zip(self.datasets, self._groups, strict=True)]

    @cached_property
    def shared_groups(self) -> int:
        """Groups with samples in more than one split: 0 where splits are made by group."""
        import pyarrow as pa
        import pyarrow.compute as pc

        counts = pa.chunked_array(self._groups, pa.large_string()).value_counts()
        is_shared = pc.and_(pc.greater(counts.field("counts"), 1), pc.not_equal(counts.field("values"), ""))
        return int(pc.sum(is_shared).as_py() or 0)

    @cached_property
    def group_line(self) -> str:
        """What groups keep apart: nothing where each sample is a group of its own."""
        unnamed = sum(count for group, count in self.counts("group") if group == NOT_STATED)
        groups = sum(split.groups for split in self.splits)
        if groups >= self.samples - unnamed:
            return (
                "Each sample is a group of its own: nothing says which are of one patient, article or volume, so splits may "
                "share them."
            )
        shared_line = f"{self.shared_groups or 'No'} {'groups are' if self.shared_groups > 1 else 'group is'}"
        unnamed_line = f" {unnamed} samples name no group." if unnamed else ""
        return f"{shared_line} in more than one split.{unnamed_line}"

    @cached_property
    def _groups(self) -> "list[pa.Array]":
        """The distinct groups of every split."""
        return [_distinct(dataset, "group") for dataset in self.datasets]

    def _split(self, dataset: ShardDataset, groups: "pa.Array") -> Split:
        name = dataset.folder.name
        page = self.ledger["splits"].get(name, {})
        return Split(name, dataset.manifest_hash, len(dataset), len(groups), page.get("in"), drops_of(page))


def read_contents(folder: str | Path, source: Row | None = None) -> Contents:
    """Open what `medvlp prep` left. source: its facts, for a ledger that was written before ledgers said it.

    Raises:
        NotARun: no finished split is there, or a file is damaged.
    """
    folder = Path(folder)
    ledger = read_json(folder / LEDGER)
    if ledger and source:
        ledger = {"source": source, **ledger}
    manifests = sorted(folder.glob(f"*/{MANIFEST}"))
    if not ledger or not manifests:
        raise NotARun(f"{folder}: expected ledger.json and at least one finished split, as `medvlp prep` leaves them")
    try:
        contents = Contents(folder, ledger, [ShardDataset(path.parent) for path in manifests])
    except ShardError as error:
        raise NotARun(str(error)) from None
    with explained(folder / LEDGER):
        if int(ledger["in"]) < int(ledger["out"]) or not isinstance(ledger["splits"], dict):
            raise ValueError("more samples went out than came in")
        _ = (
            contents.publications,
            contents.drops,
            contents.stage_counts,
            contents.moved,
            contents.blacked,
            contents.splits,
            [float(count) for *_, count in contents.drops],  # a share is made of each
        )
    return contents


def _batches(dataset: ShardDataset, columns: list[str]) -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = dataset.folder / SAMPLES
    try:
        with pq.ParquetFile(path) as table:
            yield from table.iter_batches(columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path} cannot be read ({error}); restore it, or prepare the split again") from None


def _value_counts(dataset: ShardDataset, column: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for batch in _batches(dataset, [column]):
        for pair in batch.column(0).value_counts().to_pylist():
            counts[str(pair["values"] or NOT_STATED)] += pair["counts"]
    return counts


def _distinct(dataset: ShardDataset, column: str) -> "pa.Array":
    import pyarrow as pa

    batches: list[Any] = [batch.column(0).unique().cast(pa.large_string()) for batch in _batches(dataset, [column])]
    return pa.chunked_array(batches, pa.large_string()).unique()
