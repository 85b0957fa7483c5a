"""InfoNCE over the global batch. B: a rank's pairs; N: all ranks' pairs; D: width."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SAME_TEXT = ("negative", "masked", "mil_nce")


@dataclass(frozen=True, kw_only=True)
class InfoNCE:
    """Symmetric InfoNCE (van den Oord 2018; CLIP, Radford 2021); it has no options of its own."""

    def check(self) -> None:
        """Nothing to check."""

    def __call__(
        self,
        image_BD: "Tensor",
        text_BD: "Tensor",
        logit_scale: "Tensor",
        text_ids_B: "Tensor | None" = None,
        same_text: str = "negative",
        class_ids_B: "Tensor | None" = None,
    ) -> "Tensor":
        """The loss of this rank's pairs against all ranks' pairs.

        The mean over ranks of the returned losses is the loss of one process with the whole batch, and so are the gradients
        that DDP averages, the logit scale's among them: each rank computes its own rows and columns of the N × N logits, and
        gathering carries gradients back to the rank that a row came from.

        A target uniform over pairs of one text is not offered: equal texts have equal embeddings, hence equal logits, and
        the uniform target's loss, summed over those pairs, is InfoNCE's own in both directions.

        Args:
            image_BD, text_BD: unit vectors; row i of each is a pair. Every rank brings the same B.
            logit_scale: scalar, the inverse temperature.
            text_ids_B: equal for equal texts; needed unless same_text is "negative".
            same_text: what another pair with the same text is. "negative": one to push away, as in CLIP. "masked": ignored.
                "mil_nce": as right as the pair itself, probabilities of all that are right being summed inside the logarithm
                (Miech 2020). That acts from text to image, where the images of a text differ: any of them may be found.
            class_ids_B: pairs with equal ones are right for each other although their texts differ, and the target is
                uniform over them (SupCon, Khosla 2020; UniCL, Yang 2022), or their probabilities are summed with "mil_nce".
        Returns: scalar.
        Raises:
            ValueError: unknown same_text, or text_ids_B missing.
        """
        import torch

        from medvlp.distributed import rank
        from medvlp.losses.gather import gather

        if same_text not in SAME_TEXT:
            raise ValueError(f"objective.same_text={same_text!r} is not one of {SAME_TEXT}")
        if same_text != "negative" and text_ids_B is None:
            raise ValueError(f"objective.same_text={same_text} needs text_ids_B")
        all_image_ND, all_text_ND = gather(image_BD), gather(text_BD)
        to_text_BN = logit_scale * image_BD @ all_text_ND.T
        to_image_BN = logit_scale * text_BD @ all_image_ND.T
        rows, columns = to_text_BN.shape
        pair_B = rank() * rows + torch.arange(rows, device=image_BD.device)
        positive_BN = torch.nn.functional.one_hot(pair_B, columns).bool()
        if class_ids_B is not None:
            positive_BN = positive_BN | equal(class_ids_B)
        if same_text == "mil_nce" and text_ids_B is not None:
            positive_BN = positive_BN | equal(text_ids_B)
        if same_text == "masked" and text_ids_B is not None:
            ignored_BN = equal(text_ids_B) & ~positive_BN
            to_text_BN = to_text_BN.masked_fill(ignored_BN, float("-inf"))
            to_image_BN = to_image_BN.masked_fill(ignored_BN, float("-inf"))
        loss = any_of if same_text == "mil_nce" else cross_entropy
        return (loss(to_text_BN, positive_BN) + loss(to_image_BN, positive_BN)) / 2


def equal(ids_B: "Tensor") -> "Tensor":
    """Whether this rank's pairs have the ids of all ranks' pairs, (B, N)."""
    from medvlp.losses.gather import gather

    return ids_B[:, None] == gather(ids_B)[None, :]


def cross_entropy(logits_BN: "Tensor", positive_BN: "Tensor") -> "Tensor":
    """Mean over rows of the cross-entropy with a target uniform over each row's positives (one or more)."""
    log_probability_BN = logits_BN.log_softmax(dim=-1)
    summed_B = log_probability_BN.masked_fill(~positive_BN, 0.0).sum(dim=-1)
    return -(summed_B / positive_BN.sum(dim=-1)).mean()


def any_of(logits_BN: "Tensor", positive_BN: "Tensor") -> "Tensor":
    """Mean over rows of minus the logarithm of the probability of any of each row's positives (one or more)."""
    right_B = logits_BN.masked_fill(~positive_BN, float("-inf")).logsumexp(dim=-1)
    return (logits_BN.logsumexp(dim=-1) - right_B).mean()
