"""No reader runs a pickle, whatever file it comes in: each of these would leave a mark if it did."""

import contextlib
import gzip
import io
import json
import pickle
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from data_prep.errors import PrepError
from data_prep.source import Dropped
from data_prep.sources import open_source
from medvlp.data.images.feature_cache import FEATURES, METADATA, CachedFeatures
from medvlp.models.weights import WeightsError, load_tensors
from medvlp.shards import BadSample, ShardDataset, ShardError, verify
from medvlp.training.checkpoints import CheckpointError, check_resumable, load_checkpoint, newest
from tests.datasets import jpeg, pairs, write_split
from tests.shards.folders import plant, sign_again


class Harm:
    """Unpickled, it makes a file."""

    def __init__(self, mark) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return exec, (f"open({self.mark!r}, 'w').close()",)


@pytest.fixture
def mark(tmp_path):
    """The file that must not appear; that the harm is real is seen first."""
    path = tmp_path / "mark"
    pickle.loads(pickle.dumps(Harm(path)))
    assert path.exists()
    path.unlink()
    yield path
    assert not path.exists()


def saved(write) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def torch_zip(harm, **options) -> bytes:
    return saved(lambda file: torch.save(harm, file, **options))


def array(harm) -> np.ndarray:
    return np.array([harm, None], dtype=object)


def zipped(**members: bytes) -> bytes:
    def write(file):
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in members.items():
                archive.writestr(name.replace("__", "/"), data)

    return saved(write)


PICKLES = {
    **{f"a pickle of protocol {n}": lambda harm, n=n: pickle.dumps(harm, protocol=n) for n in range(6)},
    "a pickle, packed": lambda harm: gzip.compress(pickle.dumps(harm)),
    "a torch file": torch_zip,
    "a torch file of the former kind": lambda harm: torch_zip(harm, _use_new_zipfile_serialization=False),
    "a checkpoint": lambda harm: torch_zip({"medvlp": {"format": 1}, "state_dict": {"a": torch.ones(1)}, "x": harm}),
    "weights with one more": lambda harm: torch_zip({"a": torch.ones(1), "b": harm}),
    "a key of a dict": lambda harm: torch_zip({"state_dict": {("a", harm): torch.ones(1)}}),
    "a torch archive by hand": lambda harm: zipped(
        archive__data__pkl=b"", **{"archive__data.pkl": pickle.dumps(harm), "archive__version": b"3"}
    ),
    "an array of objects": lambda harm: saved(lambda file: np.save(file, array(harm), allow_pickle=True)),
    "arrays of objects": lambda harm: saved(lambda file: np.savez(file, a=array(harm))),
    "an array's own dump": lambda harm: array(harm).dumps(),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_checkpoints_and_weights(tmp_path, mark, kind):
    data = PICKLES[kind](Harm(mark))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("last.ckpt", "step-000001.ckpt"):
        (folder / name).write_bytes(data)
    for read in (load_checkpoint, check_resumable, lambda path: newest(path.parent)):
        with pytest.raises(CheckpointError):
            read(folder / "last.ckpt")
    for name in ("weights.pt", "weights.pth", "pytorch_model.bin", "model.safetensors"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WeightsError, match=name):
            load_tensors(str(tmp_path / name))


def test_a_safetensors_files_own_words_are_text(tmp_path, mark):
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", {"x": pickle.dumps(Harm(mark), 0).decode("ascii")})
    assert torch.equal(load_tensors(str(tmp_path / "a.safetensors"))["a"], torch.ones(1))


@pytest.mark.parametrize("kind", PICKLES)
def test_indexes_tables_and_manifests_of_shards(tmp_path, mark, kind):
    for name in ("000000.idx", "samples.parquet", "manifest.json", "000000.tar"):
        split = write_split(tmp_path / name / "train", pairs(4))
        (split / name).write_bytes(PICKLES[kind](Harm(mark)))
        if name != "manifest.json":
            sign_again(split)
        assert verify(split)
        with pytest.raises((BadSample, ShardError)):
            ShardDataset(split).read(0)


@pytest.mark.parametrize("name", ["pkl", "pickle", "pyd", "pth", "npy", "npz"])
def test_members_of_shards(tmp_path, mark, name):
    """webdataset's decoders unpickle these."""
    split = write_split(tmp_path / "train", pairs(4))

    def add(members):
        header = tarfile.TarInfo(f"{members[0][0].name.partition('.')[0]}.{name}")
        members.insert(3, (header, pickle.dumps(Harm(mark))))

    plant(split, add)
    with pytest.raises(BadSample, match="unexpected_member"):
        ShardDataset(split).read(0)
    assert "unexpected_member" in {finding.problem for finding in verify(split)}


def with_pickled_type(harm) -> pa.Table:
    """A table whose column claims to be an extension type that pyarrow once unpickled."""
    metadata = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(harm)}
    field = pa.field("caption", pa.string(), metadata=metadata)
    pandas = {"pandas": json.dumps({"index_columns": [], "columns": [], "pickled": pickle.dumps(harm, 0).decode()})}
    return pa.table([["a", "b"]], schema=pa.schema([field], metadata=pandas))


def test_parquet_types_and_notes(tmp_path, mark):
    pq.write_table(with_pickled_type(Harm(mark)), tmp_path / "rows.parquet")
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    with contextlib.suppress(PrepError):
        drain("csv", tmp_path / "rows.parquet", {"image": "caption", "caption": "caption"})
    split = write_split(tmp_path / "train", pairs(2))
    table = pq.read_table(split / "samples.parquet")
    position = table.schema.get_field_index("group")
    harmful = with_pickled_type(Harm(mark))
    field = harmful.schema.field(0).with_name("group")
    table = table.set_column(position, field, table.column(position)).replace_schema_metadata(harmful.schema.metadata)
    pq.write_table(table, split / "samples.parquet")
    sign_again(split)
    ShardDataset(split).column("group")
    verify(split)


def drain(source: str, path, options=None) -> list:
    """Everything that a source gives."""
    reader = open_source(source, str(path), 1000, "", options or {})
    return [item for unit in reader.units() for item in reader.read(unit)]


INPUTS = {
    "csv": "rows.csv",
    "csv of parquet": "rows.parquet",
    "csv of JSON lines": "rows.jsonl",
    "llava_json": "train.json",
    "medmnist": "breastmnist.npz",
}


@pytest.mark.parametrize("kind", ["a pickle of protocol 4", "a torch file", "arrays of objects", "an array of objects"])
@pytest.mark.parametrize("case", INPUTS)
def test_a_publishers_files(tmp_path, mark, case, kind):
    path = tmp_path / INPUTS[case]
    path.write_bytes(PICKLES[kind](Harm(mark)))
    with contextlib.suppress(PrepError):  # most refuse it; of text some rows are told as drops
        assert all(isinstance(item, Dropped) for item in drain(case.partition(" ")[0], path))


def test_medmnist_with_labels_that_are_objects(tmp_path, mark):
    images = {f"{split}_images": np.zeros((2, 28, 28), np.uint8) for split in ("train", "val", "test")}
    labels = {f"{split}_labels": array(Harm(mark)) for split in ("train", "val", "test")}
    np.savez(tmp_path / "breastmnist.npz", **images, **labels)
    with pytest.raises(PrepError):
        drain("medmnist", tmp_path / "breastmnist.npz")


def test_pathvqas_own_release(tmp_path, mark):
    (tmp_path / "qas/train").mkdir(parents=True)
    (tmp_path / "qas/train/train_qa.pkl").write_bytes(pickle.dumps(Harm(mark)))
    with pytest.raises(PrepError, match="not the pickles"):
        drain("pathvqa", tmp_path)


@pytest.mark.parametrize("source", ["biomedica", "unimed"])
def test_members_of_a_publishers_tars(tmp_path, mark, source):
    with tarfile.open(tmp_path / "000000.tar", "w") as tar:
        for name in ("a.pyd", "a.pkl", "a.jpg", "a.json", "a.txt"):
            header = tarfile.TarInfo(name)
            header.size = len(data := pickle.dumps(Harm(mark)))
            tar.addfile(header, io.BytesIO(data))
    assert all(isinstance(item, Dropped) for item in drain(source, tmp_path))


@pytest.mark.parametrize("kind", ["a pickle of protocol 4", "an array of objects", "arrays of objects"])
def test_features_of_a_tower(tmp_path, mark, kind):
    split = write_split(tmp_path / "train", pairs(2))
    (tmp_path / FEATURES).write_bytes(PICKLES[kind](Harm(mark)) + bytes(100))
    card = {"shape": [2, 1, 1], "starts": [0, 1, 2], "bad": {}, "crc32": [0, 0]}
    (tmp_path / METADATA).write_text(json.dumps(card))
    dataset = ShardDataset(split)
    with pytest.raises(BadSample, match="checksum_mismatch"):
        CachedFeatures([tmp_path], [dataset])(dataset.read(0))
