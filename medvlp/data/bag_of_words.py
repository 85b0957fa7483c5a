"""Images with the words that are said of them. B: samples; N: images; W: words of the vocabulary; P: tokens an image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medvlp.data.batch import Batch, sample_fields
from medvlp.data.chat.images import Pictures
from medvlp.data.texts import texts_of
from medvlp.shards import BadSample, Sample
from medvlp.shards.vocabulary import IMAGE_TOKEN


@dataclass(kw_only=True)
class BagOfWordsBatch(Batch):
    """Images, and the words of each sample."""

    images_N: Tensor
    """Pixels (N, 3, S, S), or features (N, P, D)."""
    sample_index_N: Tensor
    """int64, the sample of each image."""
    words_BW: Tensor
    """float32, 1 where a word is said."""


@dataclass
class WordsOf:
    """Sample → ids of the tokens in its texts and conversations, each once.

    Args:
        tokenizer: a transformers tokenizer.
        fields: for every source, which texts count; conversations do in any case.
    """

    tokenizer: Any
    fields: Sequence[Sequence[str]]

    def __call__(self, sample: Sample, source: int) -> set[int]:
        texts = list(texts_of(sample, self.fields[source]).values())
        texts += [turn.text.replace(IMAGE_TOKEN, "") for one in sample.conversations for turn in one.turns]
        # Behind a blank: many tokenizers know a word twice, at the beginning of a text and inside.
        lower = [" " + text.strip().lower() for text in texts if text.strip()]
        return {word for text in lower for word in self.tokenizer(text, add_special_tokens=False)["input_ids"]}


@dataclass
class PrepareWords:
    """Sample → its images and which words of the vocabulary are said of it.

    Args:
        places: word → its place in the vocabulary.
    """

    words_of: WordsOf
    pictures: Pictures
    places: Mapping[int, int]

    def __call__(self, sample: Sample, source: int, rng: np.random.Generator) -> dict[str, Any]:
        """images: (n, 3, S, S) or (n, P, D); words: places in the vocabulary.

        Raises:
            BadSample: `no_image`.
        """
        images = self.pictures(sample)
        if not len(images):
            raise BadSample("no_image", key=sample.key, detail="there is nothing whose words could be learned")
        found = [self.places[word] for word in self.words_of(sample, source) if word in self.places]
        return {"images": images, "words": sorted(found)}


@dataclass
class CollateWords:
    """Units → a batch of images with their words.

    Args:
        vocabulary: W.
    """

    vocabulary: int

    def __call__(self, units: list[dict[str, Any]]) -> BagOfWordsBatch:
        items = [item for unit in units for item in unit["items"]]
        words_BW = torch.zeros(len(items), self.vocabulary)
        for row, item in zip(words_BW, items, strict=True):
            row[item["words"]] = 1.0
        return BagOfWordsBatch(
            **sample_fields(units),
            images_N=torch.cat([item["images"] for item in items]),
            sample_index_N=torch.tensor([row for row, item in enumerate(items) for _ in item["images"]]),
            words_BW=words_BW,
        )
