"""open_clip's vision transformers as transformers' own classes, hidden state for hidden state.

D: width; N: patches.
"""

from typing import Any

import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from medvlp.models.clip import Clip
from medvlp.models.pretrained import WeightsError

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


def clip_vision_model(clip: Clip) -> CLIPVisionModel:
    """The image tower of a CLIP as transformers' CLIPVisionModel, in evaluation mode.

    `hidden_states[0]` is what enters open_clip's first block, `hidden_states[i]` what leaves its i-th. `pooler_output`
    is the normalised class token, which is open_clip's pooled output (before its projection) where `pool_type` is tok.
    Layer scale is folded into the layer that it follows. Patch dropout acts in training only, and is left behind.

    Raises:
        WeightsError: a tower that CLIPVisionModel cannot express; the message names the setting.
    """
    visual: Any = clip.model.visual
    config = clip_vision_config(clip)
    with torch.no_grad():
        model = CLIPVisionModel(config)
        model.load_state_dict(_tensors(visual))
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
    for key, why in UNMAPPED.items():
        if settings.get(key):
            raise WeightsError(f"vision_cfg.{key}={settings[key]!r} cannot be carried over: {why}")
    block: Any = visual.transformer.resblocks[0]
    return CLIPVisionConfig(
        hidden_size=visual.transformer.width,
        intermediate_size=block.mlp.c_fc.out_features,
        projection_dim=visual.output_dim,
        num_hidden_layers=visual.transformer.layers,
        num_attention_heads=block.attn.num_heads,
        image_size=_side(visual.image_size, "image_size"),
        patch_size=_side(visual.patch_size, "patch_size"),
        hidden_act=_activation(block.mlp.gelu),
        layer_norm_eps=block.ln_1.eps,
    )


def _side(size: tuple[int, int], key: str) -> int:
    height, width = size
    if height != width:
        raise WeightsError(f"vision_cfg.{key}={[height, width]} cannot be carried over: CLIPVisionModel takes squares")
    return height


def _activation(module: nn.Module) -> str:
    # the module says it and not model_cfg, because open_clip may force quick GELU when it builds the model
    if isinstance(module, QuickGELU):
        return "quick_gelu"
    if isinstance(module, nn.GELU):
        return "gelu_pytorch_tanh" if module.approximate == "tanh" else "gelu"
    raise WeightsError(f"vision_cfg.act_kwargs: activation {module} has no name in transformers")


def _tensors(visual: VisionTransformer) -> dict[str, Tensor]:
    tensors = {
        "embeddings.class_embedding": visual.class_embedding,
        "embeddings.patch_embedding.weight": visual.conv1.weight,
        "embeddings.position_embedding.weight": visual.positional_embedding,
        **_layer("pre_layrnorm", visual.ln_pre),  # spelt as transformers spells it
        **_layer("post_layernorm", visual.ln_post),
    }
    for index, block in enumerate(visual.transformer.resblocks):
        tensors |= {f"encoder.layers.{index}.{name}": tensor for name, tensor in _block(block).items()}
    return tensors


def _block(block: Any) -> dict[str, Tensor]:
    tensors = {**_layer("layer_norm1", block.ln_1), **_layer("layer_norm2", block.ln_2)}
    weights = block.attn.in_proj_weight.chunk(3)
    biases = block.attn.in_proj_bias.chunk(3)
    for name, weight_DD, bias_D in zip(("q_proj", "k_proj", "v_proj"), weights, biases, strict=True):
        tensors |= {f"self_attn.{name}.weight": weight_DD, f"self_attn.{name}.bias": bias_D}
    tensors |= _layer("self_attn.out_proj", block.attn.out_proj, getattr(block.ls_1, "gamma", None))
    tensors |= _layer("mlp.fc1", block.mlp.c_fc)
    return tensors | _layer("mlp.fc2", block.mlp.c_proj, getattr(block.ls_2, "gamma", None))


def _layer(name: str, layer: Any, scale_D: Tensor | None = None) -> dict[str, Tensor]:
    weight, bias_D = layer.weight, layer.bias
    if scale_D is not None:
        weight, bias_D = weight * scale_D[:, None], bias_D * scale_D
    return {f"{name}.weight": weight, f"{name}.bias": bias_D}
