"""Small messages between ranks, on a gloo group of their own so that they never wait for an accelerator."""

import atexit
from typing import Any

import torch
import torch.distributed as dist

from medvlp.distributed import world_size


class Ranks:
    """All ranks of a run. Every method is collective: each rank must call it at the same step."""

    def __init__(self) -> None:
        self.size = world_size()
        self.group: Any = dist.new_group(backend="gloo") if self.size > 1 else None

    def any(self, flag: bool) -> bool:
        """Whether any rank says so."""
        if self.group is None:
            return flag
        flag_tensor = torch.tensor([int(flag)])
        dist.all_reduce(flag_tensor, dist.ReduceOp.MAX, group=self.group)
        return bool(flag_tensor.item())

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in rank order, on every rank. Plain values only."""
        if self.group is None:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def mean(self, value: float) -> float:
        """Mean over ranks."""
        if self.group is None:
            return value
        total = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(total, group=self.group)
        return float(total.item()) / self.size


def end_process_group() -> None:
    """Close the connections between ranks: their threads would outlive the interpreter, which then ends by SIGABRT."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


atexit.register(end_process_group)
"""At the process's end and not a run's: stages, one after the other, share the group."""
