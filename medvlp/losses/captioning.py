"""Captioning next to a contrastive loss. B: a rank's pairs; L: tokens; V: vocabulary."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medvlp.losses import AuxiliaryLoss

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Captioning(AuxiliaryLoss):
    """Cross-entropy of a caption's next tokens, of CoCa's decoder (Yu 2022), as in open_clip: mean over all tokens of a step that
    are no padding. The paper weighs it 2 and the contrastive loss 1."""

    weight: float = 2.0
    """Of the loss in the sum."""

    def per_pair(self, logits_BLV: "Tensor", targets_BL: "Tensor", pad_id: int) -> tuple["Tensor", "Tensor"]:
        """(B,) sums over the tokens of a caption, (B,) how many there are. targets_BL: the tokens after those of the logits."""
        from torch.nn.functional import cross_entropy

        loss_BL = cross_entropy(logits_BLV.transpose(1, 2), targets_BL, ignore_index=pad_id, reduction="none")
        return loss_BL.sum(dim=1), (targets_BL != pad_id).sum(dim=1).to(loss_BL.dtype)
