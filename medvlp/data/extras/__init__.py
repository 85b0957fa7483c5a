"""What a pair has besides its image and its text: masked tokens, labels, another model's tokens. B: pairs; L: tokens."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from medvlp.shards import Sample


class PairExtra(Protocol):
    """Fields of a `PairBatch` that a loss asks for (picklable, for loader workers)."""

    def prepare(self, sample: Sample, text: str, tokens: list[int], rng: np.random.Generator) -> dict[str, Any]:
        """What `collate` needs of a pair. Raises BadSample."""

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Fields of the batch."""

    def stretch(self, tokens_BL: Tensor) -> dict[str, Any]:
        """The fields of a batch whose texts fill the context, as far as they change with it."""


def padded_rows(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """int64 (B, L), as long as the longest."""
    padded_BL = torch.full((len(rows), max(map(len, rows))), pad, dtype=torch.int64)
    for row, values in zip(padded_BL, rows, strict=True):
        row[: len(values)] = torch.tensor(values)
    return padded_BL
