"""A model without numbers that behaves as on a device: fake tensors have shapes, types and storages, and autograd's graph.

So what a forward and a backward pass multiply and keep is counted in seconds, for any batch and on any machine.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.overrides import TorchFunctionMode

KERNELS = ("cuda", "cpu")


class Shapes(TorchFunctionMode):
    """What models ask for without numbers: a truth value, such as "is nothing padded", is no."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return False if func is Tensor.__bool__ else func(*args, **(kwargs or {}))


def is_low(value: Any) -> bool:
    """Whether it is a tensor in half precision."""
    return isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """What `scaled_dot_product_attention` runs on a GPU: a flash kernel in half precision, and the memory-efficient one with a
    mask or in float32. Both keep no scores."""
    if enable_gqa:
        key, value = (tensor.repeat_interleave(query.shape[-3] // tensor.shape[-3], -3) for tensor in (key, value))
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
    operations: Any = torch.ops.aten
    if attn_mask is None and is_low(query):
        output: Tensor = operations._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, scale=scale
        )[0]
        return output
    bias = None
    if attn_mask is not None:
        shape = (*query.shape[:-1], key.shape[-2])
        bias = attn_mask.to(query.dtype).expand(shape)
    output = operations._scaled_dot_product_efficient_attention(
        query, key, value, bias, True, dropout_p, is_causal, scale=scale
    )[0]
    return output


def fused_dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout as a GPU keeps it: a byte for each value."""
    output: Tensor = torch.native_dropout(input, p, True)[0] if training and p > 0 else input
    return output


def in_single(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A norm or softmax that takes float32 in mixed precision, as on a GPU and not on a CPU."""

    def run(*args: Any, **kwargs: Any) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            args = tuple(value.float() if is_low(value) else value for value in args)
            kwargs = {name: value.float() if is_low(value) else value for name, value in kwargs.items()}
        return function(*args, **kwargs)

    return run


GPU_KERNELS: dict[str, Callable[..., Tensor]] = {
    "scaled_dot_product_attention": fused_attention,
    "dropout": fused_dropout,
    "layer_norm": in_single(functional.layer_norm),
    "group_norm": in_single(functional.group_norm),
    "softmax": in_single(functional.softmax),
}
"""Functions of torch.nn.functional that differ from a CPU's."""


class Imitation:
    """A device that is not there.

    Args:
        kernels: "cuda" or "cpu": whose attention, dropout and mixed precision.
        autocast: the lower precision of mixed ones; None for none.
    """

    def __init__(self, kernels: str = "cuda", autocast: torch.dtype | None = None) -> None:
        if kernels not in KERNELS:
            raise ValueError(f"kernels are of {kernels!r}, expected one of {KERNELS}")
        self.kernels, self.autocast = kernels, autocast
        self.fake = FakeTensorMode()

    @contextmanager
    def here(self) -> Iterator[None]:
        """While it lasts, tensors that are made have no numbers."""
        has_fast_path = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # one kernel, in which nothing can be counted
        try:
            with ExitStack() as stack:
                if self.kernels == "cuda":
                    for name, function in GPU_KERNELS.items():
                        stack.enter_context(patch.object(functional, name, function))
                stack.enter_context(self.fake)
                stack.enter_context(Shapes())
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(has_fast_path)

    def mixed(self) -> Any:
        """The context of a forward pass."""
        return nullcontext() if self.autocast is None else torch.autocast("cpu", dtype=self.autocast)

    def take(self, module: nn.Module) -> None:
        """Give a module of meta tensors fake ones, in place; shared ones stay shared."""
        tensors: dict[int, Tensor] = {}

        def imitated(tensor: Tensor) -> Tensor:
            if id(tensor) not in tensors:
                value = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
                is_weight = isinstance(tensor, nn.Parameter)
                tensors[id(tensor)] = nn.Parameter(value, requires_grad=tensor.requires_grad) if is_weight else value
            return tensors[id(tensor)]

        with self.fake:
            for layer in module.modules():
                for members in (layer._parameters, layer._buffers):
                    for name, tensor in members.items():
                        if tensor is not None:
                            members[name] = imitated(tensor)  # type: ignore[assignment]
