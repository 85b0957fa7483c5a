"""InfoNCE whose negatives weigh more the nearer they are. B: a rank's pairs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from medvlp.losses import ContrastiveLoss, LossError, Pairs
from medvlp.losses.info_nce import check_chunk

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class HardNegatives(ContrastiveLoss):
    """HN-NCE (DiHT, Radenovic 2023, after Robinson 2021): a negative with logit x weighs e^(βx), the n weights of a row having
    the mean 1. With beta 0 and alpha 1 it is InfoNCE.

    Gradients go through the weights too, as in both papers' losses.
    """

    same_text: ClassVar[tuple[str, ...]] = ("negative", "masked", "mil_nce")
    positives_as: ClassVar[tuple[str, ...]] = ("target", "inside", "mask")

    beta: float = 0.25
    """How much nearer negatives weigh more; 0: not at all."""
    alpha: float = 1.0
    """Weight of what is right among what the probability is divided by (below 1: debiased)."""
    chunk: int = 0
    """Rows of logits held at a time; 0: by size."""

    def check(self) -> None:
        """Raises LossError."""
        check_chunk(self.chunk)
        for name in ("beta", "alpha"):
            if getattr(self, name) < 0:
                raise LossError(f"objective.options.{name}={getattr(self, name)} must not be negative")
        if self.alpha > 1:
            raise LossError(f"objective.options.alpha={self.alpha} must be at most 1")

    def of_pairs(self, pairs: Pairs) -> "Tensor":
        from medvlp.losses.blocks import LogSumExp, MeanPositive, statistics_of

        statistics = [
            LogSumExp("positives"),
            LogSumExp("negatives", 0.0),  # the logarithm of their number
            LogSumExp("negatives", 1.0 + self.beta),
            LogSumExp("negatives", self.beta),
            *([] if pairs.inside else [MeanPositive()]),
        ]
        row_KB, column_KB = statistics_of(pairs, statistics, self.chunk)
        return (self.of_statistics(row_KB) + self.of_statistics(column_KB)) / 2

    def of_statistics(self, values_KB: "Tensor") -> "Tensor":
        """(B,) the loss of one direction."""
        import torch

        positive_B, log_count_B, hard_B, weights_B = values_KB[:4]
        has_negatives_B = log_count_B > float("-inf")
        sums_B = log_count_B + (hard_B - weights_B).masked_fill(~has_negatives_B, 0.0)
        if self.alpha:
            right_B = positive_B + torch.tensor(self.alpha, dtype=positive_B.dtype).log()
            sums_B = torch.logaddexp(right_B, sums_B)
        return sums_B - (values_KB[4] if len(values_KB) > 4 else positive_B)
