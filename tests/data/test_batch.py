from dataclasses import fields

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from torch.utils.data._utils.pin_memory import pin_memory

from medvlp.data.pairs import PairBatch


@pytest.fixture
def batch():
    return PairBatch(
        keys=["a"],
        positions=[3],
        bad=[{"key": "b", "reason": "truncated_shard"}],
        images_BCHW=torch.zeros(1, 3, 2, 2, dtype=torch.uint8),
        tokens_BL=torch.tensor([[1, 2]]),
        text_ids_B=torch.tensor([7]),
    )


def test_lightning_moves_the_tensors_of_a_batch_and_keeps_the_rest(batch):
    moved_batch = move_data_to_device(batch, "meta")
    assert isinstance(moved_batch, PairBatch)
    for field in fields(batch):
        before, after = getattr(batch, field.name), getattr(moved_batch, field.name)
        if isinstance(before, torch.Tensor):
            assert (after.device.type, after.dtype, after.shape) == ("meta", before.dtype, before.shape)
            assert before.device.type == "cpu"
        else:
            assert after == before


def test_a_loader_pins_the_tensors_of_a_batch(batch, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)  # without a GPU nothing can be pinned
    pinned = pin_memory(batch)
    assert isinstance(pinned, PairBatch)
    assert (pinned.keys, pinned.bad, pinned.class_ids) == (batch.keys, batch.bad, None)
    assert torch.equal(pinned.tokens_BL, batch.tokens_BL + 1)
    assert torch.equal(pinned.images_BCHW, batch.images_BCHW + 1)
