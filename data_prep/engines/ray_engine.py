"""The Ray engine: a local Ray for this run alone, or a cluster that is there."""

from __future__ import annotations

import logging
import os
import select
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

from data_prep.engines.retries import PAUSE, RETRIES, JobOutcome, crash, retried, try_job
from data_prep.engines.threads import pin_threads
from data_prep.errors import PrepError

OBJECT_STORE_BYTES = 100 * 2**20
"""Jobs and outcomes are small: images go from the input to the output and never through Ray."""


def run(
    function: Callable[[Any], Any],
    jobs: Sequence[Any],
    workers: int,
    *,
    address: str = "",
    gpus: bool = False,
    retries: int = RETRIES,
    pause: float = PAUSE,
) -> Iterator[JobOutcome]:
    """Apply a module-level function to every job on Ray; at most `workers` jobs are in flight, each on one CPU,
    and with `gpus` on one GPU, where the cluster has any.

    address: "" starts a Ray on this machine and stops it at the end; "auto" or "host:port" joins a running cluster and
    leaves it running. A cluster's nodes must see the input and the output folder under the same paths, and have the
    same version of medvlp and of the libraries installed: nothing is shipped to them.

    Raises PrepError if Ray is not installed, or the cluster does not answer.
    """
    with _cluster(address, max(1, workers)):
        yield from retried(partial(_once, function, max(1, workers), gpus), jobs, retries, pause)


def _once(function: Callable[[Any], Any], in_flight: int, gpus: bool, jobs: Sequence[Any]) -> Iterator[JobOutcome]:
    import ray

    # Repetitions are ours, so that they are counted, and the same as with other engines.
    gpus_of_job = 1 if gpus and ray.cluster_resources().get("GPU") else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus_of_job, max_retries=0)(_pinned)
    job_iterator = iter(jobs)
    flying: dict[Any, Any] = {}
    try:
        while True:
            while len(flying) < in_flight and (job := next(job_iterator, None)) is not None:
                flying[task.remote(function, job)] = job
            if not flying:
                return
            for reference in ray.wait(list(flying), num_returns=1)[0]:
                job = flying.pop(reference)
                try:
                    yield ray.get(reference)
                except ray.exceptions.RayError as error:  # `try_job` lets nothing through: the process or node ended
                    yield crash(job, " ".join(str(error).split()))
    finally:
        for reference in flying:
            ray.cancel(reference, force=True)


def _pinned(function: Callable[[Any], Any], job: Any) -> JobOutcome:
    pin_threads()
    _die_with_raylet()
    return try_job(function, job)


@lru_cache(maxsize=1)
def _die_with_raylet() -> None:
    """After kill -9 on the driver its raylet is gone at once, but Ray's workers go on for seconds, during the next run."""
    raylet = os.getppid()
    handle = os.pidfd_open(raylet)
    if os.getppid() != raylet:  # it went between the two lines, and its number may be another's by now
        os._exit(1)

    def watch() -> None:
        select.select([handle], [], [])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _cluster(address: str, workers: int) -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns about GPUs that nobody asked for
    try:
        import ray
    except ImportError:
        raise PrepError(
            "engine=ray needs Ray, which is not installed; pip install 'medvlp[ray]', or give engine=local"
        ) from None
    if ray.is_initialized():
        raise PrepError("this process already uses Ray; prepare in a process of its own, or call ray.shutdown() first")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    # Not TMPDIR: Ray puts sockets below it, whose whole path may have 107 bytes. Not Ray's own /tmp/ray either, which
    # belongs to the user of the machine who came first.
    folder = tempfile.mkdtemp(prefix=f"medvlp-ray-{os.getpid()}-", dir="/tmp") if not address else ""
    # Ray has no public switch for it: the raylet's word about a worker that ended would go to stdout. Outcomes tell it.
    ray._private.worker._worker_logs_enabled = False
    try:
        if address:
            try:
                ray.init(address=address, **quiet)
            except Exception as error:  # ConnectionError, ValueError, RuntimeError, by what is wrong
                raise PrepError(
                    f"ray_address={address}: this Ray cannot be joined ({' '.join(str(error).split())}); start one with "
                    "`ray start --head`, give this process its token if it has one (RAY_AUTH_TOKEN), or leave "
                    "ray_address out to run on this machine"
                ) from None
        else:
            ray.init(
                address="local",  # whatever RAY_ADDRESS says
                num_cpus=workers,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=folder,
                **quiet,
            )
        yield
    finally:
        ray.shutdown()
        ray._private.worker._worker_logs_enabled = True
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
