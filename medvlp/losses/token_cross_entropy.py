"""Cross-entropy of a language model's next tokens, without all its logits at once.

T: supervised positions; V: vocabulary; D: width; C: rows of one chunk of the vocabulary.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_LOGITS = 2**22
"""Logits held at a time: 16 MiB in float32. On a CPU, chunks of 4 to 32 MiB take the same time within a tenth."""
LEAST_CHUNK = 256
"""Rows of a chunk however many positions there are: a thinner product is slow, and T × 256 logits are no more than
T × D hidden values are in any language model."""


def linear_cross_entropy(hidden_TD: Tensor, weight_VD: Tensor, target_T: Tensor, weight_T: Tensor) -> Tensor:
    """Σ_t weight_t · cross-entropy(weight_VD · hidden_t, target_t), as F.cross_entropy of the full logits gives it.

    Logits exist for one chunk of the vocabulary at a time: forward keeps their log-sum-exp, backward computes them
    again (Cut Your Losses, Wijmans 2024, in plain PyTorch). Products and sums are float32 under any autocast and for
    any half-precision input, float64 if hidden or weight is; gradients come back in their tensor's dtype, and only
    where one is required. With T = 0 the loss is zero, and so are the gradients, so that a rank without supervised
    positions still takes part in DDP's reduction.

    Args:
        hidden_TD: the last hidden states at supervised positions only.
        weight_VD: the output projection, which may be the input embedding too.
        target_T: int64, the token that follows each position, in [0, V).
        weight_T: how much each position counts, such as 1 / T for the mean.
    Returns: scalar.
    Raises:
        ValueError: shapes that do not fit each other, or a target outside the vocabulary, -100 among them.
    """
    _check(hidden_TD, weight_VD, target_T, weight_T)
    loss_T = linear_cross_entropies(hidden_TD, weight_VD, target_T)
    return (loss_T * weight_T.to(loss_T.dtype)).sum()


def linear_cross_entropies(hidden_TD: Tensor, weight_VD: Tensor, target_T: Tensor) -> Tensor:
    """(T,) the cross-entropies that `linear_cross_entropy` sums."""
    loss_T: Tensor = _LinearCrossEntropy.apply(hidden_TD, weight_VD, target_T)
    return loss_T


def _check(hidden: Tensor, weight: Tensor, target: Tensor, token_weight: Tensor) -> None:
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(f"hidden {tuple(hidden.shape)} and weight {tuple(weight.shape)} should be (T, D) and (V, D)")
    positions, vocabulary = len(hidden), len(weight)
    if target.shape != (positions,) or token_weight.shape != (positions,):
        shapes = f"target {tuple(target.shape)} and weight_T {tuple(token_weight.shape)}"
        raise ValueError(f"{shapes} should both be ({positions},), one for each row of hidden")
    outside = (target < 0) | (target >= vocabulary)
    if outside.any():
        row = int(outside.nonzero()[0])
        raise ValueError(
            f"target {int(target[row])} at row {row} is not in [0, {vocabulary}); pass supervised positions only, "
            "leaving out those labelled -100"
        )


class _LinearCrossEntropy(torch.autograd.Function):
    """Cross-entropy of every position (T,), its logits computed twice and never kept."""

    @staticmethod
    def forward(ctx: Any, hidden_TD: Tensor, weight_VD: Tensor, target_T: Tensor) -> Tensor:
        with torch.autocast(hidden_TD.device.type, enabled=False):
            exact_TD = _exact(hidden_TD, weight_VD)
            normalizer_T = exact_TD.new_full(target_T.shape, float("-inf"))
            target_logit_T = torch.zeros_like(normalizer_T)
            for rows in _chunks(weight_VD, len(target_T)):
                logits_TC = _logits(exact_TD, weight_VD, rows)
                is_in_chunk_T, column_T = _columns(target_T, rows)
                logit_T = logits_TC.gather(1, column_T[:, None])[:, 0]
                target_logit_T = torch.where(is_in_chunk_T, logit_T, target_logit_T)
                normalizer_T = torch.logaddexp(normalizer_T, logits_TC.logsumexp(dim=1))
                del logits_TC  # or the next chunk's would stand next to it
        ctx.save_for_backward(hidden_TD, weight_VD, target_T, normalizer_T)
        return normalizer_T - target_logit_T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_T: Tensor) -> tuple[Tensor | None, ...]:
        hidden_TD, weight_VD, target_T, normalizer_T = ctx.saved_tensors
        with torch.autocast(hidden_TD.device.type, enabled=False):
            exact_TD = _exact(hidden_TD, weight_VD)
            grad_hidden_TD = torch.zeros_like(exact_TD) if ctx.needs_input_grad[0] else None
            grad_weight_VD = torch.empty_like(weight_VD) if ctx.needs_input_grad[1] else None
            for rows in _chunks(weight_VD, len(target_T)):
                grad_TC = _logits(exact_TD, weight_VD, rows)
                grad_TC.sub_(normalizer_T[:, None]).exp_().mul_(grad_T[:, None])
                is_in_chunk_T, column_T = _columns(target_T, rows)
                grad_TC.scatter_add_(1, column_T[:, None], -(grad_T * is_in_chunk_T)[:, None])
                if grad_hidden_TD is not None:
                    grad_hidden_TD.addmm_(grad_TC, weight_VD[rows].to(grad_TC.dtype))
                if grad_weight_VD is not None:
                    grad_weight_VD[rows] = grad_TC.T @ exact_TD
                del grad_TC
        return grad_hidden_TD, grad_weight_VD, None  # autograd rounds the first to hidden's dtype


def _exact(hidden_TD: Tensor, weight_VD: Tensor) -> Tensor:
    dtype = torch.promote_types(hidden_TD.dtype, weight_VD.dtype)
    return hidden_TD.to(torch.promote_types(dtype, torch.float32))


def _chunks(weight_VD: Tensor, positions: int) -> Iterator[slice]:
    vocabulary = len(weight_VD)
    size = max(CHUNK_LOGITS // max(positions, 1), LEAST_CHUNK)
    for start in range(0, vocabulary, size):
        yield slice(start, min(start + size, vocabulary))


def _logits(exact_TD: Tensor, weight_VD: Tensor, rows: slice) -> Tensor:
    return exact_TD @ weight_VD[rows].to(exact_TD.dtype).T


def _columns(target_T: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """Whether each target lies in the chunk, and its column there (any column if it does not)."""
    is_in_chunk_T = (target_T >= rows.start) & (target_T < rows.stop)
    return is_in_chunk_T, (target_T - rows.start).clamp(0, rows.stop - rows.start - 1)
