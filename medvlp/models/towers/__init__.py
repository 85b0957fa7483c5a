"""Vision towers of assistants. A tower is a file here with a loader, and one line in each of the tables below."""

import importlib
from collections.abc import Sequence
from typing import Any

from medvlp.models.towers.tower import Tower, TowerOptions, transformer_tower

TOWERS = {
    "": "medvlp.models.towers.huggingface:load_huggingface",
    "timm": "medvlp.models.towers.timm_towers:load_timm",
}
"""Scheme of a reference (`timm:<architecture>`; "" where there is none) → "module:function" of its loader, which takes the
reference and `TowerOptions`. It is imported when it is chosen."""

MODEL_TYPES = {
    "clip_vision_model": "transformers",
    "siglip_vision_model": "transformers",
    "vit": "transformers",
    "timm_wrapper": "transformers",
}
"""Model type of a tower's configuration → the module that makes it known to transformers. A checkpoint may name no other."""


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
        reference: `<scheme>:<name>` by the schemes of `TOWERS`; else a folder, hub name or `package:` reference.
        size: side of the input; a CLIP or SigLIP has its own.
        mean, std: instead of the reference's own.
        feature_layer: which hidden state the features are; of a feature map there is one only.
        weights: False for the architecture alone.
        weights_file: the weights of a `timm:` tower, instead of timm's pretrained ones.
    Raises:
        WeightsError: nothing there, weights that do not fit, or a tower that stock transformers cannot use.
    """
    scheme, colon, _ = reference.partition(":")
    module, function = TOWERS[scheme if colon and scheme in TOWERS else ""].split(":")
    loader = getattr(importlib.import_module(module), function)
    tower: Tower = loader(reference, TowerOptions(size, mean, std, feature_layer, weights, weights_file))
    return tower


def described_tower(config: Any, model: Any, processor: Any, feature_layer: int, name: str) -> Tower:
    """The tower of a model of transformers, of one of `MODEL_TYPES`.

    Raises:
        WeightsError: it has no such hidden state, or no square feature map.
    """
    if config.model_type == "timm_wrapper":
        from medvlp.models.towers.timm_towers import wrapped_tower

        return wrapped_tower(config, model, processor, name)
    return transformer_tower(config, model, processor, feature_layer, name)
