"""Processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from typing import Any


@dataclass
class Outcome:
    """What became of one job: a result, or the exception and where it was raised."""

    job: Any
    result: Any = None
    error: Exception | None = None
    trace: str = ""


def run(function: Callable[[Any], Any], jobs: Sequence[Any], workers: int) -> Iterator[Outcome]:
    """Apply a module-level function to every job; outcomes come as they finish. One job's failure stops no other.

    With workers ≤ 1 everything happens in this process. At most two jobs a worker are in flight.
    """
    if workers <= 1:
        for job in jobs:
            yield _attempt(function, job)
        return
    # spawn, not fork: arrow and image libraries start threads, and a fork copies their locks in whatever state.
    context = multiprocessing.get_context("spawn")
    waiting = iter(jobs)
    flying: dict[Future[Outcome], Any] = {}
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_die_with_parent) as pool:
        try:
            while True:
                while len(flying) < 2 * workers and (job := next(waiting, None)) is not None:
                    flying[pool.submit(_attempt, function, job)] = job
                if not flying:
                    return
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    job = flying.pop(future)
                    error = future.exception()
                    if error is None:
                        yield future.result()
                        continue
                    reason = RuntimeError(f"a worker process ended ({error}); the machine may be out of memory")
                    yield Outcome(job, error=reason, trace=str(error))
                    if isinstance(error, BrokenProcessPool):  # no process is left to take the rest
                        return
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _attempt(function: Callable[[Any], Any], job: Any) -> Outcome:
    try:
        return Outcome(job, result=function(job))
    except Exception as error:
        return Outcome(job, error=_portable(error), trace=traceback.format_exc())


def _portable(error: Exception) -> Exception:
    """The exception if it can cross to another process, else its description."""
    try:
        pickle.loads(pickle.dumps(error))  # our own bytes, made on the spot
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _die_with_parent() -> None:
    """After kill -9 on the parent a worker would wait for jobs for ever, and write beside the run that follows."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait_for([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
