"""Batches in memory that workers share: the same batches, slots that come free, and batches that find none."""

import gc
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from medvlp.data.batch import Batch
from medvlp.data.workers.memory import FREE, CollateIntoSlots, SlotBatch, opened, slot_memory

ROWS, SIDE = 24, 6


@dataclass(kw_only=True)
class MadeBatch(Batch):
    images: torch.Tensor
    ids: torch.Tensor
    scalar: torch.Tensor
    empty: torch.Tensor
    by_head: dict[str, torch.Tensor]
    nothing: torch.Tensor | None = None


class Rows(Dataset):
    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"row": row}


def collate(items: list[dict[str, Any]]) -> MadeBatch:
    rows = [item["row"] for item in items]
    count = len(rows)
    pixels = torch.arange(count * SIDE * SIDE * 3).reshape(count, SIDE, SIDE, 3) + 1000 * rows[0]
    return MadeBatch(
        keys=[str(row) for row in rows],
        positions=rows,
        bad=[{"key": "x"}],
        images=pixels.to(torch.uint8).permute(0, 3, 1, 2),
        ids=torch.tensor([[row, 2**40 + row] for row in rows]).T,
        scalar=torch.tensor(rows[0] / 7),
        empty=torch.empty(count, 3, 0, 0, dtype=torch.uint8),
        by_head={"a": torch.tensor([float("nan"), 1.0]), "b": torch.tensor(rows)},
    )


def loaded(memory):
    return DataLoader(Rows(), batch_size=3, num_workers=2, collate_fn=CollateIntoSlots(collate, memory))


def assert_equal(batch: MadeBatch, expected: MadeBatch) -> None:
    for field in fields(expected):
        pairs = [(getattr(batch, field.name), getattr(expected, field.name))]
        if isinstance(pairs[0][1], dict):
            assert pairs[0][0].keys() == pairs[0][1].keys()
            pairs = [(pairs[0][0][name], value) for name, value in pairs[0][1].items()]
        for value, other in pairs:
            if isinstance(other, torch.Tensor):
                torch.testing.assert_close(value, other, rtol=0, atol=0, equal_nan=True)
            else:
                assert value == other


@pytest.mark.parametrize(("slot_bytes", "held", "ways"), [(4096, 1, {True}), (4096, 9, {True}), (64, 1, {False})])
def test_batches_are_those_of_collate_and_slots_come_free(slot_bytes, held, ways):
    memory = slot_memory(2, slot_bytes, held)
    seen, views = set(), []
    for number, sent in enumerate(loaded(memory)):
        seen.add(isinstance(sent, SlotBatch))
        batch = opened(sent)
        expected = collate([{"row": row} for row in range(3 * number, 3 * number + 3)])
        assert_equal(batch, expected)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        views.append(batch.images[1])  # a view holds the slot
        if len(views) >= held:
            views.clear()
    assert seen == ways
    del batch
    views.clear()
    gc.collect()
    assert (memory.states == FREE).all()


def test_a_batch_that_finds_no_slot_free_is_sent_as_others_are():
    memory = slot_memory(2, 4096, 1)
    batches = [opened(sent) for sent in loaded(memory)]  # all are held: 8, of which each worker has 4 slots
    assert (memory.states != FREE).all()
    more = [type(sent) for sent in loaded(memory)]
    assert set(more) == {MadeBatch}
    for number, batch in enumerate(batches):
        assert_equal(batch, collate([{"row": row} for row in range(3 * number, 3 * number + 3)]))


def test_there_is_none_where_it_would_not_be_shared(monkeypatch):
    assert slot_memory(0, 100, 1) is None
    assert slot_memory(2, 0, 1) is None
    assert slot_memory(2, 2**46, 1) is None  # more than the system gives
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: "spawn")
    assert slot_memory(2, 100, 1) is None
