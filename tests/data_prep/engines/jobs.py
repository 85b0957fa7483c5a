"""What the engines are tried with: functions that other processes can import, and jobs that remember their tries."""

import errno
import os
import signal
import threading
import time
from pathlib import Path

from data_prep.errors import PrepError
from medvlp.shards import ShardError


def square(number):
    return number * number


def tried(path: Path) -> int:
    """How often a job that notes its tries in this file was begun."""
    return len(path.read_bytes()) if path.exists() else 0


def fails_at_first(job):
    """(file, what it raises or does, how many times): the name of the fault is what else the table of faults says."""
    path, fault, times = job
    with open(path, "ab") as file:
        file.write(b".")
    if tried(path) <= times:
        FAULTS[fault]()
    return path.name


def _raise(error):
    def fault():
        raise error

    return fault


def _full_shard():
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError as error:
        raise ShardError("cannot write 000000.tar: No space left on device") from error


def _flaky_shard():
    try:
        raise OSError(errno.EIO, "Input/output error")
    except OSError as error:
        raise ShardError("cannot write 000000.tar: Input/output error") from error


def waits_for_the_second(job):
    """`fails_at_first`, where a job that fails at no try begins once job `1` of its folder has, and takes a moment."""
    path, _, times = job
    while not times and not tried(path.with_name("1")):
        time.sleep(0.01)
    time.sleep(0.0 if times else 0.1)
    return fails_at_first(job)


def dies_in_company(job):
    """(file, companion's file or none): a job with a companion ends its process at its first try, once both are at work."""
    path, companion = job
    with open(path, "ab") as file:
        file.write(b".")
    if companion and tried(path) == 1:
        while not tried(companion):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


FAULTS = {
    "io": _raise(OSError(errno.EIO, "Input/output error")),
    "memory": _raise(MemoryError()),
    "bug": _raise(RuntimeError("who knows")),
    "folder": _raise(IsADirectoryError(errno.EISDIR, "Is a directory", "image.jpg")),
    "input": _raise(PrepError("line 3 is not JSON")),
    "contract": _raise(ShardError("key a comes twice")),
    "full": _full_shard,
    "flaky": _flaky_shard,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "wait": lambda: time.sleep(600),
}


def raises_what_cannot_cross(number):
    class Local(Exception):
        pass

    raise Local(f"job {number}")


def returns_what_cannot_cross(number):
    return threading.Lock() if number else number


def fails_or_tells_its_threads(job):
    """`fails_at_first`, and `threads` for the job "threads"."""
    return threads(job) if job == "threads" else fails_at_first(job)


def threads(_):
    """(threads of arrow's pool, of OpenCV, what OpenMP is told)."""
    import cv2
    import pyarrow as pa

    return pa.cpu_count(), cv2.getNumThreads(), os.environ["OMP_NUM_THREADS"]
