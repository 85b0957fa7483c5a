"""InfoNCE over the global batch. B: a rank's pairs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from medvlp.losses import ContrastiveLoss, LossError, Pairs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class InfoNCE(ContrastiveLoss):
    """Symmetric InfoNCE (van den Oord 2018; CLIP, Radford 2021).

    With positives, the target is uniform over them, outside the logarithm (SupCon, Khosla 2020; UniCL, Yang 2022), or their
    probabilities are summed inside it (MIL-NCE, Miech 2020). A target uniform over pairs of one text is not offered: equal
    texts have equal embeddings, hence equal logits, and the uniform target's loss, summed over those pairs, is InfoNCE's own in
    both directions.
    """

    same_text: ClassVar[tuple[str, ...]] = ("negative", "masked", "mil_nce")
    positives_as: ClassVar[tuple[str, ...]] = ("target", "inside", "mask")

    chunk: int = 0
    """Rows of logits held at a time; 0: by size."""

    def check(self) -> None:
        """Raises LossError."""
        check_chunk(self.chunk)

    def of_pairs(self, pairs: Pairs) -> "Tensor":
        from medvlp.losses.blocks import LogSumExp, MeanPositive, Statistic, statistics_of

        right: Statistic = LogSumExp("positives") if pairs.inside else MeanPositive()
        row_KB, column_KB = statistics_of(pairs, [LogSumExp(), right], self.chunk)
        return ((row_KB[0] - row_KB[1]) + (column_KB[0] - column_KB[1])) / 2


def check_chunk(chunk: int, prefix: str = "objective.options") -> None:
    """Raises LossError."""
    if chunk < 0:
        raise LossError(f"{prefix}.chunk={chunk} must be 0 (by size) or a number of rows")
