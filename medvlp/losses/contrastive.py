"""InfoNCE over the global batch. B: a rank's pairs; N: all ranks' pairs; D: width."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from medvlp.losses.gather import gather, rank

SAME_TEXT = ("negative", "masked", "positive")


def info_nce(
    image_BD: Tensor,
    text_BD: Tensor,
    logit_scale: Tensor,
    text_ids_B: Tensor | None = None,
    same_text: str = "negative",
) -> Tensor:
    """Symmetric InfoNCE (van den Oord 2018; CLIP, Radford 2021) of this rank's pairs against all ranks' pairs.

    The mean over ranks of the returned losses is the loss of one process with the whole batch, and so are the gradients
    that DDP averages, the logit scale's among them: each rank computes its own rows and columns of the N × N logits, and
    gathering carries gradients back to the rank that a row came from.

    Args:
        image_BD, text_BD: unit vectors; row i of each is a pair. Every rank brings the same B.
        logit_scale: scalar, the inverse temperature.
        text_ids_B: equal for equal texts; needed unless same_text is "negative".
        same_text: what another pair with the same text is. "negative": one to push away, as in CLIP. "masked": left out.
            "positive": as right as the pair itself; the target is uniform over all of them (SupCon, Khosla 2020).
    Returns: scalar.
    Raises:
        ValueError: unknown same_text, or text_ids_B missing.
    """
    if same_text not in SAME_TEXT:
        raise ValueError(f"objective.same_text={same_text!r} is not one of {SAME_TEXT}")
    all_image_ND, all_text_ND = gather(image_BD), gather(text_BD)
    to_text_BN = logit_scale * image_BD @ all_text_ND.T
    to_image_BN = logit_scale * text_BD @ all_image_ND.T
    rows, columns = to_text_BN.shape
    own_B = rank() * rows + torch.arange(rows, device=image_BD.device)
    own_BN = torch.nn.functional.one_hot(own_B, columns).bool()
    if same_text == "negative":
        positive_BN = own_BN
    else:
        if text_ids_B is None:
            raise ValueError(f"objective.same_text={same_text} needs text_ids_B")
        same_BN = text_ids_B[:, None] == gather(text_ids_B)[None, :]
        positive_BN = same_BN if same_text == "positive" else own_BN
        if same_text == "masked":
            left_out_BN = same_BN & ~own_BN
            to_text_BN = to_text_BN.masked_fill(left_out_BN, float("-inf"))
            to_image_BN = to_image_BN.masked_fill(left_out_BN, float("-inf"))
    return (cross_entropy(to_text_BN, positive_BN) + cross_entropy(to_image_BN, positive_BN)) / 2


def cross_entropy(logits_BN: Tensor, positive_BN: Tensor) -> Tensor:
    """Mean over rows of the cross-entropy with a target uniform over each row's positives (one or more)."""
    log_probability_BN = log_softmax(logits_BN, dim=-1)
    summed_B = log_probability_BN.masked_fill(~positive_BN, 0.0).sum(dim=-1)
    return -(summed_B / positive_BN.sum(dim=-1)).mean()
