"""Embeddings of a dataset's images and of texts, computed once for each encoder and shared by all tasks.

Legend: B batch, C channels, H height, W width, D embedding width, N items.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medvlp.data.images.decode import decode_image
from medvlp.data.loader import batches as loaded_batches
from medvlp.distributed import from_first, of_this_rank, on_all_ranks, rank
from medvlp.eval.errors import TaskError
from medvlp.eval.items import Item, items_of
from medvlp.eval.store.embeddings import EmbeddingStore, image_parts, text_parts
from medvlp.shards import BadSample, ShardDataset


class Encoder(Protocol):
    """A model that gives embeddings: unit vectors in float32, on the CPU."""

    @property
    def identity(self) -> str:
        """Hash of the weights and the transform: equal identities give equal embeddings."""

    @property
    def transform_identity(self) -> str:
        """What the transform does: encoders of which this is equal get the same pixels of an image."""

    @property
    def execution(self) -> str:
        """Kind of device and dtype, such as `cpu float32`."""

    def transform(self, image: Image.Image) -> Tensor:
        """An RGB image to pixels_CHW."""

    def encode_image(self, pixels_BCHW: Tensor) -> Tensor:
        """embeddings_BD of one batch."""

    def encode_text(self, texts: list[str]) -> Tensor:
        """embeddings_BD of one batch."""


@runtime_checkable
class PoolingEncoder(Protocol):
    """An encoder that may embed all images of a sample as one."""

    takes_all_images: bool
    """Whether it does."""

    def pool_images(self, image_MD: Tensor, counts_B: Tensor) -> Tensor:
        """(B, D) of samples. image_MD: of their images, one sample after the other; counts_B: how many each has."""


class DeferredEncoder:
    """An encoder that is loaded when something has to be encoded, which is never where all embeddings are in the store.

    Args:
        identity: of the encoder, known without its weights.
        execution: as the loaded encoder's.
        load: makes the encoder.
    """

    def __init__(self, identity: str, execution: str, load: Callable[[], Encoder]) -> None:
        self.identity, self.execution, self.load = identity, execution, load

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder itself."""
        encoder = self.load()
        if encoder.execution != self.execution:
            raise ValueError(f"loaded as {encoder.execution}, expected {self.execution}")
        return encoder

    @property
    def transform_identity(self) -> str:
        """As the encoder's."""
        return self.encoder.transform_identity

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """As the encoder's, and without it: loader processes get a copy of the transform."""
        return self.encoder.transform

    @property
    def takes_all_images(self) -> bool:
        """As the encoder's."""
        return takes_all_images(self.encoder)

    def pool_images(self, image_MD: Tensor, counts_B: Tensor) -> Tensor:
        """As the encoder's."""
        assert isinstance(self.encoder, PoolingEncoder)
        return self.encoder.pool_images(image_MD, counts_B)

    def encode_image(self, pixels_BCHW: Tensor) -> Tensor:
        """As the encoder's."""
        return self.encoder.encode_image(pixels_BCHW)

    def encode_text(self, texts: list[str]) -> Tensor:
        """As the encoder's."""
        return self.encoder.encode_text(texts)


def takes_all_images(encoder: Encoder) -> bool:
    """Whether an encoder embeds all images of a sample as one; others take the first."""
    return isinstance(encoder, PoolingEncoder) and encoder.takes_all_images


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
    """An encoder whose embeddings of a dataset's images and of texts are computed once, and kept in memory and in a store.

    Images are read and decoded once for each dataset manifest, however many tasks ask for them. Where torch.distributed
    runs, each rank encodes its share of the batches and all ranks get the whole result, in the same order: every rank has
    to make the same calls. Rank 0 alone uses the store. A sample of several images is represented by its first, or by
    all of them where the encoder was trained so.

    Args:
        encoder: the model. Its weights must not change: make another one for other weights.
        batch_size: images, or texts, encoded at once.
        workers: loader processes that read, decode and transform; 0 does it in this one.
        max_pixels: larger images are bad samples.
        store: where embeddings are looked for before they are computed; None for weights that were never saved.
    """

    offers: ClassVar[tuple[str, ...]] = ("encode_image", "encode_text")

    def __init__(
        self, encoder: Encoder, batch_size: int, workers: int, max_pixels: int, store: EmbeddingStore | None = None
    ) -> None:
        self.encoder = encoder
        self.batch_size, self.workers, self.max_pixels, self.store = batch_size, workers, max_pixels, store
        self._images: dict[str, ImageEmbeddings] = {}
        self._texts: dict[tuple[str, ...], Tensor] = {}

    @property
    def identity(self) -> str:
        """The encoder's."""
        return self.encoder.identity

    @property
    def decoding(self) -> tuple[str, int, int, bool]:
        """Encoders of which this is the same can encode the same batches."""
        return self.encoder.transform_identity, self.batch_size, self.max_pixels, takes_all_images(self.encoder)

    def images(self, dataset: ShardDataset) -> ImageEmbeddings:
        """Embeddings of every readable image.

        Raises:
            TaskError: no image of the dataset could be read.
        """
        encode_together([self], dataset)
        return self._images[dataset.manifest_hash]

    def texts(self, texts: Sequence[str]) -> Tensor:
        """embeddings_ND of texts, in their order."""
        key = tuple(texts)
        if key not in self._texts:
            parts = text_parts(self.identity, self.encoder.execution, self.batch_size, key)
            embeddings_ND = from_first(lambda: self.store.texts(parts, len(key)) if self.store else None)
            self._texts[key] = self._encode_texts(key, parts) if embeddings_ND is None else embeddings_ND
        return self._texts[key]

    def has_images(self, dataset: ShardDataset) -> bool:
        """Whether the embeddings of a dataset's images are in memory, or were in the store and are now."""
        if dataset.manifest_hash not in self._images:
            parts, keys = self._image_parts(dataset), dataset.keys
            result = from_first(lambda: self.store.images(parts, keys) if self.store else None)
            if result is not None:
                self._keep(dataset, *result)
        return dataset.manifest_hash in self._images

    def keep_images(self, dataset: ShardDataset, embeddings_ND: Tensor, bad: dict[str, str]) -> None:
        """Keep what was computed, in the store too; bad: key → reason of the samples without embeddings."""
        self._keep(dataset, embeddings_ND, bad)
        if self.store and rank() == 0:
            self.store.publish_images(self._image_parts(dataset), dataset, embeddings_ND, bad)

    def _keep(self, dataset: ShardDataset, embeddings_ND: Tensor, bad: dict[str, str]) -> None:
        """What can be read now is used: of a shard that was damaged since, nobody knows what was in it."""
        items = dict(zip(dataset.keys, items_of(dataset), strict=True))
        encoded = [item for key, item in items.items() if key not in bad]
        rows = [row for row, item in enumerate(encoded) if isinstance(item, Item)]
        bad = {key: item.reason for key, item in items.items() if isinstance(item, BadSample)} | bad
        readable = [item for item in encoded if isinstance(item, Item)]
        embeddings_ND = embeddings_ND if len(rows) == len(embeddings_ND) else embeddings_ND[rows]
        self._images[dataset.manifest_hash] = ImageEmbeddings(readable, embeddings_ND, bad)

    def _image_parts(self, dataset: ShardDataset) -> dict[str, Any]:
        execution, data = self.encoder.execution, dataset.manifest_hash
        return image_parts(self.identity, execution, self.batch_size, self.max_pixels, data)

    def _encode_texts(self, texts: tuple[str, ...], parts: dict[str, Any]) -> Tensor:
        batches = _batches(len(texts), self.batch_size)
        embeddings_ND = torch.cat(
            on_all_ranks(batches, lambda rows: self.encoder.encode_text([texts[i] for i in rows]))
        )
        if self.store and rank() == 0:
            self.store.publish_texts(parts, embeddings_ND)
        return embeddings_ND


class CachedTextEncoder(CachedEncoder):
    """An encoder of texts alone, likewise."""

    offers: ClassVar[tuple[str, ...]] = ("encode_text",)


def encode_together(models: Sequence[CachedEncoder], dataset: ShardDataset) -> None:
    """Have every model's embeddings of a dataset's images: each image is read and decoded once for all models that share
    preprocessing, and for none that has its embeddings already.

    Raises:
        TaskError: no image of the dataset could be read.
    """
    groups: dict[Any, list[CachedEncoder]] = {}
    for model in models:
        if not model.has_images(dataset):
            groups.setdefault(model.decoding, []).append(model)
    for group in groups.values():
        _encode_images(group, dataset)


def _encode_images(models: Sequence[CachedEncoder], dataset: ShardDataset) -> None:
    first = models[0]
    batches = _batches(len(dataset), first.batch_size)
    loader: DataLoader[Any] = DataLoader(
        _Images(dataset, first.encoder.transform, first.max_pixels, takes_all_images(first.encoder)),
        batch_sampler=[list(rows) for rows in of_this_rank(batches)],
        num_workers=first.workers,
        collate_fn=_split_batch,
        # A loader draws its seed from the global generator, which would change a training run that evaluates.
        generator=torch.Generator(),
    )
    stream: Iterator[_Batch] = loaded_batches(loader)

    def encode(rows: range) -> tuple[list[Tensor], dict[str, str]]:
        pixels_MCHW, counts_B, bad = next(stream)
        return [_embedded(model, pixels_MCHW, counts_B) for model in models] if len(pixels_MCHW) else [], bad

    parts = on_all_ranks(batches, encode)
    bad = {key: reason for part in parts for key, reason in part[1].items()}
    batches_of_models = [part[0] for part in parts if part[0]]
    if not batches_of_models:
        reasons = dict(Counter(bad.values()))
        raise TaskError(f"none of the {len(dataset)} samples has a readable image ({reasons}); check the dataset")
    for model, embeddings in zip(models, zip(*batches_of_models, strict=True), strict=True):
        model.keep_images(dataset, torch.cat(embeddings), bad)


def _batches(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def _embedded(model: CachedEncoder, pixels_MCHW: Tensor, counts_B: Tensor) -> Tensor:
    """(B, D) of a batch's samples. counts_B: images of each, all one where the model takes one."""
    encoder = model.encoder
    if not takes_all_images(encoder):
        return encoder.encode_image(pixels_MCHW)
    assert isinstance(encoder, PoolingEncoder)
    parts = [encoder.encode_image(part) for part in pixels_MCHW.split(model.batch_size)]
    return encoder.pool_images(torch.cat(parts), counts_B)


_Batch = tuple[Tensor, Tensor, dict[str, str]]
"""Pixels of all images, how many each sample has, and key → reason of samples that cannot be read."""


class _Images(Dataset[Tensor | tuple[str, str]]):
    """Row → pixels_nCHW of its first image or of all, or (key, reason) of a sample that cannot be read."""

    def __init__(
        self, dataset: ShardDataset, transform: Callable[[Image.Image], Tensor], max_pixels: int, takes_all: bool
    ) -> None:
        self.dataset, self.transform, self.max_pixels, self.takes_all = dataset, transform, max_pixels, takes_all

    def __getitem__(self, row: int) -> Tensor | tuple[str, str]:
        try:
            sample = self.dataset.read(row)
            if not sample.images:
                return sample.key, "no_image"
            names = sorted(sample.images)[: None if self.takes_all else 1]
            return torch.stack([self.transform(decode_image(sample.images[name], self.max_pixels)) for name in names])
        except BadSample as problem:
            return self.dataset.key(row), problem.reason


def _split_batch(rows: list[Tensor | tuple[str, str]]) -> _Batch:
    pixels = [row for row in rows if isinstance(row, Tensor)]
    bad = dict(row for row in rows if isinstance(row, tuple))
    return torch.cat(pixels) if pixels else torch.empty(0), torch.tensor([len(part) for part in pixels]), bad
