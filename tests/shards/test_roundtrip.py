import os
import pickle
import resource
import tarfile
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.shards import BadSample, Sample, ShardDataset, ShardError, ShardWriter, to_members
from medvlp.shards.writer import member_header
from tests.shards.folders import make_sample, write_folder
from tests.shards.test_schema import samples


@settings(max_examples=25, deadline=None)
@given(st.lists(samples, min_size=1, max_size=9, unique_by=lambda s: s.key))
def test_what_is_written_is_read(originals):
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder) / "train", originals)
        dataset = ShardDataset(Path(folder) / "train")
        assert [dataset.read(i) for i in range(len(dataset))] == originals
        assert dataset.keys == [dataset.key(i) for i in range(len(dataset))] == [s.key for s in originals]


@settings(max_examples=10, deadline=None)
@given(st.lists(samples, min_size=1, max_size=6, unique_by=lambda s: s.key))
def test_webdataset_reads_the_same_members(originals):
    import webdataset

    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder) / "train", originals)
        tars = sorted(str(path) for path in (Path(folder) / "train").glob("*.tar"))
        read = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert [sample["__key__"] for sample in read] == [sample.key for sample in originals]
    for sample, original in zip(read, originals, strict=True):
        assert {n: d for n, d in sample.items() if not n.startswith("__")} == to_members(original)


def test_the_index_says_what_tarfile_says(dataset):
    index = np.load(dataset / "train" / "000001.idx", allow_pickle=False)
    with tarfile.open(dataset / "train" / "000001.tar") as tar:
        members = tar.getmembers()
    keys = ShardDataset(dataset / "train").keys[4:]
    names = [f"{keys[row['sample']]}.{row['member'].decode()}" for row in index]
    assert names == [m.name for m in members]
    assert index["offset"].tolist() == [m.offset_data for m in members]
    assert index["size"].tolist() == [m.size for m in members]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


def test_same_samples_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_folder(tmp_path / name / "train", [make_sample(n) for n in range(8)])
    for path in sorted((tmp_path / "one" / "train").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / "train" / path.name).read_bytes(), path.name


def test_table_and_places(dataset):
    train = ShardDataset(dataset / "train")
    assert len(train) == 8
    assert train.locate(5) == ("000001.tar", 1)
    assert train.column("group")[5] == "a005"
    assert train.column("caption_length")[5] == len("figure 5 – α")
    assert train.column("split") == ["train"] * 8
    with pytest.raises(ShardError, match="no column 'colour'; it has key, shard"):
        train.column("colour")


@pytest.mark.parametrize("i", [-1, 8, 10**9])
def test_positions_outside(dataset, i):
    train = ShardDataset(dataset / "train")
    for method in (train.read, train.locate, train.key):
        with pytest.raises(IndexError, match="which has 0 to 7"):
            method(i)


def _read(dataset: ShardDataset, i: int) -> Sample:
    return dataset.read(i)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_too(dataset, method):
    train = ShardDataset(dataset / "train")
    train.read(0)  # handles are open by now
    with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
        assert pool.submit(_read, train, 6).result() == make_sample(6)
    assert train.read(0) == make_sample(0)


def test_pickle_carries_no_handles(dataset):
    train = ShardDataset(dataset / "train")
    train.read(0)
    data = pickle.dumps(train)
    assert len(data) < 3000
    assert pickle.loads(data).read(7) == make_sample(7)


def test_open_shards_are_bounded(dataset, monkeypatch):
    monkeypatch.setattr("medvlp.shards.reader.MAX_OPEN_SHARDS", 1)
    train = ShardDataset(dataset / "train")
    train.read(0)
    before = len(os.listdir("/proc/self/fd"))
    for i in (5, 0, 6, 1, 7):
        assert train.read(i) == make_sample(i)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("nowhere", "does not exist"),
        (".", "holds the splits test, train; choose one"),
        ("unfinished", "unfinished"),
        ("ledger.json", "is a file"),
    ],
)
def test_folders_that_are_no_splits(dataset, folder, message):
    (dataset / "unfinished").mkdir()
    with pytest.raises(ShardError, match=message):
        ShardDataset(dataset / folder)


def test_a_manifest_of_another_contract(dataset):
    path = dataset / "train" / "manifest.json"
    path.write_text(path.read_text().replace('"contract": 1', '"contract": 2'))
    with pytest.raises(ShardError, match="follows contract 2, this medvlp reads 1"):
        ShardDataset(dataset / "train")


def _reason(dataset: ShardDataset, i: int) -> str:
    with pytest.raises(BadSample) as caught:
        dataset.read(i)
    assert (caught.value.shard, caught.value.key) == (dataset.locate(i)[0], dataset.key(i))
    return caught.value.reason


def test_a_flipped_byte_costs_one_sample(dataset):
    path = dataset / "train" / "000000.tar"
    data = bytearray(path.read_bytes())
    data[data.index(bytes([2]) * 700) + 5] ^= 1
    path.write_bytes(data)
    train = ShardDataset(dataset / "train")
    assert _reason(train, 2) == "checksum_mismatch"
    assert [train.read(i) for i in (0, 1, 3)] == [make_sample(i) for i in (0, 1, 3)]


def test_a_truncated_shard_costs_what_is_behind_its_end(dataset):
    path = dataset / "train" / "000000.tar"
    end = int(np.load(path.with_suffix(".idx"))["offset"][4])  # inside sample 1
    os.truncate(path, end)
    train = ShardDataset(dataset / "train")
    with pytest.warns(UserWarning, match="its manifest says"):
        assert train.read(0) == make_sample(0)
    assert [_reason(train, i) for i in (1, 2, 3)] == ["truncated_shard"] * 3
    assert train.read(4) == make_sample(4)


@pytest.mark.parametrize(("suffix", "reason"), [(".tar", "missing_shard"), (".idx", "missing_shard")])
def test_a_missing_file(dataset, suffix, reason):
    (dataset / "train" / f"000000{suffix}").unlink()
    train = ShardDataset(dataset / "train")
    assert _reason(train, 0) == reason
    assert train.read(4) == make_sample(4)


def test_an_index_that_is_none(dataset):
    (dataset / "train" / "000000.idx").write_bytes(b"nonsense")
    assert _reason(ShardDataset(dataset / "train"), 1) == "broken_index"


def test_a_pickle_is_not_opened(dataset):
    np.save(dataset / "train" / "x.npy", np.array([print], dtype=object), allow_pickle=True)
    os.replace(dataset / "train" / "x.npy", dataset / "train" / "000000.idx")
    assert _reason(ShardDataset(dataset / "train"), 1) == "broken_index"


def test_a_key_twice_in_a_shard(tmp_path):
    def write_twice() -> None:
        with ShardWriter(tmp_path / "000000", "train") as writer:
            writer.write(make_sample(1))
            writer.write(make_sample(1))

    with pytest.raises(ShardError, match="comes twice"):
        write_twice()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path):
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with (
            pytest.raises(ShardError, match=r"cannot write .*000000.tar"),
            ShardWriter(tmp_path / "000000", "t") as writer,
        ):
            writer.write(Sample("k", {"jpg": bytes(300_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@given(
    st.text("abcXYZ0189_-.", min_size=1, max_size=175),
    st.one_of(st.integers(0, 70_000), st.integers(8**11 - 2, 8**11 + 2), st.integers(0, 2**40)),
)
def test_a_header_is_what_tarfile_makes(name, size):
    expected = tarfile.TarInfo(name)
    expected.size, expected.mode = size, 0o644
    assert member_header(name, size) == expected.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
