"""Layers of four bits (QLoRA, Dettmers 2023) as a checkpoint holds them: as the plain weights that they stand for.

NF4 without double quantisation gives the same bits again for the weights that its bits stand for, so a checkpoint needs no
format of its own: anyone without bitsandbytes loads plain weights, and a resumed run goes on with the same bits.
"""

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def four_bit_layers(model: nn.Module) -> dict[str, Any]:
    """Layers whose weights are quantised, by name."""
    library = sys.modules.get("bitsandbytes")  # without it, nothing can be quantised
    if library is None:
        return {}
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, library.nn.Linear4bit)}


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's state dict, four-bit weights in float32 under their usual names."""
    state: dict[str, Tensor] = model.state_dict()
    for name, layer in four_bit_layers(model).items():
        from bitsandbytes.functional import dequantize_4bit

        key = f"{name}.weight"
        for part in [part for part in state if part.startswith(f"{key}.")]:
            del state[part]
        state[key] = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    return state


def load_plain_state(model: nn.Module, tensors: Mapping[str, Tensor], strict: bool = True) -> Any:
    """Load a state dict of plain weights, quantising those that the model holds in four bits.

    Raises:
        RuntimeError: names that are missing or unexpected, unless `strict` is false; shapes that differ.
    """
    layers = four_bit_layers(model)
    if not layers:
        return model.load_state_dict(tensors, strict=strict)
    from bitsandbytes.nn import Params4bit

    quantised = {f"{name}.weight": layer for name, layer in layers.items()}
    expected = plain_state(model)
    mismatched = {name for name in expected.keys() ^ tensors.keys() if strict}
    mismatched |= {name for name in expected.keys() & tensors.keys() if expected[name].shape != tensors[name].shape}
    if mismatched:
        raise RuntimeError(f"missing, unexpected or of another shape: {sorted(mismatched)[:5]}")
    for key in quantised.keys() & tensors.keys():
        layer = quantised[key]
        weight: Any = Params4bit(tensors[key].clone(), requires_grad=False, quant_type="nf4", compress_statistics=False)
        layer.weight = weight.to(layer.weight.device)
    return model.load_state_dict({k: v for k, v in tensors.items() if k not in quantised}, strict=False)
