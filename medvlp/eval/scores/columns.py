"""Columns of a score table: quality of an image, similarity of image and texts, near-duplicates. B: samples; D: width."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medvlp.data.images.decode import decode_image
from medvlp.data.loader import batches as loaded_batches
from medvlp.data.texts import texts_of
from medvlp.shards import BadSample, ShardDataset

QUALITY = {
    "entropy": "bits of the grey levels' distribution: 0 of one colour, at most 8",
    "sharpness": "variance of the Laplacian of the grey levels",
    "contrast": "standard deviation of the grey levels",
}
SIMILARITY = {"similarity": "cosine of the image's embedding and its texts', the mean over texts"}
DUPLICATES = {
    "duplicate_rank": "near-duplicates among earlier samples: 0 of the first of its kind",
    "nearest_similarity": "largest cosine with an earlier sample's image",
}
SIDE = 512
"""Pixels of the longer side of what quality is measured on; larger images are reduced to it."""
BLOCK = 4096
"""Images that are compared with a block of others at a time."""
ROUNDING = 1e-5
"""By which the cosine of equal images may miss 1."""


class Encoder(Protocol):
    """What a CLIP model gives: see `medvlp.eval.embeddings.Encoder`."""

    def transform(self, image: Image.Image) -> Tensor: ...

    def encode_image(self, pixels_BCHW: Tensor) -> Tensor: ...

    def encode_text(self, texts: list[str]) -> Tensor: ...


def quality_of(image: Image.Image) -> dict[str, float]:
    """Columns of QUALITY, of a picture's grey levels 0 to 255."""
    grey = image.convert("L")
    grey.thumbnail((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=None)
    level_HW = np.asarray(grey, np.float64)
    share = np.bincount(np.asarray(grey).ravel(), minlength=256) / level_HW.size
    share = share[share > 0]
    laplacian = np.zeros(1)
    if min(level_HW.shape) > 2:
        inner = level_HW[1:-1, 1:-1]
        laplacian = level_HW[:-2, 1:-1] + level_HW[2:, 1:-1] + level_HW[1:-1, :-2] + level_HW[1:-1, 2:] - 4 * inner
    return {
        "entropy": float(-(share * np.log2(share)).sum()) + 0.0,
        "sharpness": float(laplacian.var()),
        "contrast": float(level_HW.std()),
    }


@dataclass
class Scored:
    """A sample's columns, what a model reads of it, and why it has none; "" where it has."""

    key: str
    quality: dict[str, float]
    pixels_CHW: Tensor | None
    texts: list[str]
    problem: str = ""


class _Samples(Dataset[Scored]):
    """Row → what is read of a sample; its first image stands for several."""

    def __init__(self, dataset: ShardDataset, encoder: Any, text_fields: Sequence[str], max_pixels: int) -> None:
        self.dataset, self.text_fields, self.max_pixels = dataset, text_fields, max_pixels
        self.transform = encoder.transform if encoder else None

    def __getitem__(self, row: int) -> Scored:
        key = self.dataset.key(row)
        try:
            sample = self.dataset.read(row)
            if not sample.images:
                return Scored(key, {}, None, [], "no_image")
            image = decode_image(sample.images[min(sample.images)], self.max_pixels)
        except BadSample as bad:
            return Scored(key, {}, None, [], bad.reason)
        texts = list(texts_of(sample, self.text_fields).values())
        return Scored(key, quality_of(image), self.transform(image) if self.transform else None, texts)


@dataclass
class ScoredPart:
    """What was computed of a stretch of rows.

    columns: name → values in the order of the rows, None where there is none. problems: reason → samples without scores.
    image_RD: their images' embeddings, rows of NaN where there is no image; of width 0 where there is none at all.
    """

    columns: dict[str, list[Any]]
    problems: dict[str, int]
    image_RD: NDArray[np.float32]


@dataclass(frozen=True)
class Scorer:
    """Computes the columns of a stretch of rows. encoder: None without a model."""

    dataset: ShardDataset
    encoder: Encoder | None
    text_fields: Sequence[str]
    batch_size: int
    workers: int
    max_pixels: int

    def part(self, rows: range) -> ScoredPart:
        """Read, and encode in batches that depend on the rows alone."""
        loader: DataLoader[Any] = DataLoader(
            _Samples(self.dataset, self.encoder, self.text_fields, self.max_pixels),
            batch_sampler=[
                list(range(start, min(start + self.batch_size, rows.stop)))
                for start in range(rows.start, rows.stop, self.batch_size)
            ],
            num_workers=self.workers,
            collate_fn=list,
            generator=torch.Generator(),
        )
        columns: dict[str, list[Any]] = {name: [] for name in ("key", *QUALITY, *(SIMILARITY if self.encoder else ()))}
        embeddings: list[Tensor | None] = []
        problems: Counter[str] = Counter()
        for batch in loaded_batches(loader):
            image_BD, similarity_B = self._encoded(batch)
            embeddings += image_BD
            columns["key"] += [sample.key for sample in batch]
            for name in QUALITY:
                columns[name] += [sample.quality.get(name) for sample in batch]
            if self.encoder:
                columns["similarity"] += similarity_B
            reasons = [
                sample.problem or ("" if sample.texts or not self.encoder else "empty_caption") for sample in batch
            ]
            problems.update(reason for reason in reasons if reason)
        width = max((len(image_D) for image_D in embeddings if image_D is not None), default=0)
        image_RD = np.full((len(embeddings), width), np.nan, np.float32)
        for row, image_D in enumerate(embeddings):
            if image_D is not None:
                image_RD[row] = image_D.float().cpu().numpy()
        return ScoredPart(columns, dict(problems), image_RD)

    @torch.no_grad()
    def _encoded(self, batch: Sequence[Scored]) -> tuple[list[Tensor | None], list[float | None]]:
        """Of each sample its image's embedding, and its similarity with its texts."""
        image_BD: list[Tensor | None] = [None] * len(batch)
        similarity_B: list[float | None] = [None] * len(batch)
        pixels = {number: sample.pixels_CHW for number, sample in enumerate(batch) if sample.pixels_CHW is not None}
        if self.encoder is None or not pixels:
            return image_BD, similarity_B
        for number, embedding_D in zip(
            pixels, self.encoder.encode_image(torch.stack(list(pixels.values()))), strict=True
        ):
            image_BD[number] = embedding_D
        texts = [(number, text) for number in pixels for text in batch[number].texts]
        if texts:
            products: dict[int, list[float]] = {}
            text_TD = self.encoder.encode_text([text for _, text in texts])
            for (number, _), text_D in zip(texts, text_TD, strict=True):
                image_D = image_BD[number]
                assert image_D is not None
                products.setdefault(number, []).append(float(image_D @ text_D))
            for number, values in products.items():
                similarity_B[number] = sum(values) / len(values)
        return image_BD, similarity_B


def earlier_duplicates(
    image_RD: NDArray[np.float32], parts: Iterable[NDArray[np.float32]], threshold: float
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(R,) near-duplicates among earlier images, and the largest cosine with an earlier one (NaN of the first).

    image_RD: unit vectors of a part; rows of NaN have no image, and are nobody's duplicate. parts: those before it, in blocks of
    which products with blocks of this one are held, one at a time.
    """
    rank_R, nearest_R = np.zeros(len(image_RD), np.int32), np.full(len(image_RD), np.nan, np.float32)
    starts = range(0, len(image_RD), BLOCK)
    threshold = min(threshold, 1 - ROUNDING)

    def compare(start: int, image_CD: NDArray[np.float32], is_same: bool = False) -> None:
        rows = slice(start, start + BLOCK)
        cosine_RC = image_RD[rows] @ image_CD.T
        if is_same:
            cosine_RC[np.triu_indices(len(cosine_RC))] = np.nan
        rank_R[rows] += (cosine_RC >= threshold).sum(axis=1, dtype=np.int32)
        nearest_R[rows] = np.fmax(nearest_R[rows], np.fmax.reduce(cosine_RC, axis=1))

    if image_RD.shape[1]:
        for part_CD in parts:
            for begin in range(0, len(part_CD) if part_CD.shape[1] else 0, BLOCK):
                for start in starts:
                    compare(start, part_CD[begin : begin + BLOCK])
        for start in starts:
            for begin in range(0, start + 1, BLOCK):
                compare(start, image_RD[begin : begin + BLOCK], is_same=begin == start)
    return rank_R, nearest_R
