"""Distillation from another CLIP model. B: a rank's pairs."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medvlp.losses import AuxiliaryLoss, LossError, Pairs
from medvlp.losses.info_nce import check_chunk

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Distillation(AuxiliaryLoss):
    """What a frozen teacher says of the same pairs, over the global batch.

    logits: cross-entropy of the student's probabilities of texts for an image, and of images for a text, against the teacher's
    (open_clip's DistillClipLoss; affinity mimicking in TinyCLIP, Wu 2023). features: squared distance of the unit vectors, mean
    over images and texts (CLIP-KD, Yang 2024, has its like).
    """

    teacher: str = ""
    """A CLIP model as the evaluation names it: a checkpoint, or `open_clip:<architecture>@<tag>`."""
    on: str = "logits"
    """logits, or features of the same width."""
    feature_cache: str = ""
    """Folder for the teacher's features of images, as its evaluation sees them, and of texts, computed once; empty runs the
    teacher on the crops and texts of every step."""
    chunk: int = 0
    """Rows of logits held at a time; 0: by size."""

    def check(self) -> None:
        super().check()
        check_chunk(self.chunk, "objective.auxiliary.distillation")
        if not self.teacher:
            raise LossError(
                "objective.auxiliary.distillation.teacher is empty; name a checkpoint or an open_clip: model"
            )
        if self.on not in ("logits", "features"):
            raise LossError(
                f"objective.auxiliary.distillation.on={self.on!r} is not a choice. Choices: logits, features"
            )

    def __call__(self, pairs: Pairs, teacher: Pairs) -> "Tensor":
        """Scalar. teacher: its features, without gradients, and its logit scale."""
        if self.on == "features":
            distance_B = (pairs.image_BD - teacher.image_BD).square().sum(dim=-1)
            return (distance_B + (pairs.text_BD - teacher.text_BD).square().sum(dim=-1)).mean() / 2
        from medvlp.losses.blocks import Expected, LogSumExp, statistics_of

        plain = replace(pairs, same_text="negative", class_ids_B=None)
        statistics = [LogSumExp(), Expected(replace(teacher, same_text="negative", class_ids_B=None), self.chunk)]
        row_KB, column_KB = statistics_of(plain, statistics, self.chunk)
        return ((row_KB[0] - row_KB[1]) + (column_KB[0] - column_KB[1])).mean() / 2
