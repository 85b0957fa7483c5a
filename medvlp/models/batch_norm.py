"""Batch norms folded into the convolutions before them: the same function with a pass over the features less, for encoding.

In evaluation mode a batch norm is an affine map of each channel with constants, as a convolution's bias and weight are
(Jacob et al. 2018, section 3.2). The weights change, so the model must not be trained or saved afterwards.

Legend: B batch, H height, W width.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

TOLERANCE = 1e-4
"""Of the largest feature: further apart than this, the folded model is not the same function, and stays as it was."""
PICTURES = 2


def fold_batch_norms(model: nn.Module, encode: Callable[[Tensor], Tensor], size: int) -> int:
    """Fold each batch norm of a model that reads the output of one convolution; all others stay.

    Args:
        model: in evaluation mode, in float32. It is changed.
        encode: pixels (B, 3, size, size) → features, through the model.

    Returns:
        The number of batch norms that are gone: 0 where the features would have changed by more than TOLERANCE, as they do
        where something else reads a convolution's output, too.
    """
    parameter = next(model.parameters())
    if parameter.dtype != torch.float32 or not any(_is_known(layer) for layer in model.modules()):
        return 0
    shape, noise = (PICTURES, 3, size, size), torch.Generator().manual_seed(0)
    pixels_BCHW = torch.randn(shape, generator=noise).to(parameter.device, memory_format=torch.channels_last)
    with torch.no_grad():
        expected, pairs = _pairs(model, lambda: encode(pixels_BCHW))
        former = [(convolution, convolution.weight, convolution.bias) for convolution, _ in pairs]
        norms = {norm: _fold(convolution, norm) for convolution, norm in pairs}
        _replace(model, norms)
        difference = (encode(pixels_BCHW) - expected).abs().max()
    if difference <= TOLERANCE * expected.abs().max():  # not so where either is nan
        return len(pairs)
    for convolution, weight, bias in former:
        convolution.weight, convolution.bias = weight, bias
    _replace(model, {remainder: norm for norm, remainder in norms.items()})
    return 0


def _is_known(layer: nn.Module) -> bool:
    return type(layer) in (nn.BatchNorm2d, BatchNormAct2d) and layer.running_mean is not None


def _pairs(model: nn.Module, run: Callable[[], Tensor]) -> tuple[Tensor, list[tuple[nn.Conv2d, Any]]]:
    """What a run gives, and each convolution with the batch norm that read its output; both were used once."""
    uses = Counter[nn.Module]()
    sources: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, Any]] = []

    def wrote(layer: Any, _inputs: Any, output: Tensor) -> None:
        uses[layer] += 1
        sources[id(output)] = (layer, output)  # the output is held, so that nothing else gets its id

    def reads(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        uses[layer] += 1
        if (source := sources.get(id(inputs[0]))) is not None:
            pairs.append((source[0], layer))

    with ExitStack() as hooks:
        for layer in model.modules():
            if type(layer) is nn.Conv2d:
                hooks.callback(layer.register_forward_hook(wrote).remove)
            elif _is_known(layer):
                hooks.callback(layer.register_forward_pre_hook(reads).remove)
        result = run()
    return result, [pair for pair in pairs if all(uses[layer] == 1 for layer in pair)]


def _fold(convolution: nn.Conv2d, norm: Any) -> nn.Module:
    """Move a batch norm into a convolution; what is left of it: nothing, or its activation."""
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    return nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()


def _replace(model: nn.Module, layers: dict[Any, nn.Module]) -> None:
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if layer in layers:
                setattr(parent, name, layers[layer])
