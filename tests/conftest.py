"""Where the tests find real data, and how many threads they use."""

import os
from pathlib import Path

import pytest

for library in ("OMP", "MKL", "OPENBLAS", "VECLIB", "NUMEXPR"):
    # One a process, before anything reads it: tests run on all cores at once, and their models are tiny. Processes that
    # they start inherit it.
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real public data (ROCOv2, MedMNIST, ...) in its publishers' layout; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("MEDVLP_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs real data: {folder} does not exist; set MEDVLP_TEST_DATA to a folder that holds it")
    return folder
