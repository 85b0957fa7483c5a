"""Engines, which run units of work. An engine is `run(function, jobs, workers, **its options) → outcomes`, in any order.

`local` and `ray` run all jobs before they return. Under Slurm (`data_prep.engines.slurm`) every task of an array is a
process of its own, which takes its share of the units and runs them with one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from data_prep.engines import local, ray_engine
from data_prep.engines.retries import JobOutcome

ENGINES: dict[str, Callable[..., Iterator[JobOutcome]]] = {"local": local.run, "ray": ray_engine.run}

__all__ = ["ENGINES", "JobOutcome"]
