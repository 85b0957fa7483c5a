"""Embeddings of a dataset's images and of texts, computed once for each encoder and shared by all tasks.

Legend: B batch, C channels, H height, W width, D embedding width, N items.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medvlp.data.images.decode import decode_image
from medvlp.data.loader import batches as loaded_batches
from medvlp.distributed import of_this_rank, on_all_ranks
from medvlp.eval.errors import TaskError
from medvlp.eval.statistics.fields import Field, fields_of
from medvlp.shards import BadSample, ShardDataset

Result = TypeVar("Result")


class Encoder(Protocol):
    """A model that gives embeddings: unit vectors in float32, on the CPU."""

    @property
    def identity(self) -> str:
        """Hash of the weights and the transform: equal identities give equal embeddings."""

    def transform(self, image: Image.Image) -> Tensor:
        """An RGB image to pixels_CHW."""

    def encode_image(self, pixels_BCHW: Tensor) -> Tensor:
        """embeddings_BD of one batch."""

    def encode_text(self, texts: list[str]) -> Tensor:
        """embeddings_BD of one batch."""


@dataclass(frozen=True)
class Item:
    """A sample without its images: key, group, texts and labels."""

    key: str
    group: str
    """What must stay together, such as an article or a patient; the key where the sample names none."""
    texts: dict[str, str]
    labels: dict[str, Any]
    group_kind: str = ""
    """What a group is, such as article or patient; empty where the sample does not state it."""
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Field]:
        """Labels and metadata by which subgroups can be formed; a label goes before metadata of its name."""
        return fields_of(self.metadata, self.labels)


@dataclass(frozen=True)
class ImageEmbeddings:
    """All readable images of a dataset, in its order."""

    items: list[Item]
    embeddings_ND: Tensor
    bad: dict[str, str]
    """Key → reason of the samples that could not be read, which no metric includes."""

    def bad_counts(self) -> dict[str, int]:
        """Reason → number of samples."""
        return dict(sorted(Counter(self.bad.values()).items()))


class CachedEncoder:
    """An encoder whose embeddings of a dataset's images and of texts are computed once, and kept in memory.

    Images are read and decoded once for each dataset manifest, however many tasks ask for them. Where torch.distributed
    runs, each rank encodes its share of the batches and all ranks get the whole result, in the same order: every rank has
    to make the same calls. A sample of several images is represented by its first.

    Args:
        encoder: the model. Its weights must not change: make another one for other weights.
        batch_size: images, or texts, encoded at once.
        workers: loader processes that read, decode and transform; 0 does it in this one.
        max_pixels: larger images are bad samples.
    """

    offers: ClassVar[tuple[str, ...]] = ("encode_image", "encode_text")

    def __init__(self, encoder: Encoder, batch_size: int, workers: int, max_pixels: int) -> None:
        self.encoder = encoder
        self.batch_size, self.workers, self.max_pixels = batch_size, workers, max_pixels
        self._images: dict[str, ImageEmbeddings] = {}
        self._texts: dict[tuple[str, ...], Tensor] = {}

    @property
    def identity(self) -> str:
        """The encoder's."""
        return self.encoder.identity

    def images(self, dataset: ShardDataset) -> ImageEmbeddings:
        """Embeddings of every readable image.

        Raises:
            TaskError: no image of the dataset could be read.
        """
        if dataset.manifest_hash not in self._images:
            self._images[dataset.manifest_hash] = self._encode_dataset(dataset)
        return self._images[dataset.manifest_hash]

    def texts(self, texts: Sequence[str]) -> Tensor:
        """embeddings_ND of texts, in their order."""
        key = tuple(texts)
        if key not in self._texts:
            parts = on_all_ranks(self._batches(len(key)), lambda rows: self.encoder.encode_text([key[i] for i in rows]))
            self._texts[key] = torch.cat(parts)
        return self._texts[key]

    def _batches(self, count: int) -> list[range]:
        return [range(start, min(start + self.batch_size, count)) for start in range(0, count, self.batch_size)]

    def _encode_dataset(self, dataset: ShardDataset) -> ImageEmbeddings:
        batches = self._batches(len(dataset))
        loader: DataLoader[Any] = DataLoader(
            _Images(dataset, self.encoder.transform, self.max_pixels),
            batch_sampler=[list(rows) for rows in of_this_rank(batches)],
            num_workers=self.workers,
            collate_fn=_split_batch,
            # A loader draws its seed from the global generator, which would change a training run that evaluates.
            generator=torch.Generator(),
        )
        stream: Iterator[_Batch] = loaded_batches(loader)

        def encode(rows: range) -> tuple[list[Item], list[Tensor], dict[str, str]]:
            items, pixels, bad = next(stream)
            return items, [self.encoder.encode_image(torch.stack(pixels))] if pixels else [], bad

        parts = on_all_ranks(batches, encode)
        bad = {key: reason for part in parts for key, reason in part[2].items()}
        embeddings = [embeddings_BD for part in parts for embeddings_BD in part[1]]
        if not embeddings:
            reasons = dict(Counter(bad.values()))
            raise TaskError(f"none of the {len(dataset)} samples has a readable image ({reasons}); check the dataset")
        return ImageEmbeddings([item for part in parts for item in part[0]], torch.cat(embeddings), bad)


_Batch = tuple[list[Item], list[Tensor], dict[str, str]]


class _Images(Dataset[tuple[Item, Tensor] | tuple[str, str]]):
    """Row → (item, pixels_CHW), or (key, reason) of a sample that cannot be read."""

    def __init__(self, dataset: ShardDataset, transform: Callable[[Image.Image], Tensor], max_pixels: int) -> None:
        self.dataset, self.transform, self.max_pixels = dataset, transform, max_pixels

    def __getitem__(self, row: int) -> tuple[Item, Tensor] | tuple[str, str]:
        try:
            sample = self.dataset.read(row)
            if not sample.images:
                return sample.key, "no_image"
            pixels_CHW = self.transform(decode_image(sample.images[min(sample.images)], self.max_pixels))
        except BadSample as problem:
            return self.dataset.key(row), problem.reason
        group = str(sample.metadata.get("group") or sample.key)
        kind = str(sample.metadata.get("group_kind") or "")
        item = Item(sample.key, group, dict(sample.texts), dict(sample.labels), kind, dict(sample.metadata))
        return item, pixels_CHW


def _split_batch(rows: list[tuple[Item, Tensor] | tuple[str, str]]) -> _Batch:
    items, pixels, bad = [], [], {}
    for first, second in rows:
        if isinstance(first, Item) and isinstance(second, Tensor):
            items.append(first)
            pixels.append(second)
        else:
            bad[str(first)] = str(second)
    return items, pixels, bad
