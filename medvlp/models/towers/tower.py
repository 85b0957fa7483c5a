"""A vision tower as an assistant takes it: model, processor and tokens. B: batch; S: side of the square input in pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PreTrainedConfig, PreTrainedModel

from medvlp.models.weights import WeightsError, weights_hash


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
    extra_tokens: features other than those of the patches, before selection (num_additional_image_tokens of LlavaProcessor).
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


@dataclass(frozen=True)
class TowerOptions:
    """What can be chosen of a tower beyond its name; see `load_tower`."""

    size: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    feature_layer: int = -2
    weights: bool = True
    weights_file: str = ""


def transformer_tower(
    config: PreTrainedConfig, model: PreTrainedModel | None, processor: Any, feature_layer: int, name: str
) -> Tower:
    """A tower whose features are one of its hidden states, for LlavaForConditionalGeneration.

    Raises:
        WeightsError: it has no such hidden state.
    """
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
        identity=identity_of(name, model),
    )


def identity_of(name: str, model: PreTrainedModel | None) -> dict[str, str]:
    """A tower's name and the hash of its weights."""
    return {"name": name, "sha256": weights_hash(model.state_dict()) if model is not None else ""}


def input_shape(config: Any) -> tuple[int, ...]:
    """Of one image as a tower takes it, without the batch: what its configuration says, or a square in colour."""
    shape = getattr(config, "input_shape", None)
    return tuple(shape) if shape else (3, config.image_size, config.image_size)
