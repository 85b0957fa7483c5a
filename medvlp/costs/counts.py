"""FLOPs and kept bytes of a model, counted on the meta device: shapes are computed, numbers are not.

B: images or texts; S: side of an image; L: tokens of a text.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

SMALL, LARGE = 2, 4
"""Batches that are counted: from two sizes follow what grows with a sample, and what does not."""


@dataclass(frozen=True)
class TowerCounts:
    """Of one tower.

    forward, backward: FLOPs a sample; a multiplication with its addition are two. backward is 0 where nothing learns, and
    holds what checkpointed activations cost the second time.
    activations: bytes a sample that the graph keeps from forward to backward. constants: bytes of it whatever the batch, such as
    weights in another precision.
    """

    forward: int
    backward: int
    activations: int
    constants: int


class Shapes(TorchFunctionMode):
    """What models ask for on meta: a truth value of numbers, such as "is nothing padded", is no; and mixed precision.

    Automatic mixed precision is not there on meta, so it is imitated: multiplications in `dtype`, norms and softmax in float32.
    So the graph keeps what it would keep under `torch.autocast("cuda")`. A weight is converted once, as there.

    dtype: the lower precision; None changes none.
    """

    LOWER = (
        nn.functional.linear,
        nn.functional.conv1d,
        nn.functional.conv2d,
        nn.functional.scaled_dot_product_attention,
        torch.matmul,
        torch.bmm,
        torch.addmm,
        torch.baddbmm,
        Tensor.matmul,
        Tensor.__matmul__,
    )
    SINGLE = (
        nn.functional.layer_norm,
        nn.functional.group_norm,
        nn.functional.softmax,
        torch.softmax,
        Tensor.softmax,
    )

    def __init__(self, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.dtype = dtype
        self.weights: dict[int, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.__bool__ and args[0].is_meta:
            return False
        if self.dtype is not None and (func in self.LOWER or func in self.SINGLE):
            target = self.dtype if func in self.LOWER else torch.float32
            args = [self.converted(value, target) for value in args]
            kwargs = {name: self.converted(value, target) for name, value in kwargs.items()}
        return func(*args, **kwargs)

    def converted(self, value: Any, dtype: torch.dtype) -> Any:
        """A floating tensor in another precision; anything else as it is."""
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == dtype:
            return value
        if not isinstance(value, nn.Parameter):
            return value.to(dtype)
        return self.weights.setdefault(id(value), value.to(dtype))


def count_tower(
    run: Callable[[int], Tensor], parameters: list[nn.Parameter], autocast: torch.dtype | None = None
) -> TowerCounts:
    """FLOPs and kept bytes of a tower.

    Args:
        run: batch → its output on the meta device.
        parameters: the model's, which are there before and are not counted.
        autocast: the lower precision of mixed ones.
    """
    small, large = (_count(run, size, parameters, autocast) for size in (SMALL, LARGE))
    forward, backward, activations = ((high - low) // (LARGE - SMALL) for low, high in zip(small, large, strict=True))
    return TowerCounts(forward, backward, activations, max(small[2] - SMALL * activations, 0))


def _count(
    run: Callable[[int], Tensor], size: int, parameters: list[nn.Parameter], autocast: torch.dtype | None
) -> tuple[int, int, int]:
    """(forward FLOPs, backward FLOPs, kept bytes) of a batch."""
    weights = {parameter.untyped_storage()._cdata for parameter in parameters}
    tensors: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in weights:
            tensors.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    has_fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one kernel, in which nothing can be counted
    try:
        with (
            FlopCounterMode(display=False) as forward,
            saved_tensors_hooks(keep, lambda tensor: tensor),
            Shapes(autocast),
        ):
            output = run(size)
    finally:
        torch.backends.mha.set_fastpath_enabled(has_fast_path)
    backward = 0
    if output.requires_grad:
        with FlopCounterMode(display=False) as counter, Shapes(autocast):
            torch.autograd.grad(
                output,
                [parameter for parameter in parameters if parameter.requires_grad],
                torch.empty_like(output),
                allow_unused=True,
            )
        backward = counter.get_total_flops()
    return forward.get_total_flops(), backward, sum(tensor.untyped_storage().nbytes() for tensor in tensors.values())


@dataclass(frozen=True)
class ModelBytes:
    """Bytes of a model and of what training keeps for each of its weights, exactly as torch allocates them.

    weights: parameters and buffers. gradients: of those that learn. optimizer: AdamW's two moments of those, and its count of
    steps, a float32 a tensor.
    """

    weights: int
    gradients: int
    optimizer: int


def bytes_of(modules: list[nn.Module]) -> ModelBytes:
    """Of modules as they are, with AdamW. Shared tensors count once."""
    tensors = {id(tensor): tensor for module in modules for tensor in [*module.parameters(), *module.buffers()]}
    learning = [tensor for tensor in tensors.values() if tensor.requires_grad]
    gradients = sum(tensor.nbytes for tensor in learning)
    return ModelBytes(sum(tensor.nbytes for tensor in tensors.values()), gradients, 2 * gradients + 4 * len(learning))
