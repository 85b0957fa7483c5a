"""A small finished data set, fresh for every test that damages it."""

from pathlib import Path

import pytest

from tests.shards.folders import write_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Splits train (2 shards of 4) and test (1 shard of 4), with a ledger."""
    return write_dataset(tmp_path / "made")
