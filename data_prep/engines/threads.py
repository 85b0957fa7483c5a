"""One thread a worker: there is a worker a core, and sums over several threads may round otherwise."""

from __future__ import annotations

import os
import sys

VARIABLES = (
    "OMP_NUM_THREADS",  # also arrow's CPU pool
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "RAYON_NUM_THREADS",  # libraries written in Rust
)


def pin_threads() -> None:
    """Hold this process to one thread of work, in libraries that are loaded already and in those that will be.

    BLAS reads its variable when it is loaded: a process that imported numpy before keeps its threads.
    """
    os.environ.update(dict.fromkeys(VARIABLES, "1"))
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(1)
    if arrow := sys.modules.get("pyarrow"):
        arrow.set_cpu_count(1)
