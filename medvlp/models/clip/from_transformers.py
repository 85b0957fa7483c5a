"""A CLIP model of transformers as a starting point: its weights by the names of open_clip's CLIP."""

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


def open_clip_state(config: Any, state: Mapping[str, Tensor], reference: str) -> dict[str, Tensor]:
    """The tensors of transformers' CLIPModel by open_clip's names; queries, keys and values in one.

    Raises:
        WeightsError: another family, which open_clip has another architecture for.
    """
    if config.model_type != "clip":
        raise WeightsError(
            f"init_from=hf:{reference}: a {config.model_type} model; of transformers' CLIP-like models a CLIPModel can be begun "
            f"with. open_clip publishes SigLIP and others itself: model.name=<architecture> model.pretrained=<tag>"
        )
    tensors = {
        "visual.proj": state["visual_projection.weight"].T.contiguous(),
        "text_projection": state["text_projection.weight"].T.contiguous(),
    }
    for name, tensor in state.items():
        prefix = next((prefix for prefix in NAMES if name == prefix or name.startswith(prefix + ".")), None)
        if prefix is None or ".k_proj." in name or ".v_proj." in name:
            continue
        target = NAMES[prefix] + name.removeprefix(prefix)
        if match := QUERY.match(name):
            parts = [state[f"{match[1]}.self_attn.{letter}_proj.{match[2]}"] for letter in "qkv"]
            stem = NAMES[prefix] + match[1].removeprefix(prefix)
            tensors[f"{stem}.attn.in_proj_{match[2]}"] = torch.cat(parts)
            continue
        for inner, open_clip_inner in INNER.items():
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
