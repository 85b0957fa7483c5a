"""Vision transformers of open_clip and timm as transformers' own classes, hidden state for hidden state.

D: width; N: patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm.layers
import timm.models.vision_transformer as timm_vit
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedConfig,
    PreTrainedModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)

from medvlp.models.clip.model import Clip
from medvlp.models.weights import WeightsError

UNMAPPED = {
    "no_ln_pre": "CLIPVisionModel always normalises before its first block",
    "attentional_pool": "CLIPVisionModel has no attentional pooling, and its last norm has the tower's width",
    "qk_norm": "CLIPVisionModel does not normalise queries and keys",
    "scaled_cosine_attn": "CLIPVisionModel has dot-product attention only",
    "scale_heads": "CLIPVisionModel does not scale its heads",
    "scale_attn_inner": "CLIPVisionModel does not normalise inside its attention",
    "scale_attn": "CLIPVisionModel does not normalise after its attention",
    "scale_fc": "CLIPVisionModel does not normalise inside its MLP",
}
"""Settings of open_clip's `vision_cfg` without a counterpart in transformers, and why."""

CLIP_NAMES = {
    "class": "embeddings.class_embedding",
    "patches": "embeddings.patch_embedding",
    "positions": "embeddings.position_embedding.weight",
    "norm_before": "pre_layrnorm",  # spelt as transformers spells it
    "norm_after": "post_layernorm",
    "block": "encoder.layers",
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
"""Part → name in CLIPVisionModel and SiglipVisionModel."""

VIT_NAMES = {
    "class": "embeddings.cls_token",
    "patches": "embeddings.patch_embeddings.projection",
    "positions": "embeddings.position_embeddings",
    "norm_after": "layernorm",
    "block": "layers",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "query": "attention.q_proj",
    "key": "attention.k_proj",
    "value": "attention.v_proj",
    "out": "attention.o_proj",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
"""Part → name in ViTModel."""


@dataclass
class Layer:
    """Weight and bias of a linear layer, a convolution or a norm."""

    weight: Tensor
    bias: Tensor | None

    def times(self, scale_D: Tensor | None) -> "Layer":
        """The layer with a layer scale after it."""
        if scale_D is None:
            return self
        return Layer(self.weight * scale_D[:, None], None if self.bias is None else self.bias * scale_D)


def clip_vision_model(clip: Clip) -> CLIPVisionModel:
    """open_clip's VisionTransformer in a CLIP as transformers' CLIPVisionModel, in evaluation mode.

    `hidden_states[0]` is what enters open_clip's first block, `hidden_states[i]` what leaves its i-th. `pooler_output`
    is the normalised class token, which is open_clip's pooled output (before its projection) where `pool_type` is tok.
    Layer scale is folded into the layer that it follows. Patch dropout acts in training only, and is left behind.

    Raises:
        WeightsError: a tower that CLIPVisionModel cannot express; the message names the setting.
    """
    visual: Any = clip.model.visual
    model = CLIPVisionModel(clip_vision_config(clip))
    with torch.no_grad():
        parts = {
            "class": visual.class_embedding,
            "patches": visual.conv1,
            "positions": visual.positional_embedding,
            "norm_before": visual.ln_pre,
            "norm_after": visual.ln_post,
        }
        model.load_state_dict(
            named_tensors(parts, [open_clip_block(b) for b in visual.transformer.resblocks], CLIP_NAMES)
        )
    return model.eval()


def clip_vision_config(clip: Clip) -> CLIPVisionConfig:
    """The architecture alone of `clip_vision_model`, with the same errors."""
    visual: Any = clip.model.visual
    if not isinstance(visual, VisionTransformer):
        raise WeightsError(
            f"an image tower of class {type(visual).__name__} has no counterpart in CLIPVisionModel: "
            "expected open_clip's VisionTransformer (vision_cfg with layers, width and patch_size)"
        )
    settings = clip.model_cfg.get("vision_cfg", {})
    for key, reason in UNMAPPED.items():
        if settings.get(key):
            raise WeightsError(f"vision_cfg.{key}={settings[key]!r} cannot be carried over: {reason}")
    block: Any = visual.transformer.resblocks[0]
    return CLIPVisionConfig(
        hidden_size=visual.transformer.width,
        intermediate_size=block.mlp.c_fc.out_features,
        projection_dim=visual.output_dim,
        num_hidden_layers=visual.transformer.layers,
        num_attention_heads=block.attn.num_heads,
        image_size=_side(visual.image_size, "vision_cfg.image_size"),
        patch_size=_side(visual.patch_size, "vision_cfg.patch_size"),
        hidden_act=activation(block.mlp.gelu),
        layer_norm_eps=block.ln_1.eps,
    )


def timm_vision_model(trunk: nn.Module) -> PreTrainedModel:
    """timm's VisionTransformer as the transformers class with its embeddings, in evaluation mode.

    A norm before the blocks makes it a CLIPVisionModel, else a class token a ViTModel, and no class token a
    SiglipVisionModel. `hidden_states` are what enters timm's first block, and what leaves each. The norm at the end is
    timm's, before its pooling or after. Pooling itself is left behind; the pooling layer that a ViTModel has is zero.

    Raises:
        WeightsError: a tower that none of them can express; the message names what stands in the way.
    """
    config: Any = timm_vision_config(trunk)
    vit: Any = trunk
    last_norm = vit.norm if isinstance(vit.norm, nn.LayerNorm) else vit.fc_norm
    parts = {
        "patches": vit.patch_embed.proj,
        "positions": vit.pos_embed[0],
        "norm_after": last_norm if isinstance(last_norm, nn.LayerNorm) else nn.LayerNorm(vit.embed_dim),
    }
    if vit.has_class_token:
        parts["class"] = vit.cls_token.flatten()
        if vit.no_embed_class:
            parts["positions"] = torch.cat([torch.zeros(1, vit.embed_dim), parts["positions"]])
    blocks = [_timm_block(block) for block in vit.blocks]
    with torch.no_grad():
        if config.model_type == "vit":
            parts["class"], parts["positions"] = parts["class"][None, None], parts["positions"][None]
            model: Any = ViTModel(config)
            pooler = {f"pooler.{n}": torch.zeros_like(p) for n, p in model.pooler.state_dict().items()}
            model.load_state_dict(named_tensors(parts, blocks, VIT_NAMES) | pooler)
            return model.eval()
        if config.model_type == "clip_vision_model":
            parts["norm_before"] = vit.norm_pre
        model = (CLIPVisionModel if config.model_type == "clip_vision_model" else SiglipVisionModel)(config)
        model.load_state_dict(named_tensors(parts, blocks, CLIP_NAMES))
    return model.eval()


def timm_vision_config(trunk: nn.Module) -> PreTrainedConfig:
    """The architecture alone of `timm_vision_model`, with the same errors; the trunk may be on the meta device."""
    _check_timm(trunk)
    vit: Any = trunk
    block = vit.blocks[0]
    settings: dict[str, Any] = {
        "hidden_size": vit.embed_dim,
        "intermediate_size": block.mlp.fc1.out_features,
        "num_hidden_layers": len(vit.blocks),
        "num_attention_heads": block.attn.num_heads,
        "image_size": _side(vit.patch_embed.img_size, "img_size"),
        "patch_size": _side(vit.patch_embed.patch_size, "patch_size"),
        "hidden_act": activation(block.mlp.act),
        "layer_norm_eps": block.norm1.eps,
    }
    if isinstance(vit.norm_pre, nn.LayerNorm):
        return CLIPVisionConfig(**settings)
    if vit.has_class_token:
        return ViTConfig(**settings)
    return SiglipVisionConfig(**settings, vision_use_head=False)


def _check_timm(trunk: nn.Module) -> None:
    vit: Any = trunk
    if type(trunk) is not timm_vit.VisionTransformer:
        raise WeightsError(f"timm's {type(trunk).__name__} has no counterpart among transformers' vision transformers")
    block = vit.blocks[0]
    if type(block) is not timm_vit.Block:
        raise WeightsError(f"timm's {type(block).__name__} has no counterpart among transformers' vision transformers")
    pre_norm = isinstance(vit.norm_pre, nn.LayerNorm)
    obstacles = {
        "register tokens": vit.num_reg_tokens > 0,
        "no position embeddings": vit.pos_embed is None,
        "a norm of its patches": not isinstance(vit.patch_embed.norm, nn.Identity),
        "a norm before its blocks, but no class token": pre_norm and not vit.has_class_token,
        f"attention of class {type(block.attn).__name__}": type(block.attn) is not timm_vit.Attention,
        f"an MLP of class {type(block.mlp).__name__}": type(block.mlp) is not timm.layers.Mlp,
        f"norms of class {type(block.norm1).__name__}": not isinstance(block.norm1, nn.LayerNorm),
        "norms inside its blocks": any(
            not isinstance(getattr(layer, name, None), nn.Identity | None)
            for layer, name in ((block.attn, "q_norm"), (block.attn, "norm"), (block.mlp, "norm"))
        ),
    }
    present = [obstacle for obstacle, is_present in obstacles.items() if is_present]
    if present:
        raise WeightsError(f"timm's vision transformer cannot be carried over to transformers: it has {present}")


def _side(size: Sequence[int], key: str) -> int:
    height, width = size
    if height != width:
        raise WeightsError(f"{key}={[height, width]} cannot be carried over: transformers' vision models take squares")
    return height


def activation(module: nn.Module) -> str:
    # the module says it and not a configuration, because open_clip may force quick GELU when it builds the model
    if isinstance(module, QuickGELU | timm.layers.activations.QuickGELU):
        return "quick_gelu"
    if isinstance(module, timm.layers.activations.GELUTanh):
        return "gelu_pytorch_tanh"
    if isinstance(module, nn.GELU | timm.layers.activations.GELU):
        return "gelu_pytorch_tanh" if getattr(module, "approximate", "none") == "tanh" else "gelu"
    raise WeightsError(f"activation {module} (vision_cfg.act_kwargs) has no name in transformers")


def open_clip_block(block: Any) -> dict[str, Layer]:
    attention, mlp = block.attn, block.mlp
    return {
        "norm1": _layer(block.ln_1),
        "norm2": _layer(block.ln_2),
        **_thirds(attention.in_proj_weight, attention.in_proj_bias),
        "out": _layer(attention.out_proj).times(getattr(block.ls_1, "gamma", None)),
        "fc1": _layer(mlp.c_fc),
        "fc2": _layer(mlp.c_proj).times(getattr(block.ls_2, "gamma", None)),
    }


def _timm_block(block: Any) -> dict[str, Layer]:
    attention, mlp = block.attn, block.mlp
    return {
        "norm1": _layer(block.norm1),
        "norm2": _layer(block.norm2),
        **_thirds(attention.qkv.weight, attention.qkv.bias),
        "out": _layer(attention.proj).times(getattr(block.ls1, "gamma", None)),
        "fc1": _layer(mlp.fc1),
        "fc2": _layer(mlp.fc2).times(getattr(block.ls2, "gamma", None)),
    }


def _thirds(weight: Tensor, bias: Tensor | None) -> dict[str, Layer]:
    biases = torch.zeros(len(weight)) if bias is None else bias
    thirds = zip(("query", "key", "value"), weight.chunk(3), biases.chunk(3), strict=True)
    return {name: Layer(weight_DD, bias_D) for name, weight_DD, bias_D in thirds}


def _layer(module: Any) -> Layer:
    return Layer(module.weight, module.bias)


def named_tensors(parts: dict[str, Any], blocks: list[dict[str, Layer]], names: dict[str, str]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    layers = {names[part]: value for part, value in parts.items()}
    for index, block in enumerate(blocks):
        layers |= {f"{names['block']}.{index}.{names[part]}": layer for part, layer in block.items()}
    for name, value in layers.items():
        if isinstance(value, Tensor):
            tensors[name] = value
            continue
        tensors[f"{name}.weight"] = value.weight
        if value.bias is not None:
            tensors[f"{name}.bias"] = value.bias
    return tensors
