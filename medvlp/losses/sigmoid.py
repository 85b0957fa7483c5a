"""The sigmoid loss over the global batch. B: a rank's pairs; N: all ranks' pairs; C: columns at hand; D: width; R: rows."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from medvlp.losses import ContrastiveLoss, LossError, Pairs
from medvlp.losses.info_nce import check_chunk

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sigmoid(ContrastiveLoss):
    """Sigmoid loss (SigLIP, Zhai 2023): every pair of an image and a text is right or wrong by itself.

    Summed over all texts, mean over images. Its logit bias is learned, and belongs to the model.
    """

    same_text: ClassVar[tuple[str, ...]] = ("negative", "masked", "positive")
    positives_as: ClassVar[tuple[str, ...]] = ("target", "mask")
    learns_bias: ClassVar[bool] = True

    exchange: str = "gather"
    """gather: every rank holds all texts; ring: texts go round, and a rank holds its neighbour's only. They are equal."""
    start_scale: float = 10.0
    """Logit scale at the start of a model that brings no logit bias."""
    start_bias: float = -10.0
    """Logit bias at the start of a model that brings none."""
    chunk: int = 0
    """Rows of logits held at a time; 0: by size."""

    def check(self) -> None:
        """Raises LossError."""
        check_chunk(self.chunk)
        if self.exchange not in ("gather", "ring"):
            raise LossError(f"objective.options.exchange={self.exchange!r} is not a choice. Choices: gather, ring")
        if self.start_scale <= 0:
            raise LossError(f"objective.options.start_scale={self.start_scale} must be above 0")

    def of_pairs(self, pairs: Pairs) -> "Tensor":
        from medvlp.losses.gather import gather
        from medvlp.losses.relations import Relations
        from medvlp.losses.ring import sigmoid_sums

        if pairs.logit_bias is None:
            raise ValueError("the sigmoid loss needs the model's logit_bias")
        relations = Relations(pairs, self.chunk)
        text = pairs.text_BD if self.exchange == "ring" else gather(pairs.text_BD)
        return sigmoid_sums(pairs.image_BD, text, pairs.logit_scale, pairs.logit_bias, relations)
