"""Outcomes of jobs, and which of them are retried: the same for every engine."""

from __future__ import annotations

import errno
import pickle
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from data_prep.errors import PrepError
from medvlp.shards import ShardError

RETRIES = 2
PAUSE = 0.5
"""Seconds before the first repetition, twice as many before the second: a file server may need a moment."""

MAX_CONSECUTIVE_CRASHES = 8
"""So many ends of processes, with no job done between them, and the fault is the machine's or the installation's."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""No other job would find room either."""

PERMANENT = frozenset(
    {errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM}
)
"""What a file is stays as it is: another try meets it again. All other errors of the system may pass."""


@dataclass
class JobOutcome:
    """The outcome of one job: a result, or the exception and where it was raised."""

    job: Any
    result: Any = None
    error: Exception | None = None
    trace: str = ""
    can_retry: bool = False
    """Another try may end better."""
    disk_is_full: bool = False
    """The disk took no more."""
    crashed: bool = False
    """The process ended under the job: killed by the system for its memory, or a crash of a library."""
    tries: int = 1


def try_job(function: Callable[[Any], Any], job: Any) -> JobOutcome:
    """Do a job where this is called. What the function raises is in the outcome, fit to cross to another process."""
    try:
        return JobOutcome(job, result=function(job))
    except Exception as error:
        disk_is_full, can_retry = _judge(error)
        return JobOutcome(
            job, error=_portable(error), trace=traceback.format_exc(), can_retry=can_retry, disk_is_full=disk_is_full
        )


def crash(job: Any, message: str) -> JobOutcome:
    """The outcome of a job whose process ended."""
    reason = RuntimeError(f"a worker process ended ({message}); the machine may be out of memory, or a library crashed")
    return JobOutcome(job, error=reason, trace=message, can_retry=True, crashed=True)


def retried(
    run_once: Callable[[Sequence[Any]], Iterator[JobOutcome]], jobs: Sequence[Any], retries: int, pause: float
) -> Iterator[JobOutcome]:
    """Run all jobs once, then those that may fare better a second time, up to `retries` times: one outcome a job.

    `run_once` gives the outcomes of jobs in any order. After a full disk, or MAX_CONSECUTIVE_CRASHES, nothing more is begun, and
    jobs that were not begun have no outcome.
    """
    crashes = 0
    for tries in range(1, retries + 2):
        failed: list[JobOutcome] = []
        with closing(run_once(jobs)) as outcomes:  # type: ignore[type-var]  # an engine is a generator
            for outcome in outcomes:
                outcome.tries = tries
                crashes = crashes + 1 if outcome.crashed else 0
                if outcome.can_retry and tries <= retries:
                    failed.append(outcome)
                else:
                    yield outcome
                if outcome.disk_is_full or crashes >= MAX_CONSECUTIVE_CRASHES:
                    yield from failed
                    return
        if not failed:
            return
        jobs = [outcome.job for outcome in failed]
        time.sleep(pause * tries)


def _judge(error: BaseException | None) -> tuple[bool, bool]:
    """(the disk is full, another try may end better)."""
    if isinstance(error, PrepError):
        return False, False
    is_ours = isinstance(error, ShardError)
    while error is not None:
        if isinstance(error, OSError):
            return error.errno in FULL, error.errno not in FULL | PERMANENT
        error = error.__cause__
    return False, not is_ours


def _portable(error: Exception) -> Exception:
    """The exception if it can cross to another process, else its description."""
    try:
        pickle.loads(pickle.dumps(error))  # our own bytes, made on the spot
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
