"""Responses that are kept: what was written comes back, what was torn does not, and processes share a file."""

import errno
import json
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from medvlp.eval.store.responses import BLANK, LOCAL, KeyLocks, ResponseLog, digest_of, evict, question_key
from medvlp.jsonl import Appender
from medvlp.shards import ShardError, Turn

PARTS = {"model": "a", "batch": {"of": 1}}
TURNS = [Turn("user", "<image>\nIs it?")]


def row(text: str) -> dict:
    return {"text": text, "images": []}


def test_what_was_added_is_there_for_the_next_one(tmp_path):
    log = ResponseLog(tmp_path, PARTS)
    log.add({"k1": row("ja – \ud83d"), "k2": {"likelihoods": [[-0.1 + 0.3, 2]]}})
    log.add({"k1": row("another")})
    again = ResponseLog(tmp_path, {"batch": {"of": 1}, "model": "a"})
    assert again.path == log.path
    assert len(again) == 2
    assert again.get("k1") == row("ja – \ud83d")
    assert again.get("k2") == {"likelihoods": [[-0.1 + 0.3, 2]]}
    assert again.get("k3") is None
    assert len(log.path.read_bytes().splitlines()) == 3
    assert json.loads(log.path.read_bytes().splitlines()[0]) == {"parts": PARTS, "first_day": again.first_day}
    assert date.today() - date.fromisoformat(again.first_day) <= timedelta(days=1)


def test_another_model_has_another_file(tmp_path):
    ResponseLog(tmp_path, PARTS).add({"k": row("a")})
    assert ResponseLog(tmp_path, PARTS | {"model": "b"}).get("k") is None
    assert ResponseLog(None, PARTS).get("k") is None


def test_all_that_is_asked_is_in_the_key():
    key = question_key(TURNS, ["sha"], {"max_new_tokens": 4})
    others = [
        question_key([Turn("user", "<image>\nIs it not?")], ["sha"], {"max_new_tokens": 4}),
        question_key([Turn("system", "<image>\nIs it?")], ["sha"], {"max_new_tokens": 4}),
        question_key(TURNS, ["another"], {"max_new_tokens": 4}),
        question_key(TURNS, [BLANK], {"max_new_tokens": 4}),
        question_key(TURNS, ["sha", "sha"], {"max_new_tokens": 4}),
        question_key(TURNS, ["sha"], {"max_new_tokens": 5}),
        question_key(TURNS, ["sha"], {"answers": ["A", "B"]}),
        question_key(TURNS, ["sha"], {"answers": ["B", "A"]}),
    ]
    assert len({key, *others}) == 1 + len(others)
    assert key == question_key(list(TURNS), ("sha",), {"max_new_tokens": 4})


@pytest.mark.parametrize("kept_bytes", [-1, -20, -150])
def test_a_torn_row_was_never_written(tmp_path, kept_bytes):
    """-1 takes away the line's end, -150 all but the beginning of the last line."""
    log = ResponseLog(tmp_path, PARTS)
    log.add({"k1": row("a")})
    log.add({"k2": row("b" * 100)})
    log.path.write_bytes(log.path.read_bytes()[:kept_bytes])
    torn = ResponseLog(tmp_path, PARTS)
    assert (torn.get("k1"), torn.get("k2")) == (row("a"), None)
    torn.add({"k2": row("b"), "k3": row("c")})
    assert {key: ResponseLog(tmp_path, PARTS).get(key) for key in ("k1", "k2", "k3")} == {
        "k1": row("a"),
        "k2": row("b"),
        "k3": row("c"),
    }


def test_an_altered_row_was_never_written(tmp_path):
    log = ResponseLog(tmp_path, PARTS)
    log.add({"k1": row("yes"), "k2": row("no")})
    log.path.write_bytes(log.path.read_bytes().replace(b'"yes"', b'"yet"') + b'["no row"]\n{"key": 1}\nnull\n')
    assert [ResponseLog(tmp_path, PARTS).get(key) for key in ("k1", "k2")] == [None, row("no")]


def test_others_rows_are_read_and_a_cleared_file_begins_again(tmp_path):
    first, second = ResponseLog(tmp_path, PARTS), ResponseLog(tmp_path, PARTS)
    first.add({"k1": row("a")})
    assert second.get("k1") is None
    second.refresh()
    assert second.get("k1") == row("a")
    first.path.unlink()
    second.add({"k2": row("b")})
    first.refresh()
    assert first.get("k2") == row("b")
    assert len(ResponseLog(tmp_path, PARTS)) == 1


def test_processes_add_at_a_time_and_lose_nothing(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom medvlp.eval.store.responses import ResponseLog\n"
        "log = ResponseLog(Path(sys.argv[1]), {'model': 'a'})\n"
        "for n in range(60): log.add({f'{sys.argv[2]}-{n}': {'text': 'x' * 3000}})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(ResponseLog(tmp_path, {"model": "a"})) == 180


def test_a_key_has_one_holder_until_it_ends(tmp_path):
    path, key, other = tmp_path / "x.lock", digest_of("one"), digest_of("two")
    mine, theirs = KeyLocks(path), KeyLocks(path)
    assert mine.take(key)
    assert not theirs.take(key)
    assert theirs.take(other)
    mine.release(key)
    assert theirs.take(key)
    del theirs
    assert mine.take(key)
    assert KeyLocks(None).take(key)


def test_a_killed_holder_lets_go(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom medvlp.eval.store.responses import KeyLocks\n"
        "locks = KeyLocks(Path(sys.argv[1])); print(locks.take(sys.argv[2]), flush=True); time.sleep(60)"
    )
    key = digest_of("one")
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x.lock"), key], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"True\n"
    locks = KeyLocks(tmp_path / "x.lock")
    assert not locks.take(key)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert locks.take(key)


def test_a_row_is_on_the_disk_before_add_returns(tmp_path, monkeypatch):
    synced: list[bytes] = []
    fsync = os.fsync

    def recording(file: int) -> None:
        synced.append(Path(f"/proc/self/fd/{file}").read_bytes() if Path(f"/proc/self/fd/{file}").is_file() else b"")
        fsync(file)

    monkeypatch.setattr(os, "fsync", recording)
    ResponseLog(tmp_path, PARTS).add({"k": row("paid")})
    assert any(b'"paid"' in content for content in synced)


def test_answers_of_models_here_are_evicted_the_oldest_first_and_a_servers_never(tmp_path):
    server = ResponseLog(tmp_path, PARTS)
    server.add({"k": row("x" * 900)})
    logs = [ResponseLog(tmp_path, {"model": number}, LOCAL) for number in range(4)]
    for age, log in enumerate(logs):
        log.add({"k": row("x" * 900)})
        os.utime(log.path, (1000 - age, 1000 - age))
    logs[3].touch()
    assert evict(tmp_path, 10_000) == []
    assert evict(tmp_path, 2500) == [logs[2].path, logs[1].path]
    assert [log.path.exists() for log in (server, *logs)] == [True, True, False, False, True]
    logs[1].add({"k2": row("b")})
    assert ResponseLog(tmp_path, {"model": 1}, LOCAL).get("k2") == row("b")


def test_where_the_disk_refuses_answers_of_here_stay_in_memory_and_servers_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Appender, "append", full)
    log = ResponseLog(tmp_path, PARTS, LOCAL)
    for key in ("k1", "k2"):
        log.add({key: row(key)})
        log.refresh()
        assert log.get(key) == row(key)
    (note,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in note
    assert note.endswith("the evaluation goes on, and this model's answers are not kept")
    server = ResponseLog(tmp_path, PARTS)
    with pytest.raises(ShardError, match="No space left on device"):
        server.add({"k": row("paid")})


def test_a_folder_that_cannot_be_one_is_said_of_answers_of_here_too(tmp_path, capsys):
    (tmp_path / "responses").touch()
    log = ResponseLog(tmp_path, PARTS, LOCAL)
    log.add({"k": row("a")})
    assert log.get("k") == row("a")
    (note,) = capsys.readouterr().err.splitlines()
    assert "cannot be read" in note
    with pytest.raises(ShardError, match="cannot be read"):
        ResponseLog(tmp_path, PARTS)
    assert KeyLocks(tmp_path / "responses/x.lock").take(digest_of("one"))


def full(appender, *rows):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
