"""Images with class labels. B: this rank's samples; N: samples; S: side of the image; C: classes of a head."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medvlp.data.batch import Batch, sample_fields
from medvlp.data.dataset import Dataset
from medvlp.data.images.crop import RandomView, stacked
from medvlp.data.labels import ClassLabels, LabelTable, UnknownLabel, read_labels
from medvlp.data.order import Order
from medvlp.data.pipeline import BatchPipeline, OpenedSources, Sources
from medvlp.data.plan import SamplePlan, Total
from medvlp.distributed import launched_rank
from medvlp.errors import UserError
from medvlp.shards import BadSample, Sample, ShardDataset

LABEL_BYTES = 2**12
"""Of a sample in a batch at most, besides its image."""
MOST_UNKNOWN = 5
"""Unknown labels in a message."""
NOT_ONE = "{} images, one is classified"


@dataclass(kw_only=True)
class LabelledBatch(Batch):
    """Images with their labels; all mappings are by head."""

    images_BCHW: Tensor
    """uint8 (B, 3, S, S), or float32 from 0 to 255 with deep views."""
    targets: dict[str, Tensor]
    """int64 (B,), the class or -1; of several labels float32 (B, C): 1, 0, or NaN where one is missing."""
    weights: dict[str, Tensor]
    """float32 (C,), of the heads that have class weights."""
    totals: dict[str, float]
    """What the loss, summed over the whole step, is divided by."""


@dataclass(frozen=True)
class HeadLabels:
    """What a head learns from. balanced: class weights are from the classes' counts, else `class_weights` has them."""

    labels: ClassLabels
    balanced: bool = False
    class_weights: tuple[float, ...] = ()

    def weights_of(self, tables: Sequence[LabelTable]) -> Tensor | None:
        """(C,) class weights; None where there are none.

        Raises:
            UserError: balanced, and a class does not occur.
        """
        if not self.balanced:
            return torch.tensor(self.class_weights) if self.class_weights else None
        counts = [table.counts() for table in tables]
        positive_C, negative_C = (
            np.array([sum(count[name][side] for count in counts) for name in self.labels.classes], np.float64)
            for side in (0, 1)
        )
        absent = [name for name, count in zip(self.labels.classes, positive_C, strict=True) if not count]
        if absent:
            raise UserError(f"balanced: no sample shows the class {absent[0]!r}, so that its weight would be infinite")
        weights_C = negative_C / positive_C
        if not self.labels.multi_label:
            weights_C = positive_C.sum() / (len(positive_C) * positive_C)
        if not weights_C.all():
            raise UserError("balanced: a class is shown by every sample, so that its weight would be 0")
        return torch.tensor(weights_C, dtype=torch.float32)


@dataclass
class PrepareLabelled:
    """Sample → image and targets.

    Args:
        heads: how each reads its labels.
        view: image file → what is trained on.
    """

    heads: Mapping[str, ClassLabels]
    view: RandomView

    def __call__(self, sample: Sample, source: int, rng: np.random.Generator) -> dict[str, Any]:
        """image: uint8 (3, S, S); targets: of each head.

        Raises:
            BadSample: not one image, one that cannot be read, or an unknown label.
        """
        if len(sample.images) != 1:
            raise BadSample("not_one_image", key=sample.key, detail=NOT_ONE.format(len(sample.images)))
        try:
            targets = {
                name: (head.states if head.multi_label else head.class_index)(sample.labels, sample.metadata)
                for name, head in self.heads.items()
            }
        except UnknownLabel as error:
            raise BadSample("unknown_label", key=sample.key, detail=str(error)) from None
        return {"image": self.view(next(iter(sample.images.values())), rng), "targets": targets}


@dataclass
class CollateLabelled:
    """Units → a batch. weights: class weights of the heads that have some."""

    heads: Mapping[str, ClassLabels]
    weights: Mapping[str, Tensor]

    def __call__(self, units: list[dict[str, Any]]) -> LabelledBatch:
        items = [item for unit in units for item in unit["items"]]
        targets = {name: torch.as_tensor(np.stack([item["targets"][name] for item in items])) for name in self.heads}
        return LabelledBatch(
            **sample_fields(units),
            images_BCHW=stacked([item["image"] for item in items]),
            targets=targets,
            weights=dict(self.weights),
            totals=dict(zip(self.heads, units[0]["total"], strict=True)),
        )


class LabelPlan(SamplePlan):
    """Every sample stands alone; a step's losses are divided by what its labels count.

    Args:
        order: the sequence of samples.
        counts_NH: what the labels of each sample count in the divisor of each head's loss.
    """

    def __init__(self, order: Order, counts_NH: NDArray[np.float64]) -> None:
        super().__init__(order)
        self.counts_NH = counts_NH

    def total(self, numbers: NDArray[np.int64]) -> Total:
        """Of each head; 1 where no sample of the step has a label of it."""
        total_H = self.counts_NH[numbers].sum(axis=0)
        return tuple(float(total) if total > 0 else 1.0 for total in total_H)


class SomeRows:
    """Some rows of a dataset, in their order."""

    def __init__(self, dataset: ShardDataset, rows: NDArray[np.int64]) -> None:
        self.dataset, self.rows = dataset, rows
        self.shards_hash: str = dataset.shards_hash
        digest = hashlib.sha256(dataset.manifest_hash.encode())
        digest.update(rows.tobytes())
        self.manifest_hash: str = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, i: int) -> Sample:
        """Row i; raises BadSample."""
        return self.dataset.read(int(self.rows[i]))

    def key(self, i: int) -> str:
        """The key of row i."""
        return self.dataset.key(int(self.rows[i]))

    def locate(self, i: int) -> tuple[str, int]:
        """The shard of row i, and its position there."""
        return self.dataset.locate(int(self.rows[i]))


class LabelPipeline(BatchPipeline):
    """Shards → batches of images with class labels.

    Samples without a label for any head, or with another number of images than one, are skipped, and named in the run's
    ledger.

    Args:
        heads: what each head learns from.
        prepare: sample → image and targets of these heads.
    """

    prepare: PrepareLabelled
    collate: CollateLabelled

    def __init__(self, heads: Mapping[str, HeadLabels], prepare: PrepareLabelled) -> None:
        self.heads, self.prepare, self.labels = dict(heads), prepare, prepare.heads
        self.sample_bytes = prepare.view.image_bytes + LABEL_BYTES

    def open(self, sources: Sources) -> OpenedSources:
        datasets: dict[str, Dataset] = {}
        tables: list[list[LabelTable]] = []
        skipped: list[dict[str, str]] = []
        for name, shards in sources.items():
            source_tables = read_labels(shards, list(self.labels.values()))
            self._refuse_unknown(name, source_tables)
            is_labelled_N = np.stack([table.is_labelled_N for table in source_tables]).any(axis=0)
            if not is_labelled_N.any():
                raise UserError(f"data.sources.{name}: no sample has a label that objective.heads reads")
            reasons = {int(row): ("no_label", "of no head") for row in np.flatnonzero(~is_labelled_N)}
            reasons |= {row: ("not_one_image", detail) for row, detail in several_images(shards)}
            datasets[name] = shards
            if reasons:
                rows = np.array([row for row in range(len(shards)) if row not in reasons], np.int64)
                if not len(rows):
                    raise UserError(f"data.sources.{name}: no sample with a label has one image")
                datasets[name] = SomeRows(shards, rows)
                source_tables = [table.take(rows) for table in source_tables]
                skipped += [
                    {"source": name, "key": shards.key(row), "reason": reason, "detail": detail}
                    for row, (reason, detail) in sorted(reasons.items())
                ]
            tables.append(source_tables)
        self._count(tables)
        return OpenedSources(datasets, skipped)

    def _refuse_unknown(self, source: str, tables: Sequence[LabelTable]) -> None:
        """Raises UserError where a label is neither a class nor excluded, or is none at all."""
        for name, table in zip(self.heads, tables, strict=True):
            if table.unreadable:
                reasons = ", ".join(
                    f"{reason} ({count})" for reason, count in table.unreadable.most_common(MOST_UNKNOWN)
                )
                raise UserError(
                    f"data.sources.{source}: {table.unreadable.total()} values of objective.heads.{name} cannot be read "
                    f"(label {table.labels.field!r}): {reasons}. Expected "
                    + (
                        "a list of names, or class: 1, 0, -1 or null"
                        if table.labels.multi_label
                        else "one name; kind: multi_label reads lists and mappings"
                    )
                )
            if table.unknown:
                first = ", ".join(f"{label!r} ({count})" for label, count in table.unknown.most_common(MOST_UNKNOWN))
                raise UserError(
                    f"data.sources.{source}: {table.unknown.total()} labels are no class of objective.heads.{name}: {first}. "
                    f"Its classes are {list(table.labels.classes)}; add them there, or to its exclude (`*`: all others)"
                )

    def _count(self, tables: Sequence[Sequence[LabelTable]]) -> None:
        """Class weights and divisors from the labels of all sources, in the order of the blend."""
        weights, counts = {}, []
        for number, (name, head) in enumerate(self.heads.items()):
            head_tables = [source_tables[number] for source_tables in tables]
            try:
                head_weights = head.weights_of(head_tables)
            except UserError as error:
                raise UserError(f"objective.heads.{name}.{error}") from None
            if head_weights is not None:
                weights[name] = head_weights
            counts.append(np.concatenate([divisors(table, head_weights) for table in head_tables]))
            if not any(table.is_labelled_N.any() for table in head_tables):
                raise UserError(
                    f"objective.heads.{name}: no sample has a label of it (label {head.labels.field!r}); `medvlp check` lists "
                    f"the labels that there are"
                )
            if launched_rank() == 0:
                print(summary(name, head_tables), flush=True)
        self.counts_NH = np.stack(counts, axis=1)
        self.collate = CollateLabelled(self.labels, weights)

    def plan(self, order: Order, datasets: Sequence[Dataset]) -> LabelPlan:
        """Sample by sample."""
        assert self.counts_NH is not None  # `open` comes first
        return LabelPlan(order, self.counts_NH)


def several_images(shards: ShardDataset) -> Iterator[tuple[int, str]]:
    """Rows with another number of images than one, and how many these are."""
    for row in range(len(shards)):
        try:
            count = len(shards.image_names(row))
        except BadSample:
            continue  # named when it is read
        if count != 1:
            yield row, NOT_ONE.format(count)


def divisors(table: LabelTable, weights_C: Tensor | None) -> NDArray[np.float64]:
    """(N,) what each sample's labels count: the weight of its class, or how many of several labels are there."""
    if table.labels.multi_label:
        return np.asarray((~np.isnan(table.target)).sum(axis=1), np.float64)
    weights = np.ones(len(table.labels.classes)) if weights_C is None else weights_C.double().numpy()
    return np.where(table.is_labelled_N, weights[table.target], 0.0)


def summary(name: str, tables: Sequence[LabelTable]) -> str:
    """How often the classes of a head occur in training, in a line."""
    counts = [table.counts() for table in tables]
    labelled = sum(int(table.is_labelled_N.sum()) for table in tables)
    total = sum(len(table.target) for table in tables)
    totals = {cls: sum(count[cls][0] for count in counts) for cls in tables[0].labels.classes}
    missing = sum(int(np.isnan(table.target).sum()) for table in tables) if tables[0].labels.multi_label else 0
    note = f", {missing} labels of single classes missing" if missing else ""
    classes = ", ".join(f"{cls!r} {count}" for cls, count in totals.items())
    return f"head {name}: {labelled} of {total} samples have a label{note}: {classes}"
