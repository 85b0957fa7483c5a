"""All ranks' features on every rank, with the gradient that makes N ranks equal to one.

B: a rank's rows; N: all ranks' rows in rank order; D: width.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from medvlp.distributed import world_size


class _Gather(torch.autograd.Function):
    """all_gather whose backward sums every rank's gradient of one's own rows.

    Without the sum, a rank would miss how its rows act as the others' negatives.
    """

    @staticmethod
    def forward(ctx: Any, rows_BD: Tensor) -> Tensor:
        rows_ND = rows_BD.new_empty((world_size() * rows_BD.shape[0], *rows_BD.shape[1:]))
        dist.all_gather(list(rows_ND.chunk(world_size())), rows_BD.contiguous())
        return rows_ND

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad_ND = grads[0].contiguous()
        grad_BD = grad_ND.new_empty((grad_ND.shape[0] // world_size(), *grad_ND.shape[1:]))
        dist.reduce_scatter(grad_BD, list(grad_ND.chunk(world_size())))
        return grad_BD


def gather(rows_BD: Tensor) -> Tensor:
    """Rows of all ranks in rank order, (N, ...). Differentiable; every rank must bring as many rows."""
    return rows_BD if world_size() == 1 else _Gather.apply(rows_BD)
