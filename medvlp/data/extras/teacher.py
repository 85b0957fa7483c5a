"""Pairs as another model reads them, or what it gave for them. B: pairs; L: tokens; D: width of its embeddings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medvlp.data.extras import padded_rows
from medvlp.data.images.feature_cache import CachedFeatures, StaleCache
from medvlp.data.texts import SourceTexts, text_id
from medvlp.shards import BadSample, Sample


@dataclass
class TeacherTokens:
    """The pair's text in a teacher's tokens. tokenize: text → token ids without padding."""

    tokenize: Callable[[str], list[int]]
    pad_id: int

    def prepare(self, sample: Sample, text: str, tokens: list[int], rng: np.random.Generator) -> dict[str, Any]:
        """teacher_tokens: list of ids."""
        return {"teacher_tokens": self.tokenize(text)}

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """teacher_tokens_BL."""
        return {"teacher_tokens_BL": padded_rows([item["teacher_tokens"] for item in items], self.pad_id)}

    def stretch(self, tokens_BL: Tensor) -> dict[str, Any]:
        """A teacher has no graph: its memory is not what a trial is for."""
        return {}


def short_id(text: str) -> int:
    """24 bits that tell a sample's texts apart, which single precision holds exactly."""
    return text_id(text) & 0xFFFFFF


@dataclass
class CaptionTokens:
    """Sample → all texts that it may be trained on, in a teacher's tokens.

    texts: of every source. tokenize: texts → int64 (n, L), padded to the whole context.
    """

    texts: Sequence[SourceTexts]
    tokenize: Callable[[list[str]], Tensor]

    def __call__(self, sample: Sample) -> Tensor:
        """int64 (n, 1 + L): each text's short id, and its tokens. Raises BadSample: no source makes a text of it."""
        captions: dict[str, None] = {}
        problem: BadSample | None = None
        for texts in self.texts:
            try:
                captions |= dict.fromkeys(candidate.text for candidate in texts.candidates(sample))
            except BadSample as error:
                problem = error
        if problem and not captions:
            raise problem
        ids_N1 = torch.tensor([[short_id(caption)] for caption in captions])
        return torch.cat([ids_N1, self.tokenize(list(captions))], dim=1)


@dataclass
class StoredTeacher:
    """A teacher's unit vectors of the pair, computed once. images, captions: the caches, once they are opened."""

    images: CachedFeatures | None = None
    captions: CachedFeatures | None = None

    def prepare(self, sample: Sample, text: str, tokens: list[int], rng: np.random.Generator) -> dict[str, Any]:
        """teacher_image, teacher_text: (D,).

        Raises:
            StaleCache: the sample's texts were others when they were stored.
        """
        assert self.images is not None
        assert self.captions is not None
        rows = self.captions(sample)[:, 0]
        matches = (rows[:, 0] == short_id(text)).nonzero()
        if not len(matches):
            raise StaleCache(
                f"objective.auxiliary.distillation.feature_cache: {sample.key} has a text that none was stored of: texts are "
                f"made otherwise now. Delete the folder, or name another one"
            )
        return {"teacher_image": self.images(sample)[0, 0], "teacher_text": rows[matches[0, 0], 1:]}

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """teacher_image_BD, teacher_text_BD."""
        return {f"{name}_BD": torch.stack([item[name] for item in items]) for name in ("teacher_image", "teacher_text")}

    def stretch(self, tokens_BL: Tensor) -> dict[str, Any]:
        """Features do not change with the text's length."""
        return {}
