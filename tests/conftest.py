"""Where the tests find real data."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real public data (ROCOv2, MedMNIST, ...) in its publishers' layout; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("MEDVLP_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs real data: {folder} does not exist; set MEDVLP_TEST_DATA to a folder that holds it")
    return folder
