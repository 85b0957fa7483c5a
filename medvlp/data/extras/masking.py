"""Words of a text, masked for a model to tell. B: pairs; L: tokens; V: vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medvlp.data.extras import padded_rows
from medvlp.errors import UserError
from medvlp.shards import Sample

MASKED, RANDOM = 0.8, 0.1
"""Shares of the selected words that are masked, and that are replaced; the rest stays as it is (BERT, Devlin 2019)."""


@dataclass
class Masking:
    """Whole words, each with the same probability, by the state of the sample: on any rank, and after a resume, the same ones.

    Args:
        share: of words that are selected.
        mask_id: the mask's token.
        pad_id: for collating.
        is_word_V: tokens that are words or parts of them, not the tokenizer's own signs.
        continues_V: tokens that go on with the word before them.
    """

    share: float
    mask_id: int
    pad_id: int
    is_word_V: NDArray[np.bool_]
    continues_V: NDArray[np.bool_]

    @classmethod
    def of(cls, tokenizer: Any, share: float) -> "Masking":
        """Of a transformers tokenizer.

        Raises:
            UserError: it has no mask.
        """
        if getattr(tokenizer, "mask_token_id", None) is None:
            raise UserError(
                "objective.auxiliary.masked_language: this text tower's tokenizer has no mask token; take a masked language "
                "model of transformers, such as BERT, for model.text.huggingface"
            )
        tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        starts = next((mark for mark in ("Ġ", "▁") if any(token.startswith(mark) for token in tokens)), "")
        continues = [not token.startswith(starts) if starts else token.startswith("##") for token in tokens]
        is_word_V = np.ones(len(tokens), bool)
        is_word_V[tokenizer.all_special_ids] = False
        return cls(share, tokenizer.mask_token_id, tokenizer.pad_token_id, is_word_V, np.array(continues))

    def prepare(self, sample: Sample, text: str, tokens: list[int], rng: np.random.Generator) -> dict[str, Any]:
        """masked_tokens: list of ids; is_selected: list of bool."""
        ids_L = np.array(tokens)
        is_word_L = self.is_word_V[ids_L]
        starts_L = ~self.continues_V[ids_L] | ~np.r_[False, is_word_L[:-1]]
        word_L = np.cumsum(starts_L) - 1
        draws_W = rng.random(word_L[-1] + 1) / self.share
        draw_L = draws_W[word_L]
        is_selected_L = is_word_L & (draw_L < 1)
        random_L = np.flatnonzero(self.is_word_V)[rng.integers(self.is_word_V.sum(), size=len(ids_L))]
        masked_L = np.where(draw_L < MASKED, self.mask_id, np.where(draw_L < MASKED + RANDOM, random_L, ids_L))
        masked_L = np.where(is_selected_L, masked_L, ids_L)
        return {"masked_tokens": masked_L.tolist(), "is_selected": is_selected_L.tolist()}

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """masked_tokens_BL, is_selected_BL."""
        return {
            "masked_tokens_BL": padded_rows([item["masked_tokens"] for item in items], self.pad_id),
            "is_selected_BL": padded_rows([item["is_selected"] for item in items], 0).bool(),
        }

    def stretch(self, tokens_BL: Tensor) -> dict[str, Any]:
        """As many are selected as on average."""
        is_selected_BL = torch.arange(tokens_BL.shape[1]).remainder(max(round(1 / self.share), 1)).eq(0)
        return {"masked_tokens_BL": tokens_BL, "is_selected_BL": is_selected_BL.expand_as(tokens_BL).contiguous()}
