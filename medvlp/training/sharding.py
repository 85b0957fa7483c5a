"""Towers whose weights, gradients and optimizer states are divided among the ranks (FSDP2; Zhao 2023), and whole again on disk.

What is large is divided: blocks, towers, embeddings. Heads and the logit scale stay whole on every rank, as under DDP: the loss
reads the scale, and a head may be called without its tower.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from medvlp.distributed import launched_world_size
from medvlp.errors import UserError
from medvlp.models.layers import ends_in_block
from medvlp.models.parts import Parts, part_of

REPLICATED_PARTS = ("vision_head", "text_head", "logit_scale")
"""Parts that every rank has whole."""
IMPLEMENTATION = ("foreach", "fused")
"""Of an optimizer's group: how it is computed, and no matter of what."""


def shard_towers(model: nn.Module, parts: Parts, mesh: DeviceMesh) -> None:
    """Divide the model's towers among the ranks of a mesh, in place: each block by itself, then what is around the blocks.

    Raises:
        UserError: batch norm trains, whose statistics would differ from rank to rank.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm) and layer.training:
            raise UserError(
                f"trainer.strategy=fsdp: batch norm trains in {name}, and ranks would go apart in its statistics. Freeze that "
                f"tower (optim.parts.<part>.freeze=true), take one without batch norm, or set trainer.strategy=ddp"
            )
    if dist.get_world_size() > 1:
        begin_alike([*model.parameters(), *model.buffers()], mesh.device_type)  # as DDP does
    replicated = {parameter for name, parameter in model.named_parameters() if part_of(name, parts) in REPLICATED_PARTS}
    for tower_name, tower in model.named_children():
        blocks = [module for name, module in tower.named_modules(prefix=tower_name) if ends_in_block(name)]
        for block in blocks:
            fully_shard(block, mesh=mesh, reshard_after_forward=True, ignored_params=replicated)
        if blocks or isinstance(tower, nn.Embedding):
            fully_shard(tower, mesh=mesh, reshard_after_forward=False, ignored_params=replicated)


@torch.no_grad()
def begin_alike(tensors: Iterable[Tensor], device: str) -> None:
    """Every rank takes rank 0's values. device: of the process group, which need not be the tensors': NCCL reads GPUs alone."""
    for tensor in tensors:
        on_device = tensor.to(device)
        dist.broadcast(on_device, src=0)
        if on_device is not tensor:
            tensor.copy_(on_device)


@contextmanager
def gathered_towers(model: nn.Module) -> Iterator[None]:
    """While it lasts, every rank has the towers whole: no forward pass waits for other ranks, which may have other batches."""
    modules = [module for module in model.modules() if isinstance(module, FSDPModule)]
    is_block = {module: ends_in_block(name) for name, module in model.named_modules()}
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in modules:
            module.reshard()
            module.set_reshard_after_forward(is_block[module], recurse=False)


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a divided tensor; any other as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(value: Any) -> Any:
    """A divided tensor joined, which all ranks must do together: on the CPU of rank 0, empty on the others. Else as it is."""
    if not isinstance(value, DTensor):
        return value
    tensor: Tensor = value.full_tensor().detach()
    return tensor.cpu() if dist.get_rank() == 0 else tensor.new_empty(0)


def whole_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with its divided tensors joined on rank 0; all ranks must ask for it together."""
    return {name: whole(tensor) for name, tensor in state.items()}


def divided_as(value: Any, reference: Tensor) -> Any:
    """A whole tensor, which every rank has, divided as another one of its shape is."""
    if not isinstance(reference, DTensor) or not isinstance(value, Tensor) or value.shape != reference.shape:
        return value
    on_device = value.to(reference.device)
    return distribute_tensor(on_device, reference.device_mesh, reference.placements, src_data_rank=None)


def total_norm(tensors: Sequence[Tensor], norm_type: float = 2.0) -> Tensor:
    """Norm of all tensors' elements together, divided and whole ones. The same on every rank, which must all ask for it."""
    divided = [tensor for tensor in tensors if isinstance(tensor, DTensor)]
    if not divided:
        return get_total_norm(tensors, norm_type=norm_type)
    norms: list[Any] = [get_total_norm(divided, norm_type=norm_type)]
    norms = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
    if len(divided) < len(tensors):
        replicated = [tensor for tensor in tensors if not isinstance(tensor, DTensor)]
        norms.append(get_total_norm(replicated, norm_type=norm_type))
    return torch.linalg.vector_norm(torch.stack(norms), norm_type)


def clip(parameters: Iterable[nn.Parameter], max_norm: float) -> None:
    """Scale gradients so that their norm over all ranks' parts is at most `max_norm`."""
    learning = [parameter for parameter in parameters if parameter.grad is not None]
    norm = total_norm([parameter.grad for parameter in learning])  # type: ignore[misc]
    for is_divided in (True, False):  # kernels take either
        clip_grads_with_norm_([p for p in learning if isinstance(p, DTensor) == is_divided], max_norm, norm)


def one_by_one_where_mixed(optimizer: Optimizer) -> None:
    """Have groups of divided and whole parameters computed one parameter at a time: torch's kernels of many take either."""
    for group in optimizer.param_groups:
        if len({isinstance(parameter, DTensor) for parameter in group["params"]}) > 1:
            group.update(foreach=False, fused=False)


class ShardedTowers(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, with checkpoints as DDP writes and reads them.

    The module divides itself in `configure_model`. Gradients of what is not divided are averaged after backward.
    """

    def __init__(self) -> None:
        super().__init__(launched_world_size(), 1, save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Lightning hands the optimizer's state to `load_optimizer_state_dict`."""
        return True

    def post_backward(self, closure_loss: Tensor) -> None:
        """Average over ranks what FSDP does not."""
        super().post_backward(closure_loss)
        module = self.lightning_module
        assert module is not None
        gradients = [p.grad for p in module.parameters() if p.grad is not None and not isinstance(p, DTensor)]
        if gradients and dist.get_world_size() > 1:
            flat = torch.cat([gradient.flatten().to(torch.float32) for gradient in gradients])
            dist.all_reduce(flat)
            flat /= dist.get_world_size()
            sizes = [gradient.numel() for gradient in gradients]
            for gradient, mean in zip(gradients, flat.split(sizes), strict=True):
                gradient.copy_(mean.view_as(gradient))

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole on rank 0."""
        assert self.lightning_module is not None
        return whole_state(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Whole on rank 0, by the parameters' numbers as any optimizer's is."""
        optimizer = getattr(optimizer, "_optimizer", optimizer)
        state = optimizer.state_dict()
        groups = [
            {**group, **{key: optimizer.defaults[key] for key in IMPLEMENTATION}} for group in state["param_groups"]
        ]
        values = {n: {name: whole(value) for name, value in row.items()} for n, row in state["state"].items()}
        return {"state": values, "param_groups": groups}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """As it is on disk, on every rank."""
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Each rank takes its part."""
        module = self.lightning_module
        assert module is not None
        present = module.state_dict()
        state = {
            name: divided_as(tensor, present[name]) if name in present else tensor
            for name, tensor in checkpoint["state_dict"].items()
        }
        module.load_state_dict(state, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Each rank takes its part."""
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            implementations = [{key: group[key] for key in IMPLEMENTATION} for group in optimizer.param_groups]
            state = {
                number: {name: divided_as(value, parameters[number]) for name, value in row.items()}
                for number, row in saved["state"].items()
            }
            groups = [
                {**group, **implementation}
                for group, implementation in zip(saved["param_groups"], implementations, strict=True)
            ]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
