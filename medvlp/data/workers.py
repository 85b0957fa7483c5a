"""Batches by way of loader processes: no signal reaches those, none outlives its loader, and one that was killed is told
as that."""

import re
import signal
import time
from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from medvlp import process
from medvlp.errors import UserError

TOLD: dict[int, str] = {
    signal.SIGKILL: "a loader worker was ended by the system (SIGKILL). Most likely the machine ran out of memory (`dmesg` "
    "says so): use fewer workers (data.workers; workers in medvlp eval) or smaller batches, or give the job more memory",
    signal.SIGBUS: "a loader worker was ended by the system (SIGBUS). Most likely shared memory (/dev/shm) is full, of which "
    "containers have little: docker run --shm-size=16g, or no workers (data.workers=0; workers=0 in medvlp eval)",
}


class WorkerKilled(UserError):
    """The system ended a loader worker, for want of memory."""


def batches(loader: "DataLoader[Any]") -> Iterator[Any]:
    """The batches of a loader, whose workers end with this iterator.

    Raises:
        WorkerKilled: the system ended one of them.
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
                if told := killed(error, workers) or raised_there(error):
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


def killed(error: BaseException, workers: Iterable[Any] | None = None) -> WorkerKilled | None:
    """What an error comes from, if it comes from the end of a worker that the system killed.

    PyTorch raises "DataLoader worker is killed" wherever the main thread happens to be; a pipe that breaks first is told as
    "Connection reset".

    Args:
        workers: those that it may come from; None for all there are.
    """
    if "DataLoader worker" in str(error):
        return next(
            (WorkerKilled(TOLD[n]) for n in TOLD if f"signal: {signal.strsignal(n)}" in str(error)), None
        ) or _died(workers)
    if isinstance(error, OSError | EOFError):
        return _died(workers, patience=1.0 if isinstance(error, ConnectionError | EOFError) else 0.0)
    return None


def _died(workers: Iterable[Any] | None, patience: float = 0.0) -> WorkerKilled | None:
    suspects = list(process.children() if workers is None else workers)
    end = time.monotonic() + patience  # a pipe breaks a moment before its process has an exit code
    while suspects:
        for worker in suspects:
            if (number := -(worker.exitcode or 0)) in TOLD:
                return WorkerKilled(TOLD[number])
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    return None
