"""Statistics of the rows and the columns of N × N logits, of which one block of rows exists at a time.

Forward keeps what it returns, B numbers a statistic and direction; backward computes the logits again. A rank multiplies its
images with all texts and nothing else: the other direction's statistics are those of the columns, joined over ranks. So a step
has half the products of two matrices of logits, one of which is the other's transpose.

B: a rank's pairs; N: all ranks' pairs; D: width; R: rows of a block; K: statistics.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from medvlp.distributed import world_size
from medvlp.losses import Pairs
from medvlp.losses.gather import gather
from medvlp.losses.relations import Block, Relations


class Statistic(ABC):
    """A number for each row, and for each column, of logits."""

    start: float
    """Of a column, before the first block."""

    @abstractmethod
    def reduce(self, logits_RN: Tensor, block: Block) -> tuple[Tensor, Tensor]:
        """(R,) of the block's rows, whole; (N,) of its columns, a part."""

    @abstractmethod
    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """(N,) of parts of columns."""

    @abstractmethod
    def add_gradient(
        self,
        gradient_RN: Tensor,
        logits_RN: Tensor,
        block: Block,
        row_R: Tensor,
        column_N: Tensor,
        row_gradient_R: Tensor,
        column_gradient_N: Tensor,
    ) -> None:
        """Add the logits' gradient, given the statistic and its gradient of rows and of columns."""


@dataclass(frozen=True)
class LogSumExp(Statistic):
    """log Σ exp(factor · logit) over candidates (all but the ignored), positives, or negatives (neither)."""

    over: str = "candidates"
    factor: float = 1.0
    start = float("-inf")

    def excluded(self, block: Block) -> Tensor | None:
        """(R, N) what is not summed over; None: nothing."""
        if self.over == "candidates":
            return block.ignored_RC
        if self.over == "negatives":
            return block.not_negative_RC
        return ~block.right_RC

    def reduce(self, logits_RN: Tensor, block: Block) -> tuple[Tensor, Tensor]:
        if self.factor != 1:
            logits_RN = logits_RN * self.factor
        excluded_RN = self.excluded(block)
        if excluded_RN is not None:
            logits_RN = logits_RN.masked_fill(excluded_RN, float("-inf"))
        return logits_RN.logsumexp(dim=1), logits_RN.logsumexp(dim=0)

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(parts)).logsumexp(dim=0)

    def add_gradient(
        self,
        gradient_RN: Tensor,
        logits_RN: Tensor,
        block: Block,
        row_R: Tensor,
        column_N: Tensor,
        row_gradient_R: Tensor,
        column_gradient_N: Tensor,
    ) -> None:
        if self.factor == 0:
            return
        excluded_RN = self.excluded(block)
        for sum_RN, weight_RN in ((row_R[:, None], row_gradient_R[:, None]), (column_N, column_gradient_N)):
            share_RN = (logits_RN * self.factor if self.factor != 1 else logits_RN) - sum_RN
            share_RN.exp_().mul_(weight_RN * self.factor)
            if excluded_RN is not None:  # rows without any have no sum: their shares are no numbers until here
                share_RN.masked_fill_(excluded_RN, 0.0)
            gradient_RN += share_RN


class MeanPositive(Statistic):
    """The mean of the logits of what is right: the pair's own, where nothing else is."""

    start = 0.0

    def reduce(self, logits_RN: Tensor, block: Block) -> tuple[Tensor, Tensor]:
        if block.positive_RC is None:
            pair_R = logits_RN[block.pair_rows, block.pair_columns]
            return pair_R, logits_RN.new_zeros(logits_RN.shape[1]).index_put_((block.pair_columns,), pair_R)
        positive_RN = logits_RN.masked_fill(~block.positive_RC, 0.0)
        count_N = block.relations.count_N
        assert count_N is not None
        return positive_RN.sum(dim=1) / count_N[block.numbers], positive_RN.sum(dim=0) / count_N

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(parts)).sum(dim=0)

    def add_gradient(
        self,
        gradient_RN: Tensor,
        logits_RN: Tensor,
        block: Block,
        row_R: Tensor,
        column_N: Tensor,
        row_gradient_R: Tensor,
        column_gradient_N: Tensor,
    ) -> None:
        if block.positive_RC is None:
            rows, columns = block.pair_rows, block.pair_columns
            gradient_RN[rows, columns] += row_gradient_R[rows] + column_gradient_N[columns]
            return
        count_N = block.relations.count_N
        assert count_N is not None
        mean_RN = (row_gradient_R / count_N[block.numbers])[:, None] + column_gradient_N / count_N
        gradient_RN += mean_RN.masked_fill_(~block.positive_RC, 0.0)


class Expected(Statistic):
    """The mean of the logits under another model's probabilities, of texts for an image and of images for a text.

    Args:
        teacher: its features, without gradients.
        rows: of a block of its logits.
    """

    start = 0.0

    def __init__(self, teacher: Pairs, rows: int = 0) -> None:
        self.image_BD, self.logit_scale = teacher.image_BD, teacher.logit_scale
        self.text_ND = gather(teacher.text_BD)
        relations = Relations(teacher, rows)
        row_KB, column_KN = reduce_all(self.image_BD, self.text_ND, self.logit_scale, relations, [LogSumExp()])
        self.row_B, self.column_N = row_KB[0], column_KN[0]

    def shares(self, block: Block) -> tuple[Tensor, Tensor]:
        """Probabilities of texts for the block's images, and of its images for all texts; both (R, N)."""
        logits_RN = (self.image_BD[block.rows] * self.logit_scale) @ self.text_ND.T
        return (logits_RN - self.row_B[block.rows, None]).exp(), (logits_RN - self.column_N).exp()

    def reduce(self, logits_RN: Tensor, block: Block) -> tuple[Tensor, Tensor]:
        to_text_RN, to_image_RN = self.shares(block)
        return (to_text_RN * logits_RN).sum(dim=1), (to_image_RN * logits_RN).sum(dim=0)

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(parts)).sum(dim=0)

    def add_gradient(
        self,
        gradient_RN: Tensor,
        logits_RN: Tensor,
        block: Block,
        row_R: Tensor,
        column_N: Tensor,
        row_gradient_R: Tensor,
        column_gradient_N: Tensor,
    ) -> None:
        to_text_RN, to_image_RN = self.shares(block)
        gradient_RN += to_text_RN.mul_(row_gradient_R[:, None]).add_(to_image_RN.mul_(column_gradient_N))


def statistics_of(pairs: Pairs, statistics: Sequence[Statistic], rows: int = 0) -> tuple[Tensor, Tensor]:
    """Statistics of logit_scale · image · text: for this rank's images over all texts, for its texts over all images.

    Differentiable. The mean over ranks of a loss of these, and the gradients that DDP averages, are those of one process with
    the whole batch.

    Args:
        rows: of a block; 0: as many as `relations.BLOCK_LOGITS` allows.
    Returns: two tensors (K, B).
    """
    relations = Relations(pairs, rows)
    text_ND = gather(pairs.text_BD)
    row_KB, column_KB = _Statistics.apply(pairs.image_BD, text_ND, pairs.logit_scale, relations, list(statistics))
    return row_KB, column_KB


@torch.no_grad()
def reduce_all(
    image_BD: Tensor, text_ND: Tensor, scale: Tensor, relations: Relations, statistics: Sequence[Statistic]
) -> tuple[Tensor, Tensor]:
    """(K, B) of this rank's rows, (K, N) of all columns."""
    row_KB = image_BD.new_empty((len(statistics), len(image_BD)))
    column_KN = torch.stack([image_BD.new_full((len(text_ND),), statistic.start) for statistic in statistics])
    for block in relations.blocks():
        logits_RN = (image_BD[block.rows] * scale) @ text_ND.T
        for k, statistic in enumerate(statistics):
            row_KB[k, block.rows], column_N = statistic.reduce(logits_RN, block)
            column_KN[k] = statistic.joined([column_KN[k], column_N])
    if world_size() > 1:
        parts = [torch.empty_like(column_KN) for _ in range(world_size())]
        dist.all_gather(parts, column_KN)
        column_KN = torch.stack([s.joined([part[k] for part in parts]) for k, s in enumerate(statistics)])
    return row_KB, column_KN


class _Statistics(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image_BD: Tensor,
        text_ND: Tensor,
        scale: Tensor,
        relations: Relations,
        statistics: Sequence[Statistic],
    ) -> tuple[Tensor, Tensor]:
        row_KB, column_KN = reduce_all(image_BD, text_ND, scale, relations, statistics)
        ctx.save_for_backward(image_BD, text_ND, scale, row_KB, column_KN)
        ctx.relations, ctx.statistics = relations, statistics
        return row_KB.clone(), column_KN[:, relations.first : relations.first + relations.size].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, row_gradient_KB: Tensor, column_gradient_KB: Tensor) -> tuple[Tensor | None, ...]:
        image_BD, text_ND, scale, row_KB, column_KN = ctx.saved_tensors
        column_gradient_KN = gather(column_gradient_KB.T.contiguous()).T  # of columns that are other ranks' texts
        product_BD, text_gradient_ND = torch.empty_like(image_BD), torch.zeros_like(text_ND)
        for block in ctx.relations.blocks():
            rows = block.rows
            scaled_RD = image_BD[rows] * scale
            logits_RN = scaled_RD @ text_ND.T
            gradient_RN = torch.zeros_like(logits_RN)
            for k, statistic in enumerate(ctx.statistics):
                statistic.add_gradient(
                    gradient_RN,
                    logits_RN,
                    block,
                    row_KB[k, rows],
                    column_KN[k],
                    row_gradient_KB[k, rows],
                    column_gradient_KN[k],
                )
            product_BD[rows] = gradient_RN @ text_ND
            text_gradient_ND.addmm_(gradient_RN.T, scaled_RD)
        scale_gradient = (product_BD * image_BD).sum().reshape(scale.shape)
        return product_BD * scale, text_gradient_ND, scale_gradient, None, None
