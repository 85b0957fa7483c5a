import json
import multiprocessing
import os
import shutil
import time

import pytest

from medvlp.config.evaluation.cache import CacheConfig
from medvlp.eval.store import folder as store_folder
from medvlp.eval.store.folder import ENTRY, StoreFolder, key_of
from medvlp.eval.store.root import MARKER, StoreError, open_root, store_root

PARTS = {"kind": "numbers", "data": "abc", "versions": {"torch": "2"}}


def store(tmp_path, max_bytes=10**6):
    return StoreFolder(open_root(tmp_path / "cache"), max_bytes)


def publish(folder, content=b"0123456789", **parts):
    return folder.publish(PARTS | parts, {"numbers.npy": lambda file: file.write(content)}, {"data": "here"})


def kept_names(folder):
    return {entry.parts.get("name") for entry in folder.entries()}


def test_what_was_published_is_found_by_its_parts_alone(tmp_path):
    folder = store(tmp_path)
    assert folder.find(PARTS) is None
    entry = publish(folder)
    assert (entry.path / "numbers.npy").read_bytes() == b"0123456789"
    assert (entry.size, entry.notes) == (10, {"data": "here"})
    again = store(tmp_path).find(dict(reversed(PARTS.items())))
    assert (again.path, again.parts) == (entry.path, PARTS)
    for name in PARTS:
        assert folder.find(PARTS | {name: "other"}) is None
    assert not list((tmp_path / "cache" / "temporary").iterdir())


def test_names_that_are_not_utf8_are_kept(tmp_path):
    folder, path = store(tmp_path), os.fsdecode(b"/data/r\xf6ntgen")
    parts = PARTS | {"encoder": path}
    assert folder.publish(parts, {"numbers.npy": lambda file: file.write(b"1")}, {"data": path}).notes["data"] == path
    entry = folder.find(parts)
    assert (entry.parts, entry.notes) == (parts, {"data": path})


def test_keys_are_of_the_content_and_not_of_the_order():
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": "1"}) != key_of({"a": 1.0})


def flip(path, at=3):
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


DAMAGES = {
    "truncated": lambda path: os.truncate(path / "numbers.npy", 9),
    "longer": lambda path: (path / "numbers.npy").open("ab").write(b"1"),
    "a bit flipped": lambda path: flip(path / "numbers.npy"),
    "payload gone": lambda path: (path / "numbers.npy").unlink(),
    "description gone": lambda path: (path / ENTRY).unlink(),
    "description cut": lambda path: os.truncate(path / ENTRY, 40),
    "description flipped": lambda path: flip(path / ENTRY, (path / ENTRY).read_bytes().index(b"abc")),
    "description empty": lambda path: (path / ENTRY).write_bytes(b"[]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_absent_and_removed(tmp_path, damage):
    folder = store(tmp_path)
    entry = publish(folder)
    DAMAGES[damage](entry.path)
    assert folder.find(PARTS) is None
    assert not entry.path.exists()
    assert (publish(folder).path / "numbers.npy").read_bytes() == b"0123456789"


def test_an_entry_under_another_key_is_not_believed(tmp_path):
    folder = store(tmp_path)
    entry, other = publish(folder), publish(folder, b"9", name="other")
    shutil.rmtree(other.path)
    shutil.copytree(entry.path, other.path)
    assert folder.find(PARTS | {"name": "other"}) is None
    assert folder.find(PARTS) is not None


def test_an_entry_that_is_there_stays(tmp_path):
    folder = store(tmp_path)
    assert (publish(folder).path / "numbers.npy").stat().st_ino == (publish(folder).path / "numbers.npy").stat().st_ino


def _publish_at_once(root, barrier, number):
    folder = StoreFolder(root, 10**9)
    for turn in range(20):
        barrier.wait()
        entry = publish(folder, bytes([number]) * 5000, turn=turn)
        data = (entry.path / "numbers.npy").read_bytes()
        assert len(data) == 5000
        assert len(set(data)) == 1


def test_processes_that_publish_one_key_at_once_leave_one_whole_entry(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, root = context.Barrier(3), tmp_path / "cache"
    open_root(root)
    writers = [context.Process(target=_publish_at_once, args=(root, barrier, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    folder = StoreFolder(root, 10**9)
    assert len(folder.entries()) == 20
    assert all(folder.find(entry.parts) for entry in folder.entries())
    assert not list((root / "temporary").iterdir())


def test_the_least_recently_used_go_first(tmp_path):
    folder = store(tmp_path, max_bytes=30)
    for age, name in enumerate(("a", "b", "c")):
        entry = publish(folder, name=name)
        os.utime(entry.path / ENTRY, (0, 1000 + age))
    assert folder.find(PARTS | {"name": "a"})  # used now
    publish(folder, name="d")
    assert kept_names(folder) == {"a", "c", "d"}
    publish(folder, b"0" * 20, name="e")
    assert kept_names(folder) == {"d", "e"}


def test_what_is_larger_than_all_may_be_is_not_stored(tmp_path, capsys):
    folder = store(tmp_path, max_bytes=30)
    publish(folder, name="a")
    assert publish(folder, b"0" * 31, name="b") is None
    assert "more than cache.max_gb" in capsys.readouterr().err
    assert kept_names(folder) == {"a"}


def test_an_entry_that_goes_while_it_is_read_stays_readable(tmp_path):
    folder = store(tmp_path)
    entry = publish(folder)
    with open(entry.path / "numbers.npy", "rb") as file:
        folder.remove(entry.path)
        assert file.read() == b"0123456789"
    assert entry.last_use == 0


def test_only_entries_are_removed(tmp_path):
    folder = store(tmp_path)
    publish(folder)
    for path in (tmp_path, folder.root, folder.root / MARKER, folder.root / "entries" / "00"):
        with pytest.raises(ValueError, match="is no entry"):
            folder.remove(path)


def test_what_killed_writers_left_goes_when_nobody_holds_it(tmp_path):
    folder = store(tmp_path)
    publish(folder)
    old, new = (folder.root / "temporary" / name for name in ("old", "new"))
    for path in (old, new):
        path.mkdir()
    past = time.time() - 2 * store_folder.ABANDONED
    os.utime(old, (past, past))
    with folder._temporary() as held:
        os.utime(held, (past, past))
        folder.evict()
        assert sorted((folder.root / "temporary").iterdir()) == sorted([new, held])


def test_a_full_disk_is_said_once_and_nothing_is_left(tmp_path, capsys, monkeypatch):
    folder = store(tmp_path)

    def full(file):
        raise OSError(28, "No space left on device")

    assert folder.publish(PARTS, {"numbers.npy": full}, {}) is None
    assert folder.publish(PARTS, {"numbers.npy": full}, {}) is None
    notes = capsys.readouterr().err
    assert notes.count("No space left on device") == 1
    assert "what it computes is not stored" in notes
    assert not list((folder.root / "temporary").iterdir())
    assert folder.entries() == []


def test_a_store_that_may_only_be_read_is_read(tmp_path, capsys, monkeypatch):
    publish(store(tmp_path))

    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    for name in ("utime", "mkdir", "rename"):
        monkeypatch.setattr(os, name, refuse)
    folder = StoreFolder(open_root(tmp_path / "cache"), 10**6)
    assert folder.find(PARTS) is not None
    assert publish(folder, name="new") is None
    assert "Read-only file system" in capsys.readouterr().err


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StoreError, match=r"holds other things \(thesis.tex\) and no medvlp-store.json"):
        open_root(tmp_path)
    with pytest.raises(StoreError, match="is a file; give a folder"):
        open_root(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["{", json.dumps({"format": "medvlp store", "version": 2}), "[]"])
def test_a_store_of_another_version_is_refused(tmp_path, content):
    (tmp_path / MARKER).write_text(content)
    with pytest.raises(StoreError, match="damaged or of another version"):
        open_root(tmp_path)


def test_the_folder_is_the_keys_or_the_environments(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEDVLP_CACHE", str(tmp_path / "a"))
    assert store_root(CacheConfig()) == tmp_path / "a"
    assert store_root(CacheConfig(str(tmp_path / "b"))) == tmp_path / "b"
    assert (tmp_path / "b" / MARKER).is_file()
    (tmp_path / "file").write_text("")
    assert store_root(CacheConfig(str(tmp_path / "file" / "c"))) is None
    assert "nothing is stored" in capsys.readouterr().err
