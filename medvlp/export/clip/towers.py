"""Both towers of a CLIP as classes of transformers, vector for vector.

D: width of a tower; E: shared width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import timm
import torch
from open_clip.model import CLIP
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, TextTransformer, VisionTransformer
from timm.layers import AttentionPoolLatent
from torch import Tensor, nn
from transformers import (
    AutoModel,
    CLIPTextConfig,
    CLIPTextModel,
    SiglipTextConfig,
    SiglipTextModel,
    SiglipVisionModel,
    TimmWrapperConfig,
    TimmWrapperModel,
    ViTModel,
)

from medvlp.export.transformers import NotExportable
from medvlp.models.clip.model import Clip
from medvlp.models.clip.text_lengths import pooling
from medvlp.models.convert import (
    CLIP_NAMES,
    activation,
    clip_vision_model,
    named_tensors,
    open_clip_block,
    timm_vision_model,
)
from medvlp.models.weights import WeightsError

TEXT_NAMES = {**CLIP_NAMES, "tokens": "embeddings.token_embedding.weight", "norm_after": "final_layer_norm"}
"""Part → name in CLIPTextModel and SiglipTextModel."""
SLOPE = 2.0**-16
"""Slope at which a pooler's tanh is a straight line: of x up to 20 it bends 3e-8 of x."""
WITH_TANH = ("bert", "roberta", "xlm-roberta")
"""Model types whose pooled output is the tanh of a layer of the first token's state."""
INSTEAD = "Export it with format=onnx or format=open_clip, which take every tower"


@dataclass
class TowerPart:
    """A tower of transformers, and what makes shared vectors of its `pooler_output`.

    model: in evaluation mode. projection_ED: None where the pooled output is the shared vector.
    """

    model: Any
    projection_ED: Tensor | None


def image_part(clip: Clip) -> TowerPart:
    """The image tower: a CLIPVisionModel, SiglipVisionModel, ViTModel, or TimmWrapperModel.

    Raises:
        NotExportable: a tower or a head that none of them can express; says what can be done.
    """
    visual: Any = clip.model.visual
    if isinstance(visual, VisionTransformer):
        if visual.pool_type != "tok":
            raise NotExportable(
                f"the image tower pools by {visual.pool_type} (vision_cfg.pool_type), CLIPVisionModel takes the class token. "
                f"{INSTEAD}"
            )
        return TowerPart(_converted(lambda: clip_vision_model(clip)), visual.proj.T)
    if isinstance(visual, TimmModel):
        return TowerPart(_timm_part(clip, visual), _timm_projection(visual))
    raise NotExportable(f"transformers has no image tower such as open_clip's {type(visual).__name__}. {INSTEAD}")


def text_part(clip: Clip) -> TowerPart:
    """The text tower: a CLIPTextModel, SiglipTextModel, BertModel, RobertaModel or XLMRobertaModel.

    Raises:
        NotExportable: a tower, a pooling or a head that none of them can express; says what can be done.
    """
    text: Any = getattr(clip.model, "text", clip.model)
    if hasattr(text, "config"):
        return _published_text(text)
    if isinstance(text, CLIP | TextTransformer):
        return _own_text(clip, text)
    raise NotExportable(f"transformers has no text tower such as open_clip's {type(text).__name__}. {INSTEAD}")


def _converted(convert: Callable[[], Any]) -> Any:
    try:
        return convert()
    except WeightsError as error:
        raise NotExportable(f"{error}. {INSTEAD}") from None


def _timm_part(clip: Clip, visual: Any) -> Any:
    """A timm trunk as a class of transformers that pools as it does; in timm's wrapper where there is none."""
    trunk = visual.trunk
    pool = getattr(trunk, "global_pool", "")
    try:
        model: Any = timm_vision_model(trunk)
    except WeightsError:
        return _wrapped(clip, trunk)
    if pool == "token" and model.config.model_type == "clip_vision_model":
        return model
    if pool == "token" and isinstance(model, ViTModel):
        model.config.pooler_act = "linear"
        exact = ViTModel(model.config).eval()
        dense = {"pooler.dense.weight": torch.eye(trunk.embed_dim), "pooler.dense.bias": torch.zeros(trunk.embed_dim)}
        exact.load_state_dict(model.state_dict() | dense)
        return exact
    if isinstance(model, SiglipVisionModel) and _is_siglip_head(trunk, model.config):
        model.config.vision_use_head = True
        pooled = SiglipVisionModel(model.config).eval()
        pooled.load_state_dict(model.state_dict() | _siglip_head(trunk.attn_pool))
        return pooled
    return _wrapped(clip, trunk)


def _is_siglip_head(trunk: Any, config: Any) -> bool:
    """Whether a timm trunk pools by attention exactly as SiglipVisionModel does."""
    pool = getattr(trunk, "attn_pool", None)
    return (
        isinstance(pool, AttentionPoolLatent)
        and isinstance(trunk.norm, nn.LayerNorm)
        and isinstance(trunk.fc_norm, nn.Identity)
        and isinstance(pool.norm, nn.LayerNorm)
        and isinstance(pool.q, nn.Linear)
        and isinstance(pool.q_norm, nn.Identity)
        and pool.mlp is not None
        and (pool.pos_embed, pool.latent_len, pool.pool) == (None, 1, "token")
        and (pool.num_heads, pool.mlp.fc1.out_features) == (config.num_attention_heads, config.intermediate_size)
        and (pool.norm.eps, activation(pool.mlp.act)) == (config.layer_norm_eps, config.hidden_act)
    )


def _siglip_head(pool: Any) -> dict[str, Tensor]:
    state = {
        "probe": pool.latent,
        "attention.in_proj_weight": torch.cat([pool.q.weight, pool.kv.weight]),
        "attention.in_proj_bias": torch.cat([pool.q.bias, pool.kv.bias]),
        **{f"attention.out_proj.{name}": tensor for name, tensor in pool.proj.state_dict().items()},
        **{f"layernorm.{name}": tensor for name, tensor in pool.norm.state_dict().items()},
        **{f"mlp.{name}": tensor for name, tensor in pool.mlp.state_dict().items()},
    }
    return {f"head.{name}": tensor.detach() for name, tensor in state.items()}


def _wrapped(clip: Clip, trunk: Any) -> Any:
    """Any timm trunk in transformers' wrapper, which builds it by its name, with its pooling and its input size."""
    name = clip.model_cfg["vision_cfg"]["timm_model_name"]
    pool = clip.model_cfg["vision_cfg"].get("timm_pool")
    pooling_options: dict[str, Any] = {"global_pool": pool} if pool else {}
    # open_clip changes the pooling of a trunk that is built, whose norm stays where it was: before its pooling
    norm_options: tuple[dict[str, Any], ...] = ({}, {"fc_norm": False}) if hasattr(trunk, "fc_norm") else ({},)
    size_options: tuple[dict[str, Any], ...] = ({}, {"img_size": clip.size})
    state = {key: tensor for key, tensor in trunk.state_dict().items() if not key.startswith("head.fc.")}
    for norm, size in product(norm_options, size_options):
        config = TimmWrapperConfig.from_dict(
            {
                "architecture": name,
                "do_pooling": True,
                "hidden_size": trunk.num_features,
                "image_size": clip.size,
                "model_args": {**pooling_options, **norm, **size},
                "num_classes": 0,
                "label_names": [],
            }
        )
        try:
            wrapper = TimmWrapperModel(config)
            wrapper.timm_model.load_state_dict(state)
            return wrapper.eval()
        except (RuntimeError, TypeError, ValueError) as error:
            problem = " ".join(str(error).split())[:200]
    raise NotExportable(
        f"timm's {name} (timm {timm.__version__}) in transformers' TimmWrapperModel is another model ({problem}). {INSTEAD}"
    )


def _timm_projection(visual: Any) -> Tensor | None:
    """(E, D), or None where there is none."""
    layers = {name: layer for name, layer in visual.head.named_children() if not isinstance(layer, nn.Dropout)}
    ending = getattr(visual.trunk, "head", None)
    if isinstance(ending, nn.Linear):
        raise NotExportable(
            f"the image tower ends in a layer with a bias (its description names no projection), and transformers' projections "
            f"have none; train with model.vision.proj=linear. {INSTEAD}"
        )
    if not layers:
        return None
    if list(layers) == ["proj"] and isinstance(layers["proj"], nn.Linear) and layers["proj"].bias is None:
        return layers["proj"].weight
    first = type(next(iter(layers.values()))).__name__
    raise NotExportable(
        f"the image tower's head is {', '.join(layers)} ({first}), and transformers' models "
        f"have one linear layer without a bias there; train with model.vision.proj=linear and a pooling of timm's own "
        f"(model.vision.pool=avg or token). {INSTEAD}"
    )


def _published_text(text: Any) -> TowerPart:
    """A text tower of transformers, its pooling expressed by the pooler of its own class."""
    config, pooler = text.config, type(text.pooler).__name__
    if config.model_type not in WITH_TANH:
        raise NotExportable(
            f"a text tower of type {config.model_type} gives no pooled vector in transformers. {INSTEAD}, or train with one of "
            f"{', '.join(WITH_TANH)}"
        )
    if pooler not in ("ClsPooler", "ClsLastHiddenStatePooler"):
        raise NotExportable(
            f"the text tower averages its tokens (model.text.pooler=mean_pooler), and no class of transformers does: "
            f"VisionTextDualEncoderModel takes its first token. {INSTEAD}, or train with "
            f"model.text.pooler=cls_last_hidden_state_pooler"
        )
    projection_ED = _text_projection(text.proj)
    state = dict(text.transformer.state_dict())
    if pooler == "ClsLastHiddenStatePooler":
        width = config.hidden_size
        state |= {"pooler.dense.weight": SLOPE * torch.eye(width), "pooler.dense.bias": torch.zeros(width)}
        projection_ED = (torch.eye(width) if projection_ED is None else projection_ED) / SLOPE
    model: Any = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    model.load_state_dict(state)
    return TowerPart(model.eval(), projection_ED)


def _text_projection(layer: nn.Module) -> Tensor | None:
    if isinstance(layer, nn.Identity):
        return None
    if isinstance(layer, nn.Linear) and layer.bias is None:
        return layer.weight
    raise NotExportable(
        f"the text tower ends in {type(layer).__name__} (model.text.proj=mlp), and transformers' models have one linear layer "
        f"there; train with model.text.proj=linear. {INSTEAD}"
    )


def _own_text(clip: Clip, text: Any) -> TowerPart:
    """open_clip's own text tower: causal and pooled at the end token as CLIP's, or neither as SigLIP's."""
    pool, end_id = pooling(text)
    block = text.transformer.resblocks[0]
    obstacles = {
        "text_cfg.embed_cls": getattr(text, "cls_emb", None) is not None,
        f"blocks of class {type(block).__name__}": type(block) is not ResidualAttentionBlock,
        "a norm after its pooling": clip.model_cfg["text_cfg"].get("final_ln_after_pool", False),
    }
    if present := [name for name, is_present in obstacles.items() if is_present]:
        raise NotExportable(f"the text tower has {', '.join(present)}, which CLIPTextModel has not. {INSTEAD}")
    settings: dict[str, Any] = {
        "vocab_size": text.token_embedding.num_embeddings,
        "hidden_size": text.token_embedding.embedding_dim,
        "intermediate_size": block.mlp.c_fc.out_features,
        "num_hidden_layers": len(text.transformer.resblocks),
        "num_attention_heads": block.attn.num_heads,
        "max_position_embeddings": len(text.positional_embedding),
        "hidden_act": activation(block.mlp.gelu),
        "layer_norm_eps": block.ln_1.eps,
        "pad_token_id": clip.padding[0],
        "bos_token_id": None,
        "eos_token_id": None,
    }
    parts = {
        "tokens": text.token_embedding.weight,
        "positions": text.positional_embedding,
        "norm_after": text.ln_final,
    }
    state = named_tensors(parts, [open_clip_block(layer) for layer in text.transformer.resblocks], TEXT_NAMES)
    weight_ED, bias_E = _own_projection(text.text_projection)
    is_causal = text.attn_mask is not None
    if pool == "argmax":  # 2 stands for the highest token in transformers; that is CLIP's own end token
        is_clip = not clip.model_cfg["text_cfg"].get("hf_tokenizer_name")
        end_id = clip.tokenizer.eot_token_id if is_clip else 2  # type: ignore[attr-defined]
    if is_causal and bias_E is None and (pool == "argmax" or (pool == "eos" and end_id != 2)):
        model: Any = CLIPTextModel(CLIPTextConfig(**{**settings, "eos_token_id": end_id}))
        model.load_state_dict(state)
        return TowerPart(model.eval(), weight_ED)
    if not is_causal and pool == "last":
        width = settings["hidden_size"]
        weight_ED = torch.eye(width) if weight_ED is None else weight_ED
        model = SiglipTextModel(SiglipTextConfig(**settings, projection_size=len(weight_ED)))
        head = {"head.weight": weight_ED, "head.bias": torch.zeros(len(weight_ED)) if bias_E is None else bias_E}
        model.load_state_dict(state | head)
        return TowerPart(model.eval(), None)
    raise NotExportable(
        f"the text tower is {'causal' if is_causal else 'not causal'}, pools by {pool} and has "
        f"{'no bias' if bias_E is None else 'a bias'} in its projection: neither as CLIPTextModel (causal, at the end token, "
        f"without) nor as SiglipTextModel (not causal, at the last position). {INSTEAD}"
    )


def _own_projection(projection: Any) -> tuple[Tensor | None, Tensor | None]:
    """Weight (E, D) and bias (E) of an own text tower's projection."""
    if projection is None:
        return None, None
    if isinstance(projection, nn.Linear):
        return projection.weight, projection.bias
    return projection.T, None
