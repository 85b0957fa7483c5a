"""Token states of CLIP's towers, and the module that tells masked words from them.

B: batch; L: tokens of a text; P: tokens of an image; S: image side; D: width; E: shared width; V: vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medvlp.models.clip.text_lengths import encode_by_length


class FusionHead(nn.Module):
    """Masked words from a text's states and its image's embedding (PMC-CLIP, Lin 2023).

    As in its code: a transformer over the text's states, a learned token that announces the image, and the image's unit vector;
    then a projection into the vocabulary without a bias. Unlike there, padding is not attended to, and an image's embedding of
    another width is projected.

    Args:
        width: of the text tower's states.
        embed_dim: of the shared space.
        vocabulary: of the tokenizer.
    Raises:
        ValueError: heads do not divide the width.
    """

    def __init__(self, width: int, embed_dim: int, vocabulary: int, layers: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide the text tower's width, {width}")
        self.image_proj = nn.Identity() if embed_dim == width else nn.Linear(embed_dim, width, bias=False)
        self.image_mark = nn.Parameter(torch.zeros(width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.vocabulary_proj = nn.Parameter(torch.empty(vocabulary, width))
        nn.init.normal_(self.vocabulary_proj, std=width**-0.5)

    def forward(self, states_BLD: Tensor, is_padding_BL: Tensor, image_BE: Tensor) -> Tensor:
        """(B, L, D): states from which `vocabulary_proj` tells words."""
        dtype = self.image_mark.dtype  # of the weights, which may be half precision where unit vectors are not
        mark_B1D = self.image_mark.expand(len(image_BE), 1, -1)
        image_B1D = self.image_proj(image_BE.to(dtype))[:, None]
        sequence = torch.cat([states_BLD.to(dtype), mark_B1D, image_B1D.to(dtype)], dim=1)
        ignored = nn.functional.pad(is_padding_BL, (0, 2), value=False)
        hidden: Tensor = self.layers(sequence, src_key_padding_mask=ignored)
        return hidden[:, :-2]


def has_decoder(model: nn.Module) -> bool:
    """Whether it is a CoCa."""
    return hasattr(model, "text_decoder")


def start_decoder(model: Any) -> None:
    """Random values for the last projection of a CoCa's decoder: open_clip builds it and leaves it as the memory was."""
    projection = model.text_decoder.text_projection
    nn.init.normal_(projection, std=len(projection) ** -0.5)


def image_states(model: Any, images_BCHW: Tensor) -> tuple[Tensor, Tensor | None]:
    """(B, E) features and, of a CoCa, (B, P, D) tokens for its decoder."""
    if has_decoder(model):
        features_BE, tokens_BPD = model._encode_image(images_BCHW, normalize=False)
        return features_BE, tokens_BPD
    return model.encode_image(images_BCHW), None


def text_states(model: Any, tokens_BL: Tensor, with_states: bool) -> tuple[Tensor, Tensor | None]:
    """(B, E) features and, where wanted, (B, L, D) states: of a CoCa for its decoder, of a transformers tower its last ones."""
    if has_decoder(model):
        features_BE, states_BLD = model._encode_text(tokens_BL, normalize=False)
        return features_BE, states_BLD
    if not with_states:
        return encode_by_length(model, tokens_BL), None
    states: list[Tensor] = []
    hook = model.text.transformer.register_forward_hook(
        lambda tower, arguments, output: states.append(output.last_hidden_state)
    )
    try:
        features_BE = model.encode_text(tokens_BL)
    finally:
        hook.remove()
    return features_BE, states[0]


def caption_logits(model: Any, image_BPD: Tensor, states_BLD: Tensor) -> Tensor:
    """(B, L - 1, V): of the tokens after each but the last, by a CoCa's decoder."""
    logits: Tensor = model.text_decoder(image_BPD, states_BLD[:, :-1])
    return logits


def unit_vectors(features_BD: Tensor) -> Tensor:
    """The features, in single precision at least, with length 1."""
    with torch.autocast(features_BD.device.type, enabled=False):
        return normalize(at_least_single(features_BD), dim=-1)


def at_least_single(values: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
