"""An assistant's language model over rows of packed conversations.

R: rows; L: tokens of a row; M: image tokens; N: images; P: tokens an image; D: width of the language model.
"""

from typing import Any, Protocol

import torch
from torch import Tensor


class PackedTokens(Protocol):
    """What a forward pass reads of a batch of packed conversations; see `PackedBatch`."""

    ids_RL: Tensor
    token_positions_RL: Tensor
    documents_RL: Tensor
    branches_RL: Tensor
    is_causal: bool
    image_token_positions_M: Tensor
    feature_indices_M: Tensor


def last_hidden(model: Any, batch: PackedTokens, features_NPD: Tensor | None) -> Tensor:
    """(R, L, D): the language model's last hidden states.

    Args:
        features_NPD: projected image features, None where the batch has no image.
    """
    embeds_RLD = model.get_input_embeddings()(batch.ids_RL)
    if features_NPD is not None:
        # index_select: the backward of indexing by [...] adds in any order on several threads, and bits would differ
        features_MD = features_NPD.flatten(0, 1).index_select(0, batch.feature_indices_M).to(embeds_RLD.dtype)
        flat_embeds = embeds_RLD.flatten(0, 1).index_copy(0, batch.image_token_positions_M, features_MD)
        embeds_RLD = flat_embeds.view(embeds_RLD.shape)
    output = model.model.language_model(
        inputs_embeds=embeds_RLD,
        attention_mask=attention_mask(model, batch),
        position_ids=batch.token_positions_RL,
        use_cache=False,
    )
    return output.last_hidden_state


def attention_mask(model: Any, batch: PackedTokens) -> Any:
    """What keeps documents and branches apart, in the form that the model's attention takes.

    None where causality does it alone: rows of one conversation each (padding comes last), and flash attention, which
    reads the lengths of documents off the restarting positions of its one row.
    """
    attention = model.config.text_config._attn_implementation
    if batch.is_causal or "flash" in attention:
        return None
    documents_RL, branches_RL = batch.documents_RL, batch.branches_RL
    rows, length = documents_RL.shape
    if attention == "flex_attention":
        from torch.nn.attention.flex_attention import create_block_mask

        def visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            branch = branches_RL[row, key]
            same_branch = (branch == 0) | (branch == branches_RL[row, query])
            return (documents_RL[row, query] == documents_RL[row, key]) & same_branch & (key <= query)

        return create_block_mask(visible, rows, None, length, length, device=documents_RL.device)
    visible_R1LL = visible_tokens(documents_RL, branches_RL)
    if attention == "eager":  # adds its mask to the scores, whatever the mask's type
        dtype = model.lm_head.weight.dtype
        return torch.zeros_like(visible_R1LL, dtype=dtype).masked_fill(~visible_R1LL, torch.finfo(dtype).min)
    return visible_R1LL


def visible_tokens(documents_RL: Tensor, branches_RL: Tensor) -> Tensor:
    """(R, 1, L, L), query before key: a token sees what came before it in its document, of the shared prefix and of its
    own branch. Every token sees itself, padding too, so that no row of a softmax is empty."""
    same_document_RLL = documents_RL[:, :, None] == documents_RL[:, None, :]
    same_branch_RLL = (branches_RL[:, None, :] == 0) | (branches_RL[:, :, None] == branches_RL[:, None, :])
    return (same_document_RLL & same_branch_RLL).tril()[:, None]
