"""Images with the bag of words of their texts. B: samples; N: images; W: words of the vocabulary; P: tokens an image."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medvlp.data.batch import Batch, sample_fields
from medvlp.data.images.feature_cache import FeatureCache, Pictures
from medvlp.data.pipeline import BatchPipeline, OpenedSources, Sources
from medvlp.data.texts import texts_of
from medvlp.errors import UserError
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
    """float32, 1 for a word of the sample's texts."""
    vocabulary_W: Tensor
    """int64, token ids."""
    prior_W: Tensor
    """float32, log-odds of a sample's having each word."""


@dataclass
class TokenSets:
    """Sample → ids of the tokens in its texts and conversations, each once.

    Args:
        tokenizer: a transformers tokenizer.
        fields: for every source, which texts count; conversations do in any case.
    """

    tokenizer: Any
    fields: Sequence[Sequence[str]]

    def __call__(self, sample: Sample, source: int) -> set[int]:
        texts = list(texts_of(sample, self.fields[source]).values())
        texts += [
            turn.text.replace(IMAGE_TOKEN, "") for conversation in sample.conversations for turn in conversation.turns
        ]
        # After a blank: many tokenizers know a word twice, at the start of a text and inside.
        lower = [" " + text.strip().lower() for text in texts if text.strip()]
        return {word for text in lower for word in self.tokenizer(text, add_special_tokens=False)["input_ids"]}


@dataclass
class PrepareBagOfWords:
    """Sample → its images and which words of the vocabulary its texts have.

    Args:
        columns: token id → its index in the vocabulary.
    """

    token_sets: TokenSets
    pictures: Pictures
    columns: Mapping[int, int]

    def __call__(self, sample: Sample, source: int, rng: np.random.Generator) -> dict[str, Any]:
        """images: (n, 3, S, S) or (n, P, D); words: indices into the vocabulary.

        Raises:
            BadSample: `no_image`.
        """
        images = self.pictures(sample)
        if not len(images):
            raise BadSample("no_image", key=sample.key, detail="there is nothing whose words could be learned")
        words = [self.columns[word] for word in self.token_sets(sample, source) if word in self.columns]
        return {"images": images, "words": sorted(words)}


@dataclass
class CollateBagOfWords:
    """Units → a batch of images with their words.

    Args:
        vocabulary_W: token ids.
        prior_W: log-odds of a sample's having each word.
    """

    vocabulary_W: Tensor
    prior_W: Tensor

    def __call__(self, units: list[dict[str, Any]]) -> BagOfWordsBatch:
        items = [item for unit in units for item in unit["items"]]
        words_BW = torch.zeros(len(items), len(self.vocabulary_W))
        for row, item in zip(words_BW, items, strict=True):
            row[item["words"]] = 1.0
        return BagOfWordsBatch(
            **sample_fields(units),
            images_N=torch.cat([item["images"] for item in items]),
            sample_index_N=torch.tensor([row for row, item in enumerate(items) for _ in item["images"]]),
            words_BW=words_BW,
            vocabulary_W=self.vocabulary_W,
            prior_W=self.prior_W,
        )


class BagOfWordsPipeline(BatchPipeline):
    """Shards → batches of images with their bags of words.

    Args:
        token_sets: sample, number of its source → ids of the tokens in its texts.
        images: pixels, or features that are computed once.
        min_samples: words of fewer samples are ignored.
        max_share: words of a larger share of the samples are ignored.
    """

    def __init__(
        self, token_sets: TokenSets, images: Pictures | FeatureCache, min_samples: int, max_share: float
    ) -> None:
        self.token_sets, self.images, self.min_samples, self.max_share = token_sets, images, min_samples, max_share

    def write_caches(self, sources: Sources) -> None:
        if isinstance(self.images, FeatureCache):
            self.images.write(sources)

    def open(self, sources: Sources) -> OpenedSources:
        pictures = self.images.open(sources) if isinstance(self.images, FeatureCache) else self.images
        shares = {word: share for word, share in self.word_shares(sources).items() if share <= self.max_share}
        if not shares:
            raise UserError(
                f"no word occurs in at least objective.min_samples={self.min_samples} samples and in at most "
                f"objective.max_share={self.max_share} of them; lower the one or raise the other"
            )
        columns = {word: column for column, word in enumerate(shares)}
        self.prepare = PrepareBagOfWords(self.token_sets, pictures, columns)
        prior_W = torch.logit(torch.tensor(list(shares.values())), eps=1e-3)
        self.collate = CollateBagOfWords(torch.tensor(list(shares)), prior_W)
        return OpenedSources(sources)

    def word_shares(self, sources: Sources) -> dict[int, float]:
        """Word → share of the samples that have it, for words of at least `min_samples` samples, in the order of ids."""
        counts: Counter[int] = Counter()
        total = 0
        for number, dataset in enumerate(sources.values()):
            for row in range(len(dataset)):
                try:
                    counts.update(self.token_sets(dataset.read(row), number))
                except BadSample:
                    continue  # training meets it again, and counts it
                total += 1
        return {word: counts[word] / total for word in sorted(counts) if counts[word] >= self.min_samples}
