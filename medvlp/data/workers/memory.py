"""Memory that loader processes share with the one that trains. A batch is written there once, and read where it lies.

PyTorch makes a file in /dev/shm of every tensor of a batch, sends its descriptor, and maps it: the kernel zeroes its pages, and
both processes fault them in. Here the pages stay. A worker has a few slots, each for one batch; a slot is free again when the
last tensor over it is gone. A batch that finds none free, or that is too large, goes PyTorch's way.
"""

import mmap
import multiprocessing
import weakref
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from medvlp.data.batch import Batch

ALIGNMENT = 64
"""Bytes: a cache line."""

PREFETCHED = 2
"""Batches that PyTorch's loader has each worker read ahead."""

FREE, USED = 0, 1


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies in a slot."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype


class SlotMemory:
    """Slots for the batches of each worker; forked processes inherit it.

    Args:
        workers: loader processes.
        slots: of each of them.
        slot_bytes: of a batch at most.
    """

    def __init__(self, workers: int, slots: int, slot_bytes: int) -> None:
        self.slots, self.slot_bytes = slots, -(-slot_bytes // ALIGNMENT) * ALIGNMENT
        self.start = -(-workers * slots // ALIGNMENT) * ALIGNMENT
        self.block = mmap.mmap(-1, self.start + workers * slots * self.slot_bytes)
        self.states = np.frombuffer(self.block, np.uint8, workers * slots)

    def free_slot(self, worker: int) -> int | None:
        """The number of a free slot of a worker, which alone takes it."""
        first = worker * self.slots
        free = np.flatnonzero(self.states[first : first + self.slots] == FREE)
        return first + int(free[0]) if len(free) else None

    def bytes_of(self, slot: int) -> np.ndarray:
        """uint8 (slot_bytes,), a view."""
        return np.frombuffer(self.block, np.uint8, self.slot_bytes, self.start + slot * self.slot_bytes)

    def tensor_of(self, slot: int) -> Tensor:
        """uint8 (slot_bytes,); when nothing refers to its storage any more, the slot is free."""
        view = self.bytes_of(slot)
        weakref.finalize(view, self._release, slot).atexit = False
        return torch.from_numpy(view)

    def _release(self, slot: int) -> None:
        self.states[slot] = FREE


_memories: weakref.WeakValueDictionary[int, SlotMemory] = weakref.WeakValueDictionary()


@dataclass
class SlotBatch:
    """A batch whose tensors are in a slot: what a worker sends.

    memory: the number under which both processes know the slots; batch: with a `TensorPlace` for each tensor.
    """

    memory: int
    slot: int
    batch: Batch

    def opened(self) -> Batch:
        """The batch, over the slot's memory."""
        base = _memories[self.memory].tensor_of(self.slot)
        return replace(self.batch, **{f.name: over(getattr(self.batch, f.name), base) for f in fields(self.batch)})

    def pin_memory(self) -> Batch:
        """The batch in pinned memory; PyTorch's loader looks for this method. The slot is free after it."""
        return self.opened().pin_memory()


@dataclass
class CollateIntoSlots:
    """`collate`, whose batch a worker puts into a slot."""

    collate: Callable[[list[dict[str, Any]]], Batch]
    memory: SlotMemory

    def __call__(self, units: list[dict[str, Any]]) -> Batch | SlotBatch:
        batch, worker = self.collate(units), get_worker_info()
        slot = None if worker is None else self.memory.free_slot(worker.id)
        if slot is None:
            return batch
        place_of: dict[int, TensorPlace] = {}
        end = 0
        for tensor in tensors_of(batch):
            offset = -(-end // ALIGNMENT) * ALIGNMENT
            place_of[id(tensor)] = TensorPlace(offset, tuple(tensor.shape), dense_strides(tensor), tensor.dtype)
            end = offset + tensor.numel() * tensor.element_size()
        if end > self.memory.slot_bytes:
            return batch
        base = torch.from_numpy(self.memory.bytes_of(slot))
        for tensor in tensors_of(batch):
            over(place_of[id(tensor)], base).copy_(tensor)
        self.memory.states[slot] = USED
        names = [f.name for f in fields(batch)]
        placed = {name: with_places(getattr(batch, name), place_of) for name in names}
        return SlotBatch(id(self.memory), slot, replace(batch, **placed))


def slot_memory(workers: int, slot_bytes: int, batches_in_use: int) -> SlotMemory | None:
    """Slots for the batches that workers read ahead, and for those that the training process holds at once.

    None where they would not be shared: without workers, with processes that are not forked, with no size known, or where the
    system refuses as much memory at once.
    """
    if not (workers and slot_bytes and multiprocessing.get_start_method() == "fork"):
        return None
    try:
        memory = SlotMemory(workers, PREFETCHED + 1 + -(-batches_in_use // workers), slot_bytes)
    except OSError:
        return None
    _memories[id(memory)] = memory
    return memory


def opened(batch: Batch | SlotBatch) -> Batch:
    """A worker's batch, however it came."""
    return batch.opened() if isinstance(batch, SlotBatch) else batch


def tensors_of(batch: Batch) -> list[Tensor]:
    """Those of the batch's fields and of mappings in them."""
    values: list[Any] = []
    for field in fields(batch):
        value = getattr(batch, field.name)
        values += value.values() if isinstance(value, dict) else [value]
    return [value for value in values if isinstance(value, Tensor)]


def with_places(value: Any, place_of: dict[int, TensorPlace]) -> Any:
    """A field with places instead of its tensors."""
    if isinstance(value, dict):
        return {name: with_places(item, place_of) for name, item in value.items()}
    return place_of[id(value)] if isinstance(value, Tensor) else value


def over(value: Any, base: Tensor) -> Any:
    """A field with tensors instead of its places."""
    if isinstance(value, dict):
        return {name: over(item, base) for name, item in value.items()}
    if not isinstance(value, TensorPlace):
        return value
    size = int(np.prod(value.shape)) * value.dtype.itemsize
    flat = base[value.offset : value.offset + size].view(value.dtype)
    return flat.as_strided(value.shape, value.strides, flat.storage_offset())


def dense_strides(tensor: Tensor) -> tuple[int, ...]:
    """The tensor's own where its memory has no gaps (channels last), else those of a contiguous one."""
    is_channels_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return tuple(tensor.stride()) if is_channels_last else torch.empty(tensor.shape, device="meta").stride()
