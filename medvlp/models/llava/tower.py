"""An assistant's eye: a vision tower as stock transformers loads it, with the image processor that belongs to it.

B: batch; N: tokens of an image; D: width; S: side of the square input in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import timm
import torch
from open_clip.timm_model import TimmModel
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    CLIPVisionModel,
    PreTrainedConfig,
    PreTrainedModel,
    SiglipVisionModel,
    TimmWrapperConfig,
    TimmWrapperModel,
)

from medvlp.models.clip.model import Clip, preprocess_settings
from medvlp.models.convert import clip_vision_model, timm_vision_config, timm_vision_model
from medvlp.models.descriptions import is_timm
from medvlp.models.llava.processors import clip_processor, published_processor
from medvlp.models.timm_trunk import CLASSIFIERS, load_trunk
from medvlp.models.weights import DAMAGE, WeightsError, reason, refuse_adapter, resolve, weights_hash

TIMM = "timm:"
TOWERS: dict[str, type[PreTrainedModel]] = {
    "clip_vision_model": CLIPVisionModel,
    "siglip_vision_model": SiglipVisionModel,
}


@dataclass
class Tower:
    """What turns an image into features, and all that a Llava or FastVlm configuration says of it.

    config: transformers' configuration of the tower; `hidden_size` is the width of a feature.
    model: the tower with its weights, in evaluation mode; None where only the architecture was asked for.
    processor: PIL images → {"pixel_values": (B, 3, S, S)}.
    kind: "llava" for LlavaForConditionalGeneration, "fast_vlm" for FastVlmForConditionalGeneration.
    tokens: features of one image.
    feature_layer: index into the tower's hidden states (vision_feature_layer).
    select_strategy: "default" drops the first token, which is the class token; "full" keeps all.
    patch_size: pixels between two features, of LlavaProcessor.
    extra_tokens: features beside those of the patches before selection (num_additional_image_tokens of LlavaProcessor).
    identity: {"name", "sha256" of the weights, or "" without them}.
    """

    config: PreTrainedConfig
    model: PreTrainedModel | None
    processor: Any
    kind: Literal["llava", "fast_vlm"]
    tokens: int
    feature_layer: int
    select_strategy: Literal["default", "full"]
    patch_size: int
    extra_tokens: int
    identity: dict[str, str]


def load_tower(
    reference: str,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    feature_layer: int = -2,
    weights: bool = True,
    weights_file: str = "",
) -> Tower:
    """A tower by name.

    Args:
        reference: a folder, hub name or `package:` reference of a CLIP or SigLIP (whole, or its vision model), or
            `timm:<architecture>`: a vision transformer, or a tower with a feature map as convolutional ones have.
        size: side of the input; a CLIP or SigLIP has its own.
        mean, std: instead of the reference's own.
        feature_layer: which hidden state the features are; of a feature map there is one only.
        weights: False for the architecture alone.
        weights_file: the weights of a `timm:` tower, instead of timm's pretrained ones.
    Raises:
        WeightsError: nothing there, weights that do not fit, or a tower that stock transformers cannot use.
    """
    if reference.startswith(TIMM):
        return _from_timm(reference, size, mean, std, feature_layer, weights, weights_file)
    if weights_file:
        raise WeightsError(f"{reference}: model.vision.weights={weights_file!r} is for timm:<architecture> towers only")
    return _from_huggingface(reference, size, mean, std, feature_layer, weights)


def tower_from_clip(clip: Clip, feature_layer: int = -2) -> Tower:
    """The image tower of one of our CLIPs, with copies of its weights and the same preprocessing.

    A vision transformer becomes a CLIPVisionModel, or what `timm_vision_model` makes of it; a timm trunk that gives a
    feature map a TimmWrapperModel.

    Raises:
        WeightsError: a tower or a preprocessing that stock transformers cannot express.
    """
    visual: Any = clip.model.visual
    processor = clip_processor(clip.preprocess)
    if isinstance(visual, TimmModel):
        name = clip.model_cfg["vision_cfg"]["timm_model_name"]
        return _timm_tower(name, visual.trunk, clip.size, processor, feature_layer, True, "clip")
    model = clip_vision_model(clip)
    return _llava_tower(model.config, model, processor, feature_layer, "clip")


class Reduce(nn.Module):
    """Fewer tokens: each square of k × k neighbours on the tokens' square grid becomes one.

    `average_pool` takes their mean: (B, N, D) → (B, N/k², D). `pixel_shuffle` lays them behind each other, row by row:
    (B, N, D) → (B, N/k², D·k²), as Idefics3 and InternVL do (Shi 2016).

    Raises:
        ValueError: an unknown kind; at the call, tokens that are no square grid, or a grid that k does not divide.
    """

    def __init__(self, kind: Literal["average_pool", "pixel_shuffle"], factor: int) -> None:
        super().__init__()
        if kind not in ("average_pool", "pixel_shuffle") or factor < 1:
            raise ValueError(f"Reduce({kind!r}, {factor}): expected average_pool or pixel_shuffle, and a factor >= 1")
        self.kind, self.factor = kind, factor

    def width(self, width: int) -> int:
        """The width of a token that leaves."""
        return width if self.kind == "average_pool" else width * self.factor**2

    def tokens(self, tokens: int) -> int:
        """How many tokens leave."""
        side = round(tokens**0.5)
        if side * side != tokens or side % self.factor:
            raise ValueError(f"{tokens} tokens do not form squares of {self.factor} x {self.factor} on a square grid")
        return (side // self.factor) ** 2

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """(B, N, D) → (B, N/k², D or D·k²)."""
        batch, tokens, width = tokens_BND.shape
        side, factor = round(self.tokens(tokens) ** 0.5), self.factor
        squares = tokens_BND.reshape(batch, side, factor, side, factor, width)
        if self.kind == "average_pool":
            return squares.mean(dim=(2, 4)).flatten(1, 2)
        return squares.transpose(2, 3).reshape(batch, side * side, factor * factor * width)

    def extra_repr(self) -> str:
        """For printing the model."""
        return f"{self.kind}, factor={self.factor}"


def _from_huggingface(
    reference: str,
    size: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    feature_layer: int,
    weights: bool,
) -> Tower:
    place = resolve(reference)
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        config = getattr(config, "vision_config", config)
        config._attn_implementation = "sdpa"  # the folder may name another, which would be fetched from a hub and run
        if config.model_type not in TOWERS:
            raise WeightsError(
                f"{reference} is a {config.model_type}; expected a CLIP, a SigLIP or timm:<architecture>"
            )
        if config.model_type == "siglip_vision_model":
            config.vision_use_head = False  # it pools, which no assistant asks for
        model = _load(TOWERS[config.model_type], place, config, reference) if weights else None
        processor = published_processor(place, config, mean, std)
    except DAMAGE as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"{reference} cannot be loaded ({reason(error)}). Give a local folder with config.json and "
            "safetensors weights, or a hub name that this machine can reach"
        ) from None
    if size not in (None, config.image_size):
        raise WeightsError(f"{reference} takes images of {config.image_size} px, not {size}; leave the size out")
    return _llava_tower(config, model, processor, feature_layer, reference)


def _load(kind: type[PreTrainedModel], place: str, config: PreTrainedConfig, reference: str) -> PreTrainedModel:
    loaded: Any = kind.from_pretrained(
        place,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    model, found = loaded
    refuse_adapter(model, reference)
    if found["missing_keys"] or found["mismatched_keys"]:
        missing = sorted(found["missing_keys"])[:3]
        raise WeightsError(f"{reference} lacks weights of its tower: {missing}, {found['mismatched_keys']}")
    return model.eval()


def _llava_tower(
    config: PreTrainedConfig, model: PreTrainedModel | None, processor: Any, feature_layer: int, name: str
) -> Tower:
    layers = config.num_hidden_layers
    if not -layers - 1 <= feature_layer <= layers or feature_layer == 0:  # stock Llava takes a 0 for no hidden states
        raise WeightsError(
            f"model.vision.feature_layer={feature_layer}: {name} has hidden states {-layers - 1} to -1 and 1 to {layers}"
        )
    has_class_token = config.model_type in ("clip_vision_model", "vit")
    return Tower(
        config=config,
        model=model,
        processor=processor,
        kind="llava",
        tokens=(config.image_size // config.patch_size) ** 2,
        feature_layer=feature_layer,
        select_strategy="default" if has_class_token else "full",
        patch_size=config.patch_size,
        extra_tokens=int(has_class_token),
        identity=_identity(name, model),
    )


def _from_timm(
    reference: str,
    size: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    feature_layer: int,
    weights: bool,
    weights_file: str,
) -> Tower:
    name = reference.removeprefix(TIMM)
    pretrained = timm.get_pretrained_cfg(name) if is_timm(name) else None
    if pretrained is None:
        near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
        raise WeightsError(f"{reference}: timm knows no such architecture; near it: {near}")
    settings = preprocess_settings(
        size or pretrained.input_size[-1], mean or pretrained.mean, std or pretrained.std, "shortest"
    )
    trunk = _trunk(name, weights, weights_file)
    if isinstance(trunk, VisionTransformer) and settings["size"] != pretrained.input_size[-1]:
        trunk.set_input_size(img_size=settings["size"])  # resamples its position embeddings
    return _timm_tower(name, trunk, settings["size"], clip_processor(settings), feature_layer, weights, reference)


def _trunk(name: str, weights: bool, weights_file: str) -> nn.Module:
    with torch.device("cpu" if weights else "meta"):
        try:
            trunk = timm.create_model(name, pretrained=weights and not weights_file, num_classes=0)
        except (OSError, RuntimeError, ValueError) as error:
            raise WeightsError(
                f"timm's weights of {name} cannot be loaded ({str(error).splitlines()[0]}); name a file that holds them"
            ) from None
    if weights and weights_file:
        load_trunk(trunk, weights_file)
    return trunk


def _timm_tower(
    name: str, trunk: nn.Module, size: int, processor: Any, feature_layer: int, weights: bool, reference: str
) -> Tower:
    if isinstance(trunk, VisionTransformer):
        config = timm_vision_config(trunk)
        if config.image_size != size:
            raise WeightsError(f"{name} takes images of {config.image_size} px, but its preprocessing makes {size} px")
        return _llava_tower(config, timm_vision_model(trunk) if weights else None, processor, feature_layer, reference)
    width, side = _feature_map(name, size)
    # FastVlmConfig takes the width from here, as from any tower's configuration; pooling is of no use to it
    config = TimmWrapperConfig.from_dict(
        {"architecture": name, "do_pooling": False, "hidden_size": width, "image_size": size, "num_classes": 0}
    )
    model = None
    if weights:
        model = TimmWrapperModel(config)
        expected = model.timm_model.state_dict()
        kept = {k: t for k, t in trunk.state_dict().items() if k in expected or not k.startswith(CLASSIFIERS)}
        model.timm_model.load_state_dict(kept)
        model.eval()
    return Tower(
        config=config,
        model=model,
        processor=processor,
        kind="fast_vlm",
        tokens=side * side,
        feature_layer=-1,
        select_strategy="full",
        patch_size=size // side,
        extra_tokens=0,
        identity=_identity(reference, model),
    )


def _feature_map(name: str, size: int) -> tuple[int, int]:
    """Width and side of the last feature map, from a pass without memory: FastVlm takes (B, D, side, side) alone."""
    with torch.device("meta"), torch.no_grad():
        trunk: Any = timm.create_model(name, num_classes=0).eval()
        try:
            shape = tuple(trunk.forward_features(torch.zeros(1, 3, size, size)).shape)
        except (AssertionError, RuntimeError) as error:
            raise WeightsError(f"timm's {name} does not take images of {size} px: {error}") from None
    if len(shape) != 4 or shape[1] != trunk.num_features or shape[2] != shape[3]:
        raise WeightsError(
            f"timm's {name} gives features of shape {shape}; FastVlm takes square maps with the width first, "
            f"(1, {trunk.num_features}, side, side), as convolutional towers give"
        )
    side = shape[2]
    if size // (size // side) != side:
        raise WeightsError(
            f"timm's {name} gives {side} x {side} features of {size} px: no whole number of pixels apart"
        )
    return trunk.num_features, side


def _identity(name: str, model: PreTrainedModel | None) -> dict[str, str]:
    return {"name": name, "sha256": weights_hash(model.state_dict()) if model is not None else ""}
