from pathlib import Path

import pytest

from tests.data_prep.folders import write_rocov2


@pytest.fixture
def rocov2(tmp_path: Path) -> Path:
    """A ROCOv2 folder of 12, 3 and 3 pairs."""
    return write_rocov2(tmp_path / "rocov2")
