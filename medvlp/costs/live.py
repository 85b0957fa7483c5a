"""Bytes of tensors that exist, by what they are for, and their highest point."""

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts storages while it lasts, of real and of fake tensors: when an operation makes one, and when the last tensor of it
    ends. What a kernel holds for itself while it runs is not seen.

    purpose: of what is made from now on, for the counts.
    live: purpose → bytes now. highest: the same at the moment when their sum was largest.
    """

    def __init__(self, purpose: str = "") -> None:
        super().__init__()
        self.purpose = purpose
        self.live: dict[str, int] = {}
        self.highest: dict[str, int] = {}
        self.sizes: dict[int, tuple[str, int]] = {}

    @property
    def peak(self) -> int:
        """The largest sum."""
        return sum(self.highest.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self.add(tensor)
        return output

    def add(self, tensor: Tensor) -> None:
        """Count its storage, once, until it ends."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.sizes:
            return
        self.sizes[key] = (self.purpose, storage.nbytes())
        self._change(self.purpose, storage.nbytes())
        weakref.finalize(storage, self._end, key)

    def assign(self, tensor: Tensor, purpose: str) -> None:
        """Say what an existing tensor is for."""
        self.add(tensor)
        key = tensor.untyped_storage()._cdata
        former, size = self.sizes[key]
        self.sizes[key] = (purpose, size)
        self._change(former, -size)
        self._change(purpose, size)

    def _end(self, key: int) -> None:
        purpose, size = self.sizes.pop(key, ("", 0))
        self._change(purpose, -size)

    def _change(self, purpose: str, size: int) -> None:
        self.live[purpose] = self.live.get(purpose, 0) + size
        if size > 0 and sum(self.live.values()) > self.peak:
            self.highest = dict(self.live)
