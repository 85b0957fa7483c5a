"""A CLIP or SigLIP model of transformers as a starting point: its weights by the names of open_clip's classes."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from medvlp.models.weights import WeightsError

NAMES = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
    "vision_model.encoder.layers": "visual.transformer.resblocks",
    "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.encoder.layers": "transformer.resblocks",
    "text_model.final_layer_norm": "ln_final",
    "logit_scale": "logit_scale",
}
INNER = {
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
    ".self_attn.out_proj.": ".attn.out_proj.",
}
QUERY = re.compile(r"(.*)\.self_attn\.q_proj\.(weight|bias)$")


SIGLIP_NAMES = {
    "vision_model.embeddings.patch_embedding": "visual.trunk.patch_embed.proj",
    "vision_model.embeddings.position_embedding.weight": "visual.trunk.pos_embed",
    "vision_model.encoder.layers": "visual.trunk.blocks",
    "vision_model.post_layernorm": "visual.trunk.norm",
    "vision_model.head.probe": "visual.trunk.attn_pool.latent",
    "vision_model.head.attention.out_proj": "visual.trunk.attn_pool.proj",
    "vision_model.head.layernorm": "visual.trunk.attn_pool.norm",
    "vision_model.head.mlp": "visual.trunk.attn_pool.mlp",
    "text_model.embeddings.token_embedding": "text.token_embedding",
    "text_model.embeddings.position_embedding.weight": "text.positional_embedding",
    "text_model.encoder.layers": "text.transformer.resblocks",
    "text_model.final_layer_norm": "text.ln_final",
    "text_model.head": "text.text_projection",
    "logit_scale": "logit_scale",
    "logit_bias": "logit_bias",
}
"""SigLIP's image tower is timm's in open_clip, its text tower open_clip's own."""
TIMM_INNER = {".layer_norm1.": ".norm1.", ".layer_norm2.": ".norm2.", ".self_attn.out_proj.": ".attn.proj."}


def open_clip_state(config: Any, state: Mapping[str, Tensor], reference: str) -> dict[str, Tensor]:
    """The tensors of transformers' CLIPModel or SiglipModel by open_clip's names; queries, keys and values in one.

    Raises:
        WeightsError: another family, which open_clip has another architecture for.
    """
    if config.model_type == "clip":
        return _clip_state(state)
    if config.model_type == "siglip":
        return _siglip_state(state)
    raise WeightsError(
        f"init_from=hf:{reference}: a {config.model_type} model; of transformers' CLIP-like models a CLIPModel or a SiglipModel "
        f"can be begun with. open_clip publishes others itself: model.name=<architecture> model.pretrained=<tag>"
    )


def _siglip_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    query_weight, *pool_weights = state["vision_model.head.attention.in_proj_weight"].chunk(3)
    query_bias, *pool_biases = state["vision_model.head.attention.in_proj_bias"].chunk(3)
    pool = "visual.trunk.attn_pool"
    tensors = {
        f"{pool}.q.weight": query_weight.clone(),
        f"{pool}.q.bias": query_bias.clone(),
        f"{pool}.kv.weight": torch.cat(pool_weights),
        f"{pool}.kv.bias": torch.cat(pool_biases),
        **_renamed(state, SIGLIP_NAMES),
    }
    tensors["visual.trunk.pos_embed"] = tensors["visual.trunk.pos_embed"][None]
    for name in ("logit_scale", "logit_bias"):  # of one element there, scalars here
        tensors[name] = tensors[name].reshape(())
    return tensors


def _clip_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors = {
        "visual.proj": state["visual_projection.weight"].T.contiguous(),
        "text_projection": state["text_projection.weight"].T.contiguous(),
    }
    return tensors | _renamed(state, NAMES)


def _renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors by the new names of what they are in; others are left out."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        prefix = next((prefix for prefix in names if name == prefix or name.startswith(prefix + ".")), None)
        if prefix is None or ".k_proj." in name or ".v_proj." in name:
            continue
        target = names[prefix] + name.removeprefix(prefix)
        in_timm = ".trunk." in target
        if match := QUERY.match(name):
            parts = [state[f"{match[1]}.self_attn.{letter}_proj.{match[2]}"] for letter in "qkv"]
            stem = names[prefix] + match[1].removeprefix(prefix)
            tensors[f"{stem}.attn.{'qkv.' if in_timm else 'in_proj_'}{match[2]}"] = torch.cat(parts)
            continue
        for inner, open_clip_inner in (TIMM_INNER if in_timm else INNER).items():
            target = target.replace(inner, open_clip_inner)
        tensors[target] = tensor
    return tensors


def refuse_activation(config: Any, model_cfg: Mapping[str, Any], reference: str) -> None:
    """Raises WeightsError where open_clip's architecture computes with another activation: no tensor would tell."""
    is_quick = {config.vision_config.hidden_act, config.text_config.hidden_act} == {"quick_gelu"}
    if is_quick != bool(model_cfg.get("quick_gelu", False)):
        advice = "one whose name ends in -quickgelu" if is_quick else "one without -quickgelu in its name"
        raise WeightsError(
            f"init_from=hf:{reference} computes with {config.vision_config.hidden_act}, the chosen model.name does not; take "
            f"{advice}"
        )
    is_tanh = config.text_config.hidden_act == "gelu_pytorch_tanh"
    if is_tanh != (model_cfg["text_cfg"].get("act_kwargs", {}).get("approximate") == "tanh"):
        print(
            f"note: init_from=hf:{reference} computes with {config.text_config.hidden_act}, the chosen model.name with another "
            f"approximation of the same function, as open_clip's own SigLIP does; embeddings differ by about 1e-3",
            flush=True,
        )
