"""Ranks: how many processes share this work, which of them this is, and work that is divided among them.

Two things can be asked. The launcher (torchrun) says from the start how many ranks there will be; the process group is what
they talk over, and there is none before training begins. Nothing here imports torch before it is needed.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def launched_rank() -> int:
    """This process among those that the launcher started; 0 without one."""
    return int(os.environ.get("RANK", "0"))


def launched_world_size() -> int:
    """How many processes the launcher started, on all nodes; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_local_world_size() -> int:
    """How many of them are on this node."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def rank() -> int:
    """This process in the default process group; 0 without one."""
    group = _process_group()
    return int(group.get_rank()) if group else 0


def world_size() -> int:
    """Ranks in the default process group; 1 without one."""
    group = _process_group()
    return int(group.get_world_size()) if group else 1


def of_this_rank(batches: Sequence[Batch]) -> Sequence[Batch]:
    """This rank's share. Whole batches, so that the number of ranks changes no batch and therefore no rounding."""
    return batches[rank() :: world_size()]


def on_all_ranks(batches: Sequence[Batch], work: Callable[[Batch], Result]) -> list[Result]:
    """The results of all batches, in order, on every rank; each rank works on its share of them, without gradients."""
    import torch

    with torch.no_grad():
        results = [work(batch) for batch in of_this_rank(batches)]
    ranks = world_size()
    if ranks == 1:
        return results
    results_of_ranks: list[list[Result]] = [[] for _ in range(ranks)]
    torch.distributed.all_gather_object(results_of_ranks, results)
    return [results_of_ranks[number % ranks][number // ranks] for number in range(len(batches))]


def _process_group() -> Any:
    """torch.distributed, where a process group exists."""
    torch = sys.modules.get("torch")  # a process that has not imported it has no group
    distributed = torch.distributed if torch else None
    return distributed if distributed and distributed.is_available() and distributed.is_initialized() else None
