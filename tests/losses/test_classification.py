"""Summed cross-entropies over their divisors are torch's means, however the samples are divided."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from medvlp.losses.classification import IGNORED, multi_label_loss, single_label_loss


@pytest.fixture
def logits_BC():
    return torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0.2, 3.0, 0.7], dtype=torch.float64)])
def test_parts_of_one_label_add_up_to_the_mean(logits_BC, smoothing, weights):
    target_B = torch.tensor([0, 1, 2, 3, IGNORED, 1, 1, 2, IGNORED, IGNORED, IGNORED, 0])
    parts = [slice(0, 4), slice(4, 8), slice(8, 11), slice(11, 12)]  # the third has no label
    summed = sum(single_label_loss(logits_BC[part], target_B[part], weights, smoothing) for part in parts)
    divisor = len(target_B[target_B >= 0]) if weights is None else weights[target_B[target_B >= 0]].sum()
    expected = cross_entropy(logits_BC, target_B, weights, ignore_index=IGNORED, label_smoothing=smoothing)
    assert float(summed / divisor) == pytest.approx(float(expected), rel=1e-12)


def test_a_batch_without_labels_costs_nothing_and_has_gradients(logits_BC):
    logits_BC.requires_grad_()
    loss = single_label_loss(logits_BC, torch.full((12,), IGNORED)) + multi_label_loss(
        logits_BC, torch.full((12, 4), torch.nan)
    )
    loss.backward()
    assert float(loss) == 0
    assert logits_BC.grad.eq(0).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_missing_labels_of_several_are_masked(logits_BC, smoothing):
    generator = torch.Generator().manual_seed(1)
    target_BC = (torch.rand(12, 4, generator=generator) < 0.5).double()
    is_missing_BC = torch.rand(12, 4, generator=generator) < 0.3
    weights_C = torch.tensor([2.0, 1.0, 0.5, 4.0], dtype=torch.float64)
    smoothed_BC = target_BC * (1 - smoothing) + smoothing * 0.5
    terms = [
        binary_cross_entropy_with_logits(logits_BC[b, c], smoothed_BC[b, c], pos_weight=weights_C[c])
        for b in range(12)
        for c in range(4)
        if not is_missing_BC[b, c]
    ]
    target_BC[is_missing_BC] = torch.nan
    summed = sum(
        multi_label_loss(logits_BC[part], target_BC[part], weights_C, smoothing) for part in (slice(0, 5), slice(5, 12))
    )
    assert float(summed) / len(terms) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-12)
