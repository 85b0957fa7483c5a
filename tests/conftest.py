"""Where the tests find real data, and how many threads they use."""

import gc
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    import torch

for library in ("OMP", "MKL", "OPENBLAS", "VECLIB", "NUMEXPR"):
    # One a process, before anything reads it: tests run on all cores at once, and their models are tiny. Processes that
    # they start inherit it.
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

_CACHE = tempfile.TemporaryDirectory(prefix="medvlp-cache-")
"""Goes with the process: no test finds what an earlier one kept, or what its user has."""
if "PYTEST_XDIST_WORKER" not in os.environ or "MEDVLP_CACHE" not in os.environ:
    os.environ["MEDVLP_CACHE"] = _CACHE.name

REPOSITORY = Path(__file__).resolve().parents[1]

hypothesis.settings.register_profile("suite", max_examples=40, deadline=None, database=None)
hypothesis.settings.register_profile("thorough", max_examples=1000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))
"""No example is too slow on a busy machine. `HYPOTHESIS_PROFILE=thorough` looks at more of them."""

gc.disable()


def pytest_collection_finish() -> None:
    """Millions of objects of libraries and collected tests stay to the end: no collection of garbage looks at them again."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 10)
    gc.enable()


@pytest.fixture(scope="session")
def gpu() -> "torch.device":
    """The GPU of tests marked `gpu`, which skip where there is none. MEDVLP_GPU_TESTS=cpu runs them on a CPU instead."""
    import torch

    if os.environ.get("MEDVLP_GPU_TESTS") == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU: torch finds none here")
    return torch.device("cuda")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real public data (ROCOv2, MedMNIST, ...) in its publishers' layout; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("MEDVLP_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs real data: {folder} does not exist; set MEDVLP_TEST_DATA to a folder that holds it")
    return folder
