"""The local engine: processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import wait as wait_for
from typing import Any

from data_prep.engines.retries import PAUSE, RETRIES, JobOutcome, crash, retried, try_job
from data_prep.engines.threads import pin_threads
from medvlp.process import end_children, holding_signals, interruption

Work = Callable[[Any], Any]


def run(
    function: Work, jobs: Sequence[Any], workers: int, *, retries: int = RETRIES, pause: float = PAUSE
) -> Iterator[JobOutcome]:
    """Apply a module-level function to every job; outcomes come as they finish. One job's failure stops no other.

    With workers ≤ 1 everything happens in this process. At most two jobs a worker are in flight.
    A job whose worker died is a failure of its own only if it was alone: those that were in flight together are done
    again one by one, and only the one that ends its process once more is at fault.
    """
    run_once = partial(_here, function) if workers <= 1 else partial(_in_processes, function, workers)
    return retried(run_once, jobs, retries, pause)


def _here(function: Work, jobs: Sequence[Any]) -> Iterator[JobOutcome]:
    return (try_job(function, job) for job in jobs)


def _in_processes(function: Work, workers: int, jobs: Sequence[Any]) -> Iterator[JobOutcome]:
    job_iterator = iter(jobs)
    while suspects := (yield from _until_broken(function, job_iterator, workers, 2 * workers)):
        if len(suspects) == 1:
            yield crash(*suspects[0])
            continue
        suspect_iterator = iter([job for job, _ in suspects])
        while guilty := (yield from _until_broken(function, suspect_iterator, 1, 1)):
            yield crash(*guilty[0])


def _until_broken(
    function: Work, job_iterator: Iterator[Any], workers: int, in_flight: int
) -> Generator[JobOutcome, None, list[tuple[Any, str]]]:
    """Take jobs until there are none, or a process of the pool ends; returns the (job, what was told) it left undone."""
    # spawn, not fork: arrow and image libraries start threads, and a fork copies their locks in whatever state.
    context = multiprocessing.get_context("spawn")
    flying: dict[Future[JobOutcome], Any] = {}
    broken: list[tuple[Any, str]] = []
    processes: set[Any] = set()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker) as pool:
        try:
            while not broken:
                while len(flying) < in_flight and not broken and (job := next(job_iterator, None)) is not None:
                    try:
                        with holding_signals() as started:
                            flying[pool.submit(try_job, function, job)] = job
                        processes |= started
                    except BrokenProcessPool as broke:  # since we looked
                        broken.append((job, str(broke)))
                if not flying:
                    break
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    job = flying.pop(future)
                    error = future.exception()
                    if error is None:
                        yield future.result()
                    elif isinstance(error, BrokenProcessPool):
                        broken.append((job, str(error)))
                    else:  # the result could not cross
                        yield JobOutcome(job, error=RuntimeError(f"{type(error).__name__}: {error}"), trace=str(error))
            for future in wait(flying).done:  # what had finished before the break is done all the same
                job, error = flying[future], future.exception()
                if error is None:
                    yield future.result()
                else:
                    broken.append((job, str(error)))
        except BaseException as reason:
            if not isinstance(reason, GeneratorExit) or interruption.reason:
                end_children(processes)  # else what they do would be waited for
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            end_children(processes)
    return broken


def _begin_worker() -> None:
    pin_threads()
    _die_with_parent()


def _die_with_parent() -> None:
    """After kill -9 on the parent a worker would wait for jobs for ever, and write at the same time as the run that follows."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait_for([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
