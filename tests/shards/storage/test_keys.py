"""Mapped keys: the same as those in memory, of which no process holds a copy."""

import pyarrow as pa
import pytest

from medvlp.shards import ShardDataset
from medvlp.shards.storage import keys
from tests.datasets import pairs, write_split

CLAIM = pa.array([f"k{number}" for number in range(9)], pa.large_string())


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVLP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "keys"


def test_a_large_splits_keys_are_mapped_and_the_same(tmp_path, cache, monkeypatch):
    folder = write_split(tmp_path / "train", pairs(5), per_shard=2)
    plain = ShardDataset(folder)
    monkeypatch.setattr("medvlp.shards.reader.LARGE", 5)
    mapped = ShardDataset(folder)
    before = pa.total_allocated_bytes()
    assert mapped.keys == plain.keys
    assert [file.name for file in cache.iterdir()] == [f"{plain.manifest.files['samples.parquet'].sha256}.arrow"]
    assert [mapped.read(row) for row in range(5)] == [plain.read(row) for row in range(5)]
    again = ShardDataset(folder)
    monkeypatch.setattr(again, "_arrow_column", None)  # the table is not read a second time
    assert again.key(3) == plain.key(3)
    assert pa.total_allocated_bytes() - before < 100_000


def test_a_file_that_is_cut_short_or_of_others_is_written_again(cache):
    calls = []

    def read():
        calls.append(1)
        return CLAIM

    def opened():
        return keys.mapped_keys("a" * 64, len(CLAIM), read).to_pylist()

    assert opened() == opened() == CLAIM.to_pylist()
    assert len(calls) == 1
    (file,) = cache.iterdir()
    data = file.read_bytes()
    for content in (data[:-30], b"", b"x" * len(data)):
        file.write_bytes(content)
        assert opened() == CLAIM.to_pylist()
    keys._write(file, CLAIM[:5])
    assert opened() == CLAIM.to_pylist()
    assert len(calls) == 5


def test_without_a_cache_to_write_keys_stay_in_memory_and_that_is_said(cache):
    cache.parent.mkdir()
    cache.write_text("a file where the folder would be")
    with pytest.warns(UserWarning, match="every loader process holds all keys itself"):
        assert keys.mapped_keys("a" * 64, len(CLAIM), lambda: CLAIM) is CLAIM
