"""Sampling of tokens at a temperature, by random numbers that belong to a response and not to its batch.

B: prompts of a batch; V: vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


class TokenSampler:
    """The next token of each row, drawn by the row's own random numbers: one for each token.

    A row's tokens are the same in any batch, but for rounding of its logits.

    Args:
        seeds: of each row.
        temperature: that logits are divided by; above 0.
        top_p: the likeliest tokens that together have this probability are drawn from (Holtzman 2020); 1 takes all.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float = 1.0) -> None:
        self.temperature, self.top_p = temperature, top_p
        self._streams = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]

    def __call__(self, logits_BV: Tensor, rows: Sequence[int]) -> Tensor:
        """token_B. rows: which of the rows these logits are of."""
        uniform_B = torch.tensor([self._streams[row].random() for row in rows], dtype=torch.float64)
        return tokens_at(logits_BV, uniform_B.to(logits_BV.device), self.temperature, self.top_p)


def tokens_at(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_p: float = 1.0) -> Tensor:
    """The tokens at which the cumulated probabilities pass uniform_B, numbers of [0, 1). A token without probability is never
    drawn."""
    probability_BV = (logits_BV.double() / temperature).softmax(-1)
    if top_p < 1:
        sorted_BV, order_BV = probability_BV.sort(dim=-1, descending=True, stable=True)
        sorted_BV = sorted_BV.masked_fill(sorted_BV.cumsum(-1) - sorted_BV >= top_p, 0.0)
        probability_BV = torch.zeros_like(probability_BV).scatter(-1, order_BV, sorted_BV)
    cumulated_BV = probability_BV.cumsum(-1)
    total_B1 = cumulated_BV[:, -1:]
    token_B1 = torch.searchsorted(cumulated_BV, uniform_B[:, None] * total_B1, right=True)
    last_B1 = (cumulated_BV < total_B1).sum(-1, keepdim=True)  # rounding may reach the total
    return torch.minimum(token_B1, last_B1)[:, 0]


@dataclass(frozen=True)
class Noise:
    """How responses to some prompts are sampled: the seed of each, and what `TokenSampler` takes."""

    seeds: Sequence[int]
    temperature: float
    top_p: float = 1.0

    def sampler(self, indices: Sequence[int]) -> TokenSampler:
        """Of the prompts with these indices."""
        return TokenSampler([self.seeds[index] for index in indices], self.temperature, self.top_p)


def likeliest(logits_BV: Tensor, rows: Any) -> Tensor:
    """token_B: the likeliest, the first of equals."""
    return logits_BV.argmax(-1)
