"""From read units to a batch. B: this rank's pairs; L: the longest text of the batch, in tokens; S: the image's side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medvlp.data.images.crop import random_crop
from medvlp.data.images.decode import open_image
from medvlp.data.texts import choose_text, class_id, text_id
from medvlp.shards import BadSample, Sample

Tokenize = Callable[[str], list[int]]


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
    """Units → {"keys", "positions", "bad", "images": uint8 (B, 3, S, S), "tokens": int64 (B, L), "text_ids": int64 (B,)},
    and "class_ids": int64 (B,) where the units have them.

    Texts are padded to the batch's longest, not to the context: captions are short (ROCO's: about 37 tokens of 77 to
    512), and a text tower that masks padding gives the same embedding for any amount of it. For a tower that does not,
    `tokenize` returns the whole context already.
    """

    pad_id: int

    def __call__(self, units: list[dict[str, Any]]) -> dict[str, Any]:
        items = [item for unit in units for item in unit["items"]]
        longest = max(len(item["tokens"]) for item in items)
        tokens = torch.full((len(items), longest), self.pad_id, dtype=torch.int64)
        for row, item in zip(tokens, items, strict=True):
            row[: len(item["tokens"])] = torch.tensor(item["tokens"])
        batch = {
            "keys": [item["key"] for item in items],
            "positions": [item["position"] for item in items],
            "bad": [problem for unit in units for problem in unit["bad"]],
            "images": torch.stack([item["image"] for item in items]),
            "tokens": tokens,
            "text_ids": torch.tensor([item["text_id"] for item in items]),
        }
        if "class_id" in items[0]:
            batch["class_ids"] = torch.tensor([item["class_id"] for item in items])
        return batch
