"""Several images as one embedding, against loops over samples."""

import pytest
import torch
from torch.nn.functional import normalize

from medvlp.models.clip.image_pool import AttentionPool, ImagePool, image_pool, loaded_pool
from medvlp.models.weights import WeightsError

COUNTS = [2, 1, 4]


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return normalize(torch.randn(7, 6, generator=generator, dtype=torch.float64), dim=-1)


def test_the_mean_and_the_attention_are_those_of_loops(images):
    attention = AttentionPool(6).double()
    torch.nn.init.normal_(attention.logit)
    parts, counts_B = images.split(COUNTS), torch.tensor(COUNTS)
    mean = torch.stack([normalize(part.mean(dim=0), dim=-1) for part in parts])
    assert torch.allclose(ImagePool()(images, counts_B), mean, atol=1e-12)

    def attended(part):
        weights = torch.softmax(torch.tanh(attention.hidden(part)) @ attention.logit, dim=0)
        return normalize((weights[:, None] * part).sum(dim=0), dim=-1)

    expected = torch.stack([attended(part) for part in parts])
    pooled = attention(images, counts_B)
    assert torch.allclose(pooled, expected, atol=1e-12)
    assert (pooled - mean)[[0, 2]].abs().max() > 1e-2
    weights = torch.linspace(-1, 1, 18, dtype=torch.float64).view(3, 6)
    parameters = list(attention.parameters())
    gradients = torch.autograd.grad((pooled * weights).sum(), parameters)
    for gradient, reference in zip(gradients, torch.autograd.grad((expected * weights).sum(), parameters), strict=True):
        assert torch.allclose(gradient, reference, atol=1e-12)
        assert gradient.abs().max() > 1e-4
    for pool in (ImagePool(), attention):  # a single image keeps its embedding
        assert torch.allclose(pool(images, torch.ones(7, dtype=torch.int64)), images, atol=1e-12)
    assert torch.allclose(
        AttentionPool(6).double()(images, counts_B), mean, atol=1e-12
    )  # training begins with the mean


def test_a_checkpoints_pool_comes_back():
    pool = AttentionPool(6)
    tensors = {f"image_pool.{name}": value for name, value in pool.state_dict().items()} | {"other.x": torch.ones(2)}
    loaded = loaded_pool(pool.described(), tensors, 6)
    assert loaded.described() == pool.described() != AttentionPool(6).described()
    assert loaded_pool(None, tensors, 6) is None
    assert loaded_pool(image_pool("mean", 6).described(), {}, 6).kind == "mean"
    with pytest.raises(WeightsError, match="expected a kind of mean, attention"):
        loaded_pool({"kind": "most"}, tensors, 6)
    with pytest.raises(WeightsError, match=r"its image_pool are \[\], expected"):
        loaded_pool(pool.described(), {}, 6)
