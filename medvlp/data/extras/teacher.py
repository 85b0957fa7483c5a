"""Texts as another model reads them. B: pairs; L: tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from medvlp.data.extras import padded_rows
from medvlp.shards import Sample


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
