"""From read units to a batch. B: this rank's pairs; L: the longest text of the batch, in tokens; S: the image's side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medvlp.data.batch import Batch, sample_fields
from medvlp.data.images.crop import random_crop
from medvlp.data.images.decode import open_image
from medvlp.data.texts import choose_text, class_id, text_id
from medvlp.shards import BadSample, Sample

Tokenize = Callable[[str], list[int]]


@dataclass(kw_only=True)
class PairBatch(Batch):
    """Images with their texts; row i of each is a pair."""

    images_BCHW: Tensor
    """uint8 (B, 3, S, S)."""
    tokens_BL: Tensor
    """int64, padded to the longest text."""
    text_ids_B: Tensor
    """int64, equal for equal texts."""
    class_ids_B: Tensor | None = None
    """int64, equal for pairs that are right for each other although their texts differ."""


@dataclass
class PreparePairs:
    """Sample → image and tokens, for contrastive objectives.

    Args:
        texts: for every source, the text fields to choose from.
        tokenize: text → token ids, cut to the context, unpadded.
        size: side of the image in pixels.
        scale, ratio: of the random crop.
        max_pixels: larger images are bad samples.
        positives: what makes pairs right for each other although their texts differ, see `class_id`; "": nothing.
    """

    texts: Sequence[Sequence[str]]
    tokenize: Tokenize
    size: int
    scale: Sequence[float]
    ratio: Sequence[float]
    max_pixels: int
    positives: str = ""

    def __call__(self, sample: Sample, source: int, rng: np.random.Generator) -> dict[str, Any]:
        """image: uint8 (3, S, S); tokens: list of ids; text_id: int; class_id: int, with positives."""
        if len(sample.images) != 1:
            raise BadSample("not_one_image", key=sample.key, detail=f"{len(sample.images)} images, a pair has one")
        text = choose_text(sample, self.texts[source], rng)
        image = open_image(next(iter(sample.images.values())), self.max_pixels)
        view = random_crop(image, self.size, self.scale, self.ratio, rng)
        item = {"image": view, "tokens": self.tokenize(text), "text_id": text_id(text)}
        return {**item, "class_id": class_id(sample, self.positives)} if self.positives else item


@dataclass
class CollatePairs:
    """Units → a batch of pairs.

    Texts are padded to the batch's longest, not to the context: captions are short (ROCO's: about 37 tokens of 77 to
    512), and a text tower that masks padding gives the same embedding for any amount of it. For a tower that does not,
    `tokenize` returns the whole context already.
    """

    pad_id: int

    def __call__(self, units: list[dict[str, Any]]) -> PairBatch:
        items = [item for unit in units for item in unit["items"]]
        longest = max(len(item["tokens"]) for item in items)
        tokens = torch.full((len(items), longest), self.pad_id, dtype=torch.int64)
        for row, item in zip(tokens, items, strict=True):
            row[: len(item["tokens"])] = torch.tensor(item["tokens"])
        class_ids = [item["class_id"] for item in items if "class_id" in item]
        return PairBatch(
            **sample_fields(units),
            images_BCHW=torch.stack([item["image"] for item in items]),
            tokens_BL=tokens,
            text_ids_B=torch.tensor([item["text_id"] for item in items]),
            class_ids_B=torch.tensor(class_ids) if class_ids else None,
        )
