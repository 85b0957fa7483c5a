"""Batches by way of loader processes: no signal reaches those, none outlives its loader, and one that was killed is told
as that."""

import re
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from medvlp import process


def batches(loader: "DataLoader[Any]") -> Iterator[Any]:
    """The batches of a loader, whose workers end with this iterator.

    Raises:
        process.WorkerKilled: the system ended one of them.
    """
    with process.holding_signals() as workers:
        iterator = iter(loader)
    try:
        while True:
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except Exception as error:
                if told := process.killed(error, workers) or raised_there(error):
                    raise told from error
                raise
            yield batch
    finally:
        process.end_children(workers)


def raised_there(error: Exception) -> Exception | None:
    """An error of a worker as it was raised there: PyTorch puts the worker's traceback into the message."""
    text = str(error)
    if not (text.startswith("Caught ") and "in DataLoader worker process" in text):
        return None
    heads = list(re.finditer(rf"^(?:\w+\.)*{type(error).__name__}: ", text, re.MULTILINE))
    return type(error)(text[heads[-1].end() :].strip()) if heads else None
