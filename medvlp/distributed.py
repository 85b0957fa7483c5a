"""Ranks: how many processes share this work, which of them this is, and work that is divided among them.

Two things can be asked. The launcher (torchrun) says from the start how many ranks there will be; the process group is what
they talk over, and there is none before training begins. Nothing here imports torch before it is needed.
"""

import os
import pickle
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from medvlp.errors import UserError

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def launched_rank() -> int:
    """This process among those that the launcher started; 0 without one."""
    return int(os.environ.get("RANK", "0"))


def launched_local_rank() -> int:
    """This process among those of this node; 0 without a launcher."""
    return int(os.environ.get("LOCAL_RANK", "0"))


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
    """The results of all batches, in order, on every rank; each rank works on its share of them, without gradients.

    Raises: what work raises, on every rank the error of the first batch that failed on any.
    """
    import torch

    ranks, results, failure = world_size(), [], None
    with torch.no_grad():
        for number in of_this_rank(range(len(batches))):
            try:
                results.append(work(batches[number]))
            except Exception as error:
                if ranks == 1:
                    raise
                failure = Failure(number, error)
                break
    results_of_ranks = gather(results, failure)
    return [results_of_ranks[number % ranks][number // ranks] for number in range(len(batches))]


class Failure(NamedTuple):
    """An error of this rank. moment: batches before it; of several ranks' errors the one with the least is raised."""

    moment: int
    error: Exception


AT_THE_END = 2**62
"""The moment of an error outside of batches."""


def gather(value: Result, failure: Failure | None = None) -> list[Result]:
    """Every rank's value, in rank order, on every rank. Collective: each rank's next call meets the others' next one,
    whatever these are about, so that a rank that has failed is heard where the others come to first.

    Raises: the error of a rank that has failed, on all of them.
    """
    if world_size() == 1:
        if failure:
            raise failure.error
        return [value]
    import torch

    message = (value, None) if failure is None else (None, Failure(failure.moment, portable(failure.error)))
    messages: list[Any] = [None] * world_size()
    try:
        torch.distributed.all_gather_object(messages, message)
    except Exception as error:  # a rank is gone, and there is nobody to tell
        raise _marked(error) from None
    failures = [(sent.moment, number) for number, (_, sent) in enumerate(messages) if sent is not None]
    if failures:
        number = min(failures)[1]
        raise _marked(failure.error if failure and number == rank() else messages[number][1].error)
    return [values for values, _ in messages]


def in_step(work: Callable[[], Result]) -> Result:
    """What work gives, once every rank has done its own. In it, ranks may meet; they need not fail at the same point.

    Raises: what work raises on any of the ranks, on all of them.
    """
    try:
        result = work()
    except Exception as error:
        if world_size() > 1 and not hasattr(error, MARK):
            gather(None, Failure(AT_THE_END, error))
        raise
    gather(None)
    return result


def from_first(work: Callable[[], Result]) -> Result:
    """What work gives on rank 0, which alone does it. Raises: what it raises, on all ranks."""
    return gather(in_first(work))[0]


def in_first(work: Callable[[], Result]) -> Any:
    """What work gives on rank 0; None on the others. Raises: what it raises, on all ranks."""
    return in_step(lambda: work() if rank() == 0 else None)


MARK = "_medvlp_shared"
"""Mark of an error that all ranks have."""


def _marked(error: Exception) -> Exception:
    setattr(error, MARK, True)
    return error


def portable(error: Exception) -> Exception:
    """The error if it can cross to another process, else one with its message; with its traceback as a note."""
    try:
        copy: Exception = pickle.loads(pickle.dumps(error))  # our own bytes, made on the spot
    except Exception:
        copy = (
            UserError(str(error)) if isinstance(error, UserError) else RuntimeError(f"{type(error).__name__}: {error}")
        )
    copy.add_note(f"on rank {rank()}:\n" + "".join(traceback.format_exception(error)))
    return copy


def _process_group() -> Any:
    """torch.distributed, where a process group exists."""
    torch = sys.modules.get("torch")  # a process that has not imported it has no group
    distributed = torch.distributed if torch else None
    return distributed if distributed and distributed.is_available() and distributed.is_initialized() else None
