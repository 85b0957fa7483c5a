"""Towers of timm: vision transformers, and convolutional ones with a feature map."""

from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from transformers import TimmWrapperConfig, TimmWrapperModel

from medvlp.models.clip.model import preprocess_settings
from medvlp.models.convert import timm_vision_config, timm_vision_model
from medvlp.models.descriptions import is_timm
from medvlp.models.timm_weights import CLASSIFIERS, load_trunk
from medvlp.models.towers.processors import clip_processor
from medvlp.models.towers.tower import Tower, TowerOptions, identity_of, transformer_tower
from medvlp.models.weights import WeightsError


def load_timm(reference: str, options: TowerOptions) -> Tower:
    """`timm:<architecture>`: a vision transformer, or a tower with a feature map as convolutional ones have.

    Raises:
        WeightsError: no such architecture, weights that do not fit, or a tower that stock transformers cannot use.
    """
    name = reference.partition(":")[2]
    pretrained = timm.get_pretrained_cfg(name) if is_timm(name) else None
    if pretrained is None:
        near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
        raise WeightsError(f"{reference}: timm knows no such architecture; near it: {near}")
    settings = preprocess_settings(
        options.size or pretrained.input_size[-1],
        options.mean or pretrained.mean,
        options.std or pretrained.std,
        "shortest",
    )
    trunk = _trunk(name, options.weights, options.weights_file)
    if isinstance(trunk, VisionTransformer) and settings["size"] != pretrained.input_size[-1]:
        trunk.set_input_size(img_size=settings["size"])  # resamples its position embeddings
    processor = clip_processor(settings)
    return timm_tower(name, trunk, settings["size"], processor, options.feature_layer, options.weights, reference)


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


def timm_tower(
    name: str, trunk: nn.Module, size: int, processor: Any, feature_layer: int, weights: bool, reference: str
) -> Tower:
    """A tower of a timm trunk, in the class of transformers that has its hidden states or its feature map.

    Raises:
        WeightsError: a tower that stock transformers cannot use, or another size than its preprocessing makes.
    """
    if isinstance(trunk, VisionTransformer):
        config = timm_vision_config(trunk)
        if config.image_size != size:
            raise WeightsError(f"{name} takes images of {config.image_size} px, but its preprocessing makes {size} px")
        model = timm_vision_model(trunk) if weights else None
        return transformer_tower(config, model, processor, feature_layer, reference)
    width, _ = _feature_map(name, size)
    # FastVlmConfig takes the width from here, as from any tower's configuration; pooling is of no use to it
    config = TimmWrapperConfig.from_dict(
        {"architecture": name, "do_pooling": False, "hidden_size": width, "image_size": size, "num_classes": 0}
    )
    wrapper = None
    if weights:
        wrapper = TimmWrapperModel(config)
        expected = wrapper.timm_model.state_dict()
        state = {k: t for k, t in trunk.state_dict().items() if k in expected or not k.startswith(CLASSIFIERS)}
        wrapper.timm_model.load_state_dict(state)
        wrapper.eval()
    return wrapped_tower(config, wrapper, processor, reference)


def wrapped_tower(config: TimmWrapperConfig, wrapper: Any, processor: Any, reference: str) -> Tower:
    """A tower of timm's with a feature map, in transformers' wrapper.

    wrapper: a TimmWrapperModel; None without weights.

    Raises:
        WeightsError: its features are no square map.
    """
    _, side = _feature_map(config.architecture, config.image_size)
    return Tower(
        config=config,
        model=wrapper,
        processor=processor,
        kind="fast_vlm",
        tokens=side * side,
        feature_layer=-1,
        select_strategy="full",
        patch_size=config.image_size // side,
        extra_tokens=0,
        identity=identity_of(reference, wrapper),
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
