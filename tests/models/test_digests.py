"""Facts about files are remembered as long as the files stay as they were, and no longer."""

import hashlib
import os

import pytest

from medvlp.models import digests
from medvlp.models.digests import FileFacts, content_identity, sha256_of


@pytest.fixture
def computed(monkeypatch):
    """Every file whose bytes were read; files count as quiet at once."""
    calls = []
    monkeypatch.setattr(digests, "QUIET_NS", -1)
    monkeypatch.setattr(
        digests, "_sha256", lambda path: calls.append(path) or hashlib.sha256(path.read_bytes()).hexdigest()
    )
    return calls


def test_a_file_is_read_once_by_all_processes(computed, tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(b"one")
    for _ in range(3):  # of each a new process
        assert sha256_of(path, FileFacts(tmp_path / "cache")) == hashlib.sha256(b"one").hexdigest()
    os.link(path, tmp_path / "other name")
    assert computed == [path]
    sha256_of(path, FileFacts(None))
    assert computed == [path, path]


def test_an_overwritten_file_is_read_again_whatever_its_size_and_time(computed, tmp_path):
    path, facts = tmp_path / "w.bin", FileFacts(tmp_path / "cache")
    path.write_bytes(b"one")
    status = path.stat()
    sha256_of(path, facts)
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert sha256_of(path, facts) == hashlib.sha256(b"two").hexdigest()


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(b"one")
    sha256_of(path, FileFacts(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_torn_lines_and_other_subjects_are_no_facts(computed, tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(b"one")
    sha256_of(path, FileFacts(tmp_path))
    file = tmp_path / digests.FILE
    line = file.read_bytes()
    assert FileFacts(tmp_path).get(path, "length", lambda path: str(path.stat().st_size)) == "3"
    for torn in (line[:-9], b"[1]\n", b"\xff\n", b'{"a": 1}\n'):
        file.write_bytes(torn)
        computed.clear()
        assert sha256_of(path, FileFacts(tmp_path)) == hashlib.sha256(b"one").hexdigest()
        assert computed == [path]
    computed.clear()
    file.write_bytes(line[:-9])
    sha256_of(path, FileFacts(tmp_path))  # is written behind the torn line
    sha256_of(path, FileFacts(tmp_path))
    assert computed == [path]


def test_identities_are_of_values_not_of_their_order():
    assert content_identity({"a": 1, "b": [2]}) == content_identity({"b": [2], "a": 1})
    assert content_identity({"a": 1}) != content_identity({"a": "1"})
