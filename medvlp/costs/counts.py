"""FLOPs and bytes of a model, counted on an imitated device at the batch that trains.

P: pairs of a part, which go through the towers together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from medvlp.costs.imitation import Imitation
from medvlp.costs.live import LiveBytes

ACTIVATIONS, GRADIENTS, WORKING, WEIGHTS, BATCH = "activations", "gradients", "working memory", "weights", "batch"
"""Purposes of bytes. Working memory: of operations that run, in backward pass too."""


aten: Any = torch.ops.aten
FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[aten._scaled_dot_product_flash_attention],
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        aten._scaled_dot_product_flash_attention_backward
    ],
}
"""Operation → FLOPs from its arguments: torch's table, and a CPU's attention, which it lacks."""


class Flops(TorchDispatchMode):
    """Sums the FLOPs of operations by torch's formulas. torch's own counter follows modules too, and its hooks hold what
    checkpointed activations would give back."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        formula = FORMULAS.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=output)
        return output


@dataclass(frozen=True)
class TowerCounts:
    """Of one tower, a sample.

    forward, backward: FLOPs; a multiplication with its addition are two. backward is 0 where nothing learns, and holds what
    checkpointed activations cost the second time. activations: bytes that the graph keeps from forward to backward.
    """

    forward: float
    backward: float
    activations: float


@dataclass(frozen=True)
class PassCounts:
    """Of both towers over P pairs.

    towers: image tower, text tower. graphs: bytes that both graphs keep while the loss runs. highest: purpose → bytes at the
    highest point of forward and backward pass, beyond weights, batch and optimizer.
    """

    towers: tuple[TowerCounts, ...]
    graphs: int
    highest: dict[str, int]


def count_pass(
    encoders: Sequence[Callable[[], Tensor] | None],
    modules: Sequence[nn.Module],
    samples: int,
    imitation: Imitation,
    has_gradients: bool = False,
    batch: Sequence[Tensor] = (),
) -> PassCounts:
    """A forward pass of every encoder, then backward passes from the last to the first, as autograd runs them.

    Args:
        encoders: each gives features of the samples; None is a tower that does not run.
        modules: the model's, whose weights are there before and are not counted.
        samples: P.
        has_gradients: of parts before this one, to which it adds.
        batch: tensors that are there before.
    """
    weights = [tensor for module in modules for tensor in [*module.parameters(), *module.buffers()]]
    learning = list({id(tensor): tensor for tensor in weights if tensor.requires_grad}.values())
    flops: list[list[int]] = []
    outputs: list[Tensor | None] = []
    sizes = [0]
    with LiveBytes(WEIGHTS) as live:
        for tensor in weights:
            live.add(tensor)
        for tensor in batch:
            live.assign(tensor, BATCH)
        if has_gradients:
            for parameter in learning:
                parameter.grad = torch.zeros_like(parameter)
                live.assign(parameter.grad, GRADIENTS)
        hooks = [
            parameter.register_post_accumulate_grad_hook(lambda parameter: live.assign(parameter.grad, GRADIENTS))
            for parameter in learning
        ]
        live.highest, live.purpose = {}, ACTIVATIONS
        with imitation.mixed():
            for encoder in encoders:
                with Flops() as counter:
                    outputs.append(encoder() if encoder else None)
                flops.append([counter.total, 0])
                sizes.append(live.live.get(ACTIVATIONS, 0))
        live.purpose = WORKING
        for index in reversed(range(len(encoders))):
            output, outputs[index] = outputs[index], None
            if output is not None and output.requires_grad:
                with Flops() as counter:
                    output.backward(torch.empty_like(output))
                flops[index][1] = counter.total
            del output
        for hook in hooks:
            hook.remove()
        for parameter in learning:
            parameter.grad = None
    towers = tuple(
        TowerCounts(forward / samples, backward / samples, (sizes[index + 1] - sizes[index]) / samples)
        for index, (forward, backward) in enumerate(flops)
    )
    highest = {name: size for name, size in live.highest.items() if name not in (WEIGHTS, BATCH)}
    return PassCounts(towers, sizes[-1], highest)


@dataclass(frozen=True)
class ModelBytes:
    """Bytes of a model and of what training keeps for each of its weights, exactly as torch allocates them.

    weights: parameters and buffers. gradients: of those that learn. optimizer: AdamW's two moments of those, and its count of
    steps, a float32 a tensor.
    """

    weights: int
    gradients: int
    optimizer: int


def bytes_of(modules: Sequence[nn.Module]) -> ModelBytes:
    """Of modules as they are, with AdamW. Shared tensors count once."""
    tensors = {id(tensor): tensor for module in modules for tensor in [*module.parameters(), *module.buffers()]}
    learning = [tensor for tensor in tensors.values() if tensor.requires_grad]
    gradients = sum(tensor.nbytes for tensor in learning)
    return ModelBytes(sum(tensor.nbytes for tensor in tensors.values()), gradients, 2 * gradients + 4 * len(learning))
