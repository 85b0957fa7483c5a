"""Text towers without the work on padding: texts of similar length together, each group no longer than its longest.

B: batch; L: tokens of a text; E: shared width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from open_clip.transformer import text_global_pool
from torch import Tensor, nn

GROUPS = 8
"""Into which a batch is divided. It depends on the batch's size alone, so that the ranks of a sharded tower keep step."""

LEAST = 8
"""Texts of a group: fewer leave the processor's cores idle."""

POOLED = ("argmax", "eos")
"""open_clip's poolings at a token of the text; behind it, a causal tower's tokens change nothing."""


def encode_by_length(model: Any, tokens_BL: Tensor, groups: int = GROUPS) -> Tensor:
    """The model's `encode_text`, (B, E), with as little padding as groups of similar length need.

    The features are those of the whole batch up to rounding: transformers' towers mask padding, and in open_clip's causal
    towers no token sees what is behind it. Where a tower sees its padding, nothing is changed. Dropout, where a tower has some,
    meets other random numbers.

    Args:
        model: open_clip's CLIP or CustomTextCLIP.
        groups: at most so many.
    """
    lengths_B = used_lengths(model, tokens_BL)
    if lengths_B is None:
        features_BE: Tensor = model.encode_text(tokens_BL)
        return features_BE
    count = max(1, min(groups, len(tokens_BL) // LEAST))
    order_B = torch.argsort(lengths_B, stable=True)
    groups_of_rows = order_B.tensor_split(count)
    longest = lengths_B[torch.stack([rows[-1] for rows in groups_of_rows])].tolist()  # one wait for the device
    parts = [
        encode_trimmed(model, tokens_BL[rows, :length]) for rows, length in zip(groups_of_rows, longest, strict=True)
    ]
    return torch.cat(parts)[torch.argsort(order_B)]


def used_lengths(model: Any, tokens_BL: Tensor) -> Tensor | None:
    """int64 (B,): tokens that a text's features depend on; None where that is all of them, padding included."""
    tower = getattr(model, "text", model)
    if hasattr(tower, "config"):  # of transformers
        is_text_BL = tokens_BL != tower.config.pad_token_id
        positions_L = torch.arange(1, tokens_BL.shape[1] + 1, device=tokens_BL.device)
        return (is_text_BL * positions_L).amax(dim=1).clamp(min=1)
    if not is_trimmable(tower):
        return None
    pool, end_id = pooling(tower)
    if pool == "argmax":
        return 1 + tokens_BL.argmax(dim=1)
    assert end_id is not None, "pooled at a token that is not known"
    return 1 + tokens_BL.eq(end_id).int().argmax(dim=1)


def is_trimmable(tower: Any) -> bool:
    """Whether one of open_clip's own towers is causal, without a class token, and pools at the end of a text."""
    has_class_token = getattr(tower, "cls_emb", None) is not None
    return (
        getattr(tower, "attn_mask", None) is not None
        and not has_class_token
        and not getattr(tower, "output_tokens", False)
        and pooling(tower)[0] in POOLED
    )


def pooling(tower: Any) -> tuple[str, int | None]:
    """How one of open_clip's own towers pools, and the token at which."""
    if hasattr(tower, "text_pool_type"):  # CLIP, which is its own text tower
        return tower.text_pool_type, getattr(tower, "text_eos_id", None)
    return getattr(tower, "pool_type", ""), getattr(tower, "eos_id", None)


def encode_trimmed(model: Any, tokens_BL: Tensor) -> Tensor:
    """The model's `encode_text` of texts that may be shorter than the context."""
    tower = getattr(model, "text", model)
    if hasattr(tower, "config"):
        features_BE: Tensor = model.encode_text(tokens_BL)
        return features_BE
    with mask_cut(tower, tokens_BL.shape[1]):
        return model.encode_text(tokens_BL) if tower is not model else encode_shorter(model, tokens_BL)


@contextmanager
def mask_cut(tower: Any, length: int) -> Iterator[None]:
    """While a tower reads texts of a length, its causal mask has that size."""
    mask_LL = tower.attn_mask
    tower.attn_mask = mask_LL[:length, :length]
    try:
        yield
    finally:
        tower.attn_mask = mask_LL


def encode_shorter(model: Any, tokens_BL: Tensor) -> Tensor:
    """CLIP's `encode_text`, which itself takes texts of the whole context alone."""
    dtype = model.transformer.get_cast_dtype()
    positions_LD = model.positional_embedding[: tokens_BL.shape[1]].to(dtype)
    hidden_BLD = model.token_embedding(tokens_BL).to(dtype) + positions_LD
    hidden_BLD = model.ln_final(model.transformer(hidden_BLD, attn_mask=model.attn_mask))
    pool, end_id = pooling(model)
    pooled_BD: Tensor = text_global_pool(hidden_BLD, tokens_BL, pool, eos_token_id=end_id)
    if model.text_projection is None:
        return pooled_BD
    if isinstance(model.text_projection, nn.Linear):
        projected: Tensor = model.text_projection(pooled_BD)
        return projected
    return pooled_BD @ model.text_projection
