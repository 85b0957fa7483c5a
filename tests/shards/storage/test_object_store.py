"""Shards in an object store: moto's server on loopback, through s3fs."""

import dataclasses
import os
import subprocess
import sys

import pytest

from medvlp.shards import ShardDataset, ShardError
from medvlp.shards.storage import split_folder
from medvlp.shards.verify import verify
from medvlp.verbs.shards.index import main as index
from tests.shards.folders import make_sample
from tests.shards.foreign.tars import write_figures

pytestmark = pytest.mark.slow
moto = pytest.importorskip("moto.server", reason="pip install 'moto[server]' s3fs")
s3fs = pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def store():
    """The address of a store with the bucket `data`."""
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    os.environ.update(keys)
    system = s3fs.S3FileSystem(skip_instance_cache=True)
    system.mkdir("data")
    yield system
    for key in keys:
        del os.environ[key]
    server.stop()


def test_a_split_in_a_store_reads_as_on_disk(store, served_folder, settings):
    store.put(str(served_folder / "made"), "data/sets/made", recursive=True)
    for read in ("shard", "sample"):
        chosen = dataclasses.replace(settings, read=read)
        dataset = ShardDataset(split_folder("s3://data/sets/made/train", chosen), remote=chosen)
        assert [dataset.read(row) for row in range(8)] == [make_sample(number) for number in range(8)]
        assert dataset.read_text(2).texts == make_sample(2).texts
    with pytest.raises(ShardError, match=r"s3://data/sets/made/valid has no manifest\.json"):
        split_folder("s3://data/sets/made/valid", settings)


def test_processes_of_a_node_share_one_download(store, served_folder, settings):
    store.put(str(served_folder / "made"), "data/shared", recursive=True)
    code = (
        "import sys; from pathlib import Path; from medvlp.shards import ShardDataset\n"
        "from medvlp.shards.storage import RemoteSettings, split_folder\n"
        "settings = RemoteSettings(folder=Path(sys.argv[1]))\n"
        "dataset = ShardDataset(split_folder('s3://data/shared/train', settings), remote=settings)\n"
        "print([dataset.read(row).key for row in range(8)])"
    )
    command = [sys.executable, "-c", code, str(settings.folder)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = {process.communicate(timeout=300)[0].strip() for process in processes}
    assert outputs == {str([make_sample(number).key for number in range(8)])}
    assert len(list(settings.folder.rglob("*.tar"))) == 2
    assert not list(settings.folder.rglob("*.partial"))


def test_tars_of_others_in_a_store(store, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVLP_CACHE", str(tmp_path / "cache"))
    folder = write_figures(tmp_path / "figures")
    store.put(str(folder), "data/figures", recursive=True)
    assert index(["s3://data/figures", f"out={tmp_path}/out", "workers=1"]) == 0
    assert index([str(folder), "workers=1"]) == 0
    assert (tmp_path / "out/manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()
    assert ShardDataset(tmp_path / "out").read(5) == ShardDataset(folder).read(5)
    assert verify(tmp_path / "out") == []
