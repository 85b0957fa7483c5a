"""Sums over all pairs of images and texts, of logits that exist a block at a time, with texts at hand or on their way round.

B: a rank's pairs; N: all ranks' pairs; C: texts at hand; D: width; R: rows of a block.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from medvlp.distributed import rank, world_size
from medvlp.losses.relations import Relations


def sigmoid_sums(image_BD: Tensor, text_CD: Tensor, scale: Tensor, bias: Tensor, relations: Relations) -> Tensor:
    """(B,) Σ −log σ(±(scale · image · text + bias)) of each of this rank's images over all texts, + for what is right; the
    ignored left out.

    text_CD: all ranks' texts (C = N); or this rank's own (C = B), which then go round all ranks, forward and backward, so that
    a rank never holds more than two ranks' texts.
    """
    sums_B: Tensor = _SigmoidSums.apply(image_BD, text_CD, scale, bias, relations)
    return sums_B


def pass_on(*tensors: Tensor) -> list[Tensor]:
    """Every rank's tensors, at the rank after it."""
    next_rank, previous_rank = (rank() + 1) % world_size(), (rank() - 1) % world_size()
    buffers = [torch.empty_like(tensor) for tensor in tensors]
    transfers = [
        dist.P2POp(function, tensor, peer)
        for tensor, buffer in zip(tensors, buffers, strict=True)
        for function, tensor, peer in (
            (dist.isend, tensor.contiguous(), next_rank),
            (dist.irecv, buffer, previous_rank),
        )
    ]
    for work in dist.batch_isend_irecv(transfers):
        work.wait()
    return buffers


def stops(size: int, relations: Relations) -> Iterator[slice]:
    """The columns that are at hand at each stop: all of them, or one rank's after another's."""
    if size == relations.total:
        yield slice(0, size)
        return
    for stop in range(world_size()):
        owner = (rank() - stop) % world_size()
        yield slice(owner * size, (owner + 1) * size)


class _SigmoidSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, image_BD: Tensor, text_CD: Tensor, scale: Tensor, bias: Tensor, relations: Relations
    ) -> Tensor:
        ctx.save_for_backward(image_BD, text_CD, scale, bias)
        ctx.relations = relations
        sums_B = image_BD.new_zeros(len(image_BD))
        for stop, columns in enumerate(stops(len(text_CD), relations)):
            if stop:
                (text_CD,) = pass_on(text_CD)
            for block in relations.blocks(columns):
                logits_RC = (image_BD[block.rows] * scale) @ text_CD.T + bias
                # −log σ(x) = softplus(x) − x
                if block.positive_RC is None:
                    pair_R = logits_RC[block.pair_rows, block.pair_columns]
                    sums_B[block.rows].index_add_(0, block.pair_rows, pair_R, alpha=-1)
                else:
                    sums_B[block.rows] -= logits_RC.masked_fill(~block.positive_RC, 0.0).sum(dim=1)
                loss_RC = softplus(logits_RC)
                if block.ignored_RC is not None:
                    loss_RC.masked_fill_(block.ignored_RC, 0.0)
                sums_B[block.rows] += loss_RC.sum(dim=1)
        return sums_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_B: Tensor) -> tuple[Tensor | None, ...]:
        image_BD, text_CD, scale, bias = ctx.saved_tensors
        relations: Relations = ctx.relations
        is_ring = len(text_CD) != relations.total
        product_BD, text_gradient_CD = torch.zeros_like(image_BD), torch.zeros_like(text_CD)
        bias_gradient = torch.zeros_like(bias)
        for stop, columns in enumerate(stops(len(text_CD), relations)):
            if stop:
                text_CD, text_gradient_CD = pass_on(text_CD, text_gradient_CD)
            for block in relations.blocks(columns):
                scaled_RD = image_BD[block.rows] * scale
                gradient_RC = (scaled_RD @ text_CD.T).add_(bias).sigmoid_()
                if block.ignored_RC is not None:
                    gradient_RC.masked_fill_(block.ignored_RC, 0.0)
                if block.positive_RC is None:
                    gradient_RC[block.pair_rows, block.pair_columns] -= 1
                else:
                    gradient_RC -= block.positive_RC.to(gradient_RC.dtype)
                gradient_RC *= gradient_B[block.rows, None]
                product_BD[block.rows] += gradient_RC @ text_CD
                text_gradient_CD.addmm_(gradient_RC.T, scaled_RD)
                bias_gradient += gradient_RC.sum()
        if is_ring:  # home again
            (text_gradient_CD,) = pass_on(text_gradient_CD)
        scale_gradient = (product_BD * image_BD).sum().reshape(scale.shape)
        return (
            product_BD * scale,
            text_gradient_CD,
            scale_gradient,
            bias_gradient,
            None,
        )
