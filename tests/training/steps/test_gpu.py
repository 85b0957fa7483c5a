"""On a GPU: a step in parts is one graph's, with its generators' states; mixed precision and compiled towers stay near."""

import copy
from dataclasses import replace

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from medvlp.training.steps.grad_cache import cached_loss
from tests.training.steps.test_grad_cache import BATCH, PairBatch, tiny_module

pytestmark = pytest.mark.gpu


def in_one_graph(module, batch):
    encoded = [module.encode(part) for part in batch.parts]
    features = {name: torch.cat([part[name] for part in encoded]) for name in encoded[0]}
    return module.loss_of(features, PairBatch.joined(batch.parts))[0]


def gradients_by(module, run, gpu, dtype=None):
    """(loss, all gradients in one vector), from the same random states."""
    module.zero_grad()
    torch.manual_seed(1)
    with torch.autocast(gpu.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        loss = run(module)
    loss.backward()
    gradients = [parameter.grad.flatten() for parameter in module.model.parameters() if parameter.grad is not None]
    return loss.item(), torch.cat(gradients)


@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 1e-4), (torch.bfloat16, 1e-2)])
def test_a_step_in_parts_is_one_graphs(gpu, dtype, tolerance):
    module = tiny_module().to(gpu)
    batch = replace(BATCH, parts=[move_data_to_device(part, gpu) for part in BATCH.parts])
    loss, expected = gradients_by(module, lambda module: in_one_graph(module, batch), gpu, dtype)
    parted_loss, gradients = gradients_by(module, lambda module: cached_loss(module, BATCH)[0], gpu, dtype)
    assert parted_loss == pytest.approx(loss, rel=tolerance)
    assert (gradients - expected).norm() <= tolerance * expected.norm()


def test_mixed_precision_and_compiled_towers_are_near(gpu):
    module = tiny_module().to(gpu).eval()  # nothing is dropped at random
    part = move_data_to_device(BATCH.parts[0], gpu)
    loss, expected = gradients_by(module, lambda module: module.loss(part)[0], gpu)
    half_loss, half = gradients_by(module, lambda module: module.loss(part)[0], gpu, torch.bfloat16)
    assert half_loss == pytest.approx(loss, rel=0.02)
    assert 0 < (half - expected).norm() < 0.1 * expected.norm()
    compiled = copy.deepcopy(module)
    for tower in compiled.model.children():
        tower.compile(backend="inductor" if gpu.type == "cuda" else "aot_eager")
    compiled_loss, gradients = gradients_by(compiled, lambda module: module.loss(part)[0], gpu)
    assert compiled_loss == pytest.approx(loss, rel=1e-4)
    assert (gradients - expected).norm() <= 1e-3 * expected.norm()
