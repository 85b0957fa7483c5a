"""One preparation has one result: whatever runs it, and however often it was killed on the way."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medvlp.shards import verify
from tests.data_prep.folders import jpeg, write_rocov2
from tests.data_prep.ways import WAYS, Killed, marks, plainly, prepare

CHOICES = ["source=rocov2", "samples_per_shard=5", "split=random", "split_seed=5", "duplicates=drop", "min_side=40"]
"""Units that have to be cut up again: samples move between splits, copies and one small image go."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_rocov2(tmp_path_factory.mktemp("publisher") / "rocov2", train=100, valid=20, test=20)
    for n in (7, 57):
        copy = folder / "train" / f"ROCOv2_2023_train_{n + 20:06d}.jpg"
        copy.write_bytes((folder / "train" / f"ROCOv2_2023_train_{n:06d}.jpg").read_bytes())
    (folder / "test" / "ROCOv2_2023_test_000011.jpg").write_bytes(jpeg(3, side=20))
    return folder


@pytest.fixture(scope="module")
def straight(folder, tmp_path_factory):
    """(marks of the result of one worker, seconds that it took)."""
    output = tmp_path_factory.mktemp("straight") / "out"
    began = time.monotonic()
    prepare("one worker", _words(folder, output), plainly)
    return marks(output), time.monotonic() - began


def _words(folder: Path, output: Path) -> list[str]:
    return [*CHOICES, f"input={folder}", f"output={output}"]


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.slow if way == "ray" else ()) for way in list(WAYS)[1:]]
)
def test_the_same_bytes(folder, straight, tmp_path, way):
    if way == "ray":
        pytest.importorskip("ray")
    prepare(way, _words(folder, tmp_path / "out"), plainly)
    parts = marks(tmp_path / "out")
    assert parts == straight[0]
    _is_all_there(tmp_path / "out", set(parts))


def _is_all_there(output: Path, names: set[str]) -> None:
    """The comparison compares what it should: kinds of files, several shards a split, drops of each kind."""
    assert {"ledger.json", "dropped.jsonl", "train/manifest.json", "train/samples.parquet"} <= names
    assert {"train/000003.tar", "train/000003.idx", "valid/000000.tar", "test/000000.tar"} <= names
    assert verify(output) == []
    ledger = json.loads((output / "ledger.json").read_text())
    assert (ledger["in"], ledger["out"]) == (140, 117)  # every valid image is in train, too
    assert set(ledger["drops"]) == {"check_images", "duplicates"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("way", WAYS)
def test_killed_at_a_random_moment(folder, straight, tmp_path, way, seed):
    """Every command of the way is killed once and given again."""
    if way == "ray":
        pytest.importorskip("ray")
    killed = Killed(tmp_path / "out", seed, 0.7 * straight[1])
    prepare(way, _words(folder, tmp_path / "out"), killed)
    assert killed.kills > 0
    assert marks(tmp_path / "out") == straight[0]


@pytest.fixture
def small_disk(tmp_path):
    """(a file system of its own, a function that gives it another size in KiB)."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield disk, lambda size: subprocess.run(["mount", "-o", f"remount,size={size}k", disk], check=True)
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("step", ["units", "dataset stages", "finalize"])
def test_a_full_disk(folder, straight, tmp_path, small_disk, step):
    """A clear word, an unfinished folder that keeps what is done, and after room was made the same result."""
    disk, resize = small_disk
    output = disk / "out"
    workers = 2 if step == "units" else 1  # the other steps are the parent's own
    command = [sys.executable, "-m", "medvlp.cli", "prep", *_words(folder, output), f"workers={workers}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    if step == "finalize":
        command.append(f"cache={tmp_path / 'cache'}")
    elif step == "dataset stages":  # units are done, and what is decided over all of them finds no room
        resize(65536)
        units = subprocess.run(
            [*command, "engine=slurm"], env={**environment, "SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "1"}
        )
        assert units.returncode == 0
        used = sum(path.stat().st_blocks for path in output.rglob("*")) // 2
        resize(used + 200)
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "No space left on device" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert str(disk) in ran.stderr
    assert not (output / "ledger.json").exists()
    assert not list(disk.rglob("*.partial"))
    resize(65536)
    plainly(command, {})
    assert marks(output) == straight[0]
