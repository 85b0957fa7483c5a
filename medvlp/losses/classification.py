"""Cross-entropies of classifiers as sums, whose divisor is that of the whole step: then ranks and accumulated batches add up to
the mean over all its labels. B: samples; C: classes."""

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

IGNORED = -1
"""Target of a sample without a label."""


def single_label_loss(
    logits_BC: Tensor, target_B: Tensor, class_weights_C: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy summed over the samples that have a label (Szegedy 2016 for smoothing).

    Divided by the weights of the targets' classes, summed (without weights: by their number), it is torch's mean.

    target_B: class of each sample, or IGNORED.
    """
    return cross_entropy(
        logits_BC, target_B, class_weights_C, ignore_index=IGNORED, reduction="sum", label_smoothing=label_smoothing
    )


def multi_label_loss(
    logits_BC: Tensor, target_BC: Tensor, positive_weights_C: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Binary cross-entropy summed over the labels that are there; positives of a class count its weight times.

    target_BC: 1, 0, or NaN where a label is missing.
    """
    is_missing_BC = target_BC.isnan()
    target_BC = target_BC.masked_fill(is_missing_BC, 0.0).to(logits_BC.dtype)
    if label_smoothing:
        target_BC = target_BC * (1 - label_smoothing) + label_smoothing / 2
    loss_BC = binary_cross_entropy_with_logits(logits_BC, target_BC, pos_weight=positive_weights_C, reduction="none")
    return loss_BC.masked_fill(is_missing_BC, 0.0).sum()
