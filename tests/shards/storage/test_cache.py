"""The cache: bounded, shared by processes, whole or absent."""

import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
import warnings

import pytest

from medvlp.shards import ShardError
from medvlp.shards.atomic import _TemporaryFile
from medvlp.shards.storage import cache as cache_module
from medvlp.shards.storage.cache import FileCache
from medvlp.shards.writer import FileMark
from tests.conftest import REPOSITORY


def content_of(number, size=1000):
    data = bytes([number]) * size
    return data, FileMark(hashlib.sha256(data).hexdigest(), size)


def fetch(cache, number, size=1000):
    """Fetch a file; returns its path, and whether it was downloaded."""
    data, mark = content_of(number, size)
    downloads = []

    def write(file):
        downloads.append(number)
        file.write(data)

    path = cache.fetch(mark, ".tar", f"file {number}", write)
    assert path.read_bytes() == data
    return path, bool(downloads)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "USE_INTERVAL", 0.0)
    return FileCache(tmp_path / "cache", 3_000)


def test_what_was_used_longest_ago_is_removed_first(cache):
    paths = [fetch(cache, number)[0] for number in range(3)]
    for age, path in zip((100, 300, 200), paths, strict=True):
        os.utime(path, (time.time() - age,) * 2)
    assert fetch(cache, 0) == (paths[0], False)  # used again
    fetch(cache, 3)
    assert [path.exists() for path in paths] == [True, False, True]
    fetch(cache, 4, 2_000)
    assert [path.exists() for path in paths] == [False, False, False]
    assert sum(path.stat().st_size for path in cache.folder.rglob("*.tar")) <= 3_000


def test_a_second_download_warns_that_the_cache_is_small(cache):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(4):
            fetch(cache, number)
    with pytest.warns(UserWarning, match=r"file 0 is downloaded again: the cache .* is too small"):
        fetch(cache, 0)


def test_what_does_not_fit_is_refused_with_the_key(cache):
    with pytest.raises(ShardError, match=r"file 1 has 4000 bytes, .* may hold 3000; raise data\.remote\.max_gb"):
        fetch(cache, 1, 4_000)


def test_a_download_that_fails_or_is_short_leaves_nothing(cache):
    _, mark = content_of(1)
    with pytest.raises(ShardError, match="has 5 bytes, its manifest says 1000"):
        cache.fetch(mark, ".tar", "file 1", lambda file: file.write(b"short"))
    with pytest.raises(ZeroDivisionError):
        cache.fetch(mark, ".tar", "file 1", lambda file: 1 / 0)
    assert not list(cache.folder.rglob("*.tar*"))


@pytest.mark.parametrize("reserved", [True, False])
def test_a_disk_that_refuses_is_told_as_that(cache, monkeypatch, reserved):
    """A limit on the size of files stands for a full disk; it is met before the first byte, or by one of them."""
    fetch(cache, 0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not reserved:
        monkeypatch.setattr(_TemporaryFile, "truncate", lambda file, size: size)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(ShardError, match=r"cannot write .*\.tar: File too large; nothing of it was kept"):
            fetch(cache, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(list(cache.folder.rglob("*.tar*"))) == 1


SLOW_DOWNLOAD = """
import hashlib, sys, time
from pathlib import Path
from medvlp.shards.storage.cache import FileCache
from medvlp.shards.writer import FileMark
data = bytes([7]) * 1000
mark = FileMark(hashlib.sha256(data).hexdigest(), 1000)
log = Path(sys.argv[2])
def write(file):
    with open(log, "a") as lines:
        lines.write("begun\\n")
    file.write(data[:500]); file.flush()
    if len(sys.argv) > 3:
        time.sleep(60)
    time.sleep(0.2)
    file.write(data[500:])
assert FileCache(Path(sys.argv[1]), 3000).fetch(mark, ".tar", "x", write).read_bytes() == data
"""


def start(cache, log, *args):
    command = [sys.executable, "-c", SLOW_DOWNLOAD, str(cache.folder), str(log), *args]
    return subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})


def test_a_killed_download_leaves_nothing_torn_and_processes_share_one(cache, tmp_path):
    log = tmp_path / "log"
    victim = start(cache, log, "hang")
    deadline = time.monotonic() + 60
    while not (log.exists() and list(cache.folder.rglob("*.partial"))):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert list(cache.folder.rglob("*.partial"))
    assert not list(cache.folder.rglob("*.tar"))
    workers = [start(cache, log) for _ in range(2)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert log.read_text().count("begun") == 2  # the killed one, and one of the two
    assert not list(cache.folder.rglob("*.partial"))
