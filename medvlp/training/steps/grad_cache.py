"""GradCache (Gao 2021): the gradients of a loss over a whole step, with the towers' memory of one of its parts.

A loss that is a function of features (contrastive ones, and terms that are means over samples) does not need all towers'
graphs at once. Features of every part are computed without a graph; the loss gives the gradient of each feature; each part is
then computed replayed, with the same random states, and goes backward from the gradients of its features. The loss holds the
features of the whole step, and the towers the graph of one part.

Dropout and all else that is random is the same both times, so the gradients are those of one graph over the same parts.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medvlp.data.batch import Batch, StepBatch
from medvlp.errors import UserError
from medvlp.training.steps.random_states import RandomState

Features = dict[str, Tensor]
"""By name; row i of each is sample i."""


class PartedLoss(Protocol):
    """A loss of features, as `cached_loss` computes it."""

    @property
    def device(self) -> torch.device:
        """Of the weights."""

    def encode(self, batch: Any, encoded: Mapping[str, Tensor] | None = None) -> Features:
        """Features of a part. encoded: the first pass's, which may be returned where nothing behind a feature learns."""

    def loss_of(self, features: Features, batch: Any) -> tuple[Tensor, dict[str, Tensor | float]]:
        """(scalar, values to log) of the features of the whole step. batch: its samples without images and tokens."""

    def direct_parameters(self) -> Sequence[nn.Parameter]:
        """Parameters that the loss reads other than through features, such as the logit scale."""


class _Deferred(torch.autograd.Function):
    """A loss that is known, with gradients that are known: backward multiplies them."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, count: int, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors[count:])
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        return (None, None, *(gradient * grads[0] for gradient in gradients), *(None for _ in gradients))


def cached_loss(module: PartedLoss, batch: StepBatch, factor: float | Tensor = 1.0) -> tuple[Tensor, dict[str, Any]]:
    """The loss of a step, with the gradients of all parts but the last already in `.grad`.

    Backward of what is returned adds the last part's, and those of the parameters that the loss reads directly. So every
    parameter's gradient is complete after that one backward, which is the only one that DDP takes part in: its hooks sleep
    until the forward pass that this runs in has ended.

    factor: what backward will be multiplied by, as a gradient scaler does; the parts' gradients are, too.
    Returns: (scalar, values to log), as `PartedLoss.loss_of` on features of one graph.
    """
    device = module.device
    states: list[RandomState] = []
    encoded: list[Features] = []
    with torch.no_grad():
        for part in batch.parts:
            states.append(RandomState.of(device))
            encoded.append(module.encode(move_data_to_device(part, device)))
    rows = [len(part.keys) for part in batch.parts]
    features = {name: torch.cat([part.pop(name) for part in encoded]) for name in [*encoded[0]]}
    views = {name: value.split(rows) for name, value in features.items()}
    features = {name: value.detach().requires_grad_() for name, value in features.items()}
    direct = [parameter for parameter in module.direct_parameters() if parameter.requires_grad]
    # mixed precision lasts for the whole training step; backward never runs under it
    single = torch.autocast(device.type, enabled=False)
    with torch.enable_grad():
        loss, values = module.loss_of(features, move_data_to_device(Batch.joined(batch.parts), device))
        with single:
            gradients = torch.autograd.grad(
                loss, [*features.values(), *direct], allow_unused=True, materialize_grads=True
            )
    part_gradients = {name: gradient.split(rows) for name, gradient in zip(features, gradients, strict=False)}
    for index, (part, state) in enumerate(zip(batch.parts, states, strict=True)):
        state.restore(device)
        first_pass = {name: view[index] for name, view in views.items()}
        replayed = module.encode(move_data_to_device(part, device), first_pass)
        names = [name for name, value in replayed.items() if value.requires_grad]
        tensors, tensor_gradients = [replayed[name] for name in names], [part_gradients[name][index] for name in names]
        if index < len(rows) - 1 and tensors:
            with single:
                torch.autograd.backward(tensors, [gradient * factor for gradient in tensor_gradients])
    tensors, tensor_gradients = [*tensors, *direct], [*tensor_gradients, *gradients[len(features) :]]
    deferred: Tensor = _Deferred.apply(loss.detach(), len(tensors), *tensors, *tensor_gradients)
    return deferred, values


def refuse_batch_norm(model: nn.Module, accumulate: int) -> None:
    """Raises UserError where batch norm trains: statistics of a part are not those of the batch."""
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm) and layer.training:
            raise UserError(
                f"trainer.accumulate={accumulate}: batch norm trains in {name}, and its statistics over a part of a batch "
                f"are not those of the batch. Freeze that tower (optim.parts.<part>.freeze=true), take one without batch "
                f"norm, or set trainer.accumulate=1"
            )
