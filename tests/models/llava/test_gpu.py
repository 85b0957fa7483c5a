"""On a GPU: kernels of attention agree on packed trees, and weights of four bits keep their bits."""

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu.assistant import IMAGE_ID, PAD_ID, assistant, backward, batch_of, gradients_of, nf4, rows_of
from benchmarks.gpu.parts import Missing
from benchmarks.gpu.scale import TINY, distance
from medvlp.data.chat.packing import CollateConversations

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def expected(gpu):
    """(loss, gradients) of trees by SDPA's plain kernel in single precision."""
    model = assistant(TINY, "sdpa", gpu)
    with sdpa_kernel(SDPBackend.MATH):
        return backward(model, move_data_to_device(batch_of(TINY, "tree"), gpu)), gradients_of(model)


@pytest.mark.parametrize("attention", ["sdpa", "flex_attention"])
def test_attention_agrees_on_packed_trees(gpu, expected, attention):
    model = assistant(TINY, attention, gpu)
    loss = backward(model, move_data_to_device(batch_of(TINY, "tree"), gpu))
    assert loss == pytest.approx(expected[0], rel=1e-4)
    if gpu.type == "cuda" or attention == "sdpa":  # flex attention has no gradients on a CPU
        assert distance(gradients_of(model), expected[1]) < 1e-3


@pytest.mark.parametrize("way", ["padded", "sequence"])
def test_packed_trees_are_padded_and_packed_rows(gpu, expected, way):
    model = assistant(TINY, "sdpa", gpu)
    assert backward(model, move_data_to_device(batch_of(TINY, way), gpu)) == pytest.approx(expected[0], rel=1e-4)
    assert distance(gradients_of(model), expected[1]) < 1e-3


def test_flash_attention_agrees_on_packed_rows(gpu):
    pytest.importorskip("flash_attn", reason="no package flash_attn")
    gradients = []
    for attention in ("sdpa", "flash_attention_2"):
        model = assistant(TINY, attention, gpu, torch.bfloat16)
        is_flat = attention != "sdpa"
        collate = CollateConversations(PAD_ID, IMAGE_ID, TINY.image_tokens, False, "token", flat=is_flat)
        backward(model, move_data_to_device(rows_of(TINY, collate), gpu))
        gradients.append(gradients_of(model))
    assert distance(gradients[1], gradients[0]) < 0.1


def test_four_bit_weights_keep_their_bits(gpu):
    try:
        assert nf4(TINY, gpu)["layers"] == 14
    except Missing as error:
        pytest.skip(str(error))
