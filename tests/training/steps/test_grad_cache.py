"""Gradients of a step in parts: those of one graph over the same parts, with the same random states."""

import open_clip
import pytest
import torch
from torch import nn

from medvlp.data.batch import StepBatch
from medvlp.data.pairs import PairBatch
from medvlp.errors import UserError
from medvlp.losses.info_nce import InfoNCE
from medvlp.training.module import OptimizerSettings
from medvlp.training.objectives.contrastive import Contrastive
from medvlp.training.steps.grad_cache import cached_loss, refuse_batch_norm
from tests.models.tiny import TINY

PARTS = 3
SETTINGS = {"weight_decay": 0.1, "betas": (0.9, 0.98), "eps": 1e-6, "schedule": "constant", "warmup_steps": 0}


def tiny_module(frozen=(), same_text="masked"):
    """Contrastive training of a tiny CLIP that drops patches, and values behind its text tower's last norm."""
    torch.manual_seed(0)
    model = open_clip.CLIP(TINY["embed_dim"], {**TINY["vision_cfg"], "patch_dropout": 0.5}, TINY["text_cfg"])
    model.ln_final.register_forward_hook(lambda layer, args, output: nn.functional.dropout(output, 0.3))
    settings = OptimizerSettings(lr=1e-3, final_lr_fraction=0, frozen=frozen, **SETTINGS)
    return Contrastive(model, InfoNCE(), settings, 0, [0.5] * 3, [0.25] * 3, 100.0, same_text)


def part(number, pairs=4):
    generator = torch.Generator().manual_seed(number)
    return PairBatch(
        keys=[f"{number}-{row}" for row in range(pairs)],
        positions=list(range(number * pairs, (number + 1) * pairs)),
        bad=[],
        images_BCHW=torch.randint(0, 256, (pairs, 3, 32, 32), generator=generator, dtype=torch.uint8),
        tokens_BL=torch.randint(1, 49000, (pairs, 24), generator=generator),
        text_ids_B=torch.arange(pairs) + number,  # parts share texts
        class_ids=[[pair // 2] for pair in range(pairs)],
    )


BATCH = StepBatch.of([part(number) for number in range(PARTS)])


def one_graph(module):
    """The loss and gradients of the parts' features in one graph."""
    torch.manual_seed(1)
    encoded = [module.encode(batch) for batch in BATCH.parts]
    features = {name: torch.cat([features[name] for features in encoded]) for name in encoded[0]}
    loss, _ = module.loss_of(features, PairBatch.joined(BATCH.parts))
    return loss, gradients_after(module, loss)


def gradients_after(module, loss):
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in module.model.named_parameters() if p.grad is not None}
    module.zero_grad()
    return gradients


def in_parts(module, factor=1.0):
    torch.manual_seed(1)
    loss, values = cached_loss(module, BATCH, factor)
    return loss, gradients_after(module, loss * factor), values


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_loss_and_gradients_are_those_of_one_graph(dtype, tolerance):
    module = tiny_module().to(dtype)
    loss, expected = one_graph(module)
    parted_loss, gradients, values = in_parts(module)
    assert parted_loss.item() == pytest.approx(loss.item(), rel=tolerance)
    assert gradients.keys() == expected.keys()
    assert "logit_scale" in gradients
    for name, gradient in expected.items():
        assert (gradients[name] - gradient).norm() <= tolerance * gradient.norm(), name
    assert values["logit_scale"].item() == pytest.approx(1 / 0.07)


def test_backward_of_a_step_in_mixed_precision_is_not_under_it():
    module = tiny_module()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(1)
        encoded = [module.encode(batch) for batch in BATCH.parts]
        features = {name: torch.cat([features[name] for features in encoded]) for name in encoded[0]}
        loss, _ = module.loss_of(features, PairBatch.joined(BATCH.parts))
    expected = gradients_after(module, loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(1)
        parted_loss, _ = cached_loss(module, BATCH)
    gradients = gradients_after(module, parted_loss)
    assert parted_loss.item() == pytest.approx(loss.item(), rel=1e-6)
    for name, gradient in expected.items():  # sums over parts are rounded at other places
        assert (gradients[name] - gradient).norm() <= 0.02 * gradient.norm(), name


def test_other_random_states_give_other_gradients():
    module = tiny_module().double()
    _, expected = one_graph(module)
    torch.manual_seed(2)
    gradients = gradients_after(module, cached_loss(module, BATCH)[0])
    assert (gradients["visual.conv1.weight"] - expected["visual.conv1.weight"]).norm() > 1e-3


def test_a_gradient_scalers_factor_is_in_every_part():
    module = tiny_module().double()
    _, expected = one_graph(module)
    _, gradients, _ = in_parts(module, factor=1024.0)
    for name, gradient in expected.items():
        assert torch.allclose(gradients[name], 1024 * gradient, rtol=1e-9, atol=1e-12), name


def test_a_frozen_tower_runs_once_a_part_and_has_no_gradients():
    module = tiny_module(frozen=("vision", "vision_head")).double()
    _, expected = one_graph(module)
    calls = []
    module.model.visual.register_forward_hook(lambda *_: calls.append(1))
    _, gradients, _ = in_parts(module)
    assert len(calls) == PARTS
    assert gradients.keys() == expected.keys()
    assert not any(name.startswith("visual") for name in gradients)
    assert torch.allclose(gradients["text_projection"], expected["text_projection"], rtol=1e-9)


def test_joined_samples_are_without_images_and_tokens():
    joined = PairBatch.joined(BATCH.parts)
    assert joined.keys == BATCH.keys == [f"{number}-{row}" for number in range(PARTS) for row in range(4)]
    assert joined.text_ids_B.tolist() == [0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5]
    assert (len(joined.images_BCHW), len(joined.tokens_BL)) == (0, 0)


def test_batch_norm_that_trains_is_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(UserError, match=r"trainer.accumulate=4: batch norm trains in 1, .*optim.parts"):
        refuse_batch_norm(model, 4)
    refuse_batch_norm(model.eval(), 4)
