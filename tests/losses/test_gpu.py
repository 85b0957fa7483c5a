"""On a GPU: losses in blocks and the gather over ranks are what they are on a CPU in double precision."""

import pytest
import torch
import torch.distributed as dist
from torch.nn.functional import normalize

from medvlp.losses import Pairs, contrastive_loss
from medvlp.losses.gather import _Gather
from medvlp.losses.token_cross_entropy import linear_cross_entropy

pytestmark = pytest.mark.gpu
PAIRS, WIDTH, VOCABULARY = 96, 32, 700


def leaves(device, dtype):
    generator = torch.Generator().manual_seed(0)
    features = [normalize(torch.randn(PAIRS, WIDTH, generator=generator), dim=-1) for _ in range(2)]
    return [value.to(device, dtype).requires_grad_() for value in (*features, torch.tensor(14.0), torch.tensor(-5.0))]


def results_of(name, same_text, chunk, device, dtype):
    """The loss, and the gradients of both towers' features and of the scale."""
    values = leaves(device, dtype)
    ids_B = torch.arange(PAIRS, device=device) // 2
    loss = contrastive_loss(name, {"chunk": chunk})(
        Pairs(
            image_BD=values[0],
            text_BD=values[1],
            logit_scale=values[2],
            logit_bias=values[3],
            text_ids_B=ids_B,
            same_text=same_text,
        )
    )
    gradients = torch.autograd.grad(loss, values[:3])
    return [value.detach().double().cpu() for value in (loss, *gradients)]


@pytest.mark.parametrize("chunk", [0, 7])
@pytest.mark.parametrize(
    ("name", "same_text"), [("info_nce", "negative"), ("info_nce", "masked"), ("sigmoid", "negative")]
)
def test_losses_in_blocks_are_the_cpus(gpu, name, same_text, chunk):
    on_gpu = results_of(name, same_text, chunk, gpu, torch.float32)
    expected = results_of(name, same_text, 0, torch.device("cpu"), torch.float64)
    for value, reference in zip(on_gpu, expected, strict=True):
        assert (value - reference).norm() <= 1e-4 * reference.norm()


def test_next_tokens_are_the_cpus(gpu):
    generator = torch.Generator().manual_seed(0)
    hidden_TD, weight_VD = (torch.randn(rows, WIDTH, generator=generator) for rows in (PAIRS, VOCABULARY))
    target_T = torch.randint(VOCABULARY, (PAIRS,), generator=generator)
    results = []
    for device, dtype in ((gpu, torch.float32), (torch.device("cpu"), torch.float64)):
        hidden, weight = (value.to(device, dtype).requires_grad_() for value in (hidden_TD, weight_VD))
        loss = linear_cross_entropy(hidden, weight, target_T.to(device), torch.ones(PAIRS, device=device, dtype=dtype))
        results.append(
            [value.detach().double().cpu() for value in (loss, *torch.autograd.grad(loss, [hidden, weight]))]
        )
    for value, reference in zip(*results, strict=True):
        assert (value - reference).norm() <= 1e-4 * reference.norm()


def test_features_are_gathered_with_their_gradient(gpu, tmp_path):
    backend = "nccl" if gpu.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{tmp_path / 'address'}", rank=0, world_size=1)
    try:
        rows_BD, weights_BD = torch.randn(2, PAIRS, WIDTH, device=gpu)
        rows_BD.requires_grad_()
        gathered_ND = _Gather.apply(rows_BD)
        assert torch.equal(gathered_ND, rows_BD)
        (gathered_ND * weights_BD).sum().backward()
        assert torch.equal(rows_BD.grad, weights_BD)
    finally:
        dist.destroy_process_group()
