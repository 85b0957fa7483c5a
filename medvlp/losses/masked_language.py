"""Masked language modelling next to a contrastive loss. B: pairs; L: tokens; D: width; V: vocabulary; T: masked tokens."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medvlp.losses import AuxiliaryLoss, LossError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MaskedLanguage(AuxiliaryLoss):
    """Cross-entropy of masked words, told from the other words and the image by a fusion module (PMC-CLIP, Lin 2023): mean over
    all masked tokens of a step. Its code weighs it 0.5 and the contrastive loss 0.5.

    As there, the contrasted text is the masked one, which the text tower reads once.
    """

    weight: float = 0.5
    """Of the loss in the sum."""
    share: float = 0.15
    """Of words that are to be told; of these, 80% are masked, 10% replaced by a random token, 10% left as they are (BERT)."""
    layers: int = 4
    """Of the fusion module."""
    heads: int = 8
    """Attention heads of the fusion module."""

    def check(self) -> None:
        super().check()
        if not 0 < self.share < 1:
            raise LossError(f"objective.auxiliary.masked_language.share={self.share} is a share above 0 and below 1")
        for name in ("layers", "heads"):
            if getattr(self, name) < 1:
                raise LossError(f"objective.auxiliary.masked_language.{name}={getattr(self, name)} must be at least 1")

    def per_pair(
        self, hidden_BLD: "Tensor", weight_VD: "Tensor", tokens_BL: "Tensor", is_selected_BL: "Tensor"
    ) -> tuple["Tensor", "Tensor"]:
        """(B,) sums over the selected tokens of a text, (B,) how many there are. tokens_BL: as they were before masking."""
        from medvlp.losses.token_cross_entropy import linear_cross_entropies

        loss_T = linear_cross_entropies(hidden_BLD[is_selected_BL], weight_VD, tokens_BL[is_selected_BL])
        pair_T = is_selected_BL.nonzero()[:, 0]
        loss_B = loss_T.new_zeros(len(tokens_BL)).index_add(0, pair_T, loss_T)
        return loss_B, is_selected_BL.sum(dim=1).to(loss_T.dtype)
