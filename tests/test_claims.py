"""A folder is one living process's at a time, and one kind of command's for ever."""

import errno
import fcntl
import os
import signal
import time

import pytest

from medvlp.claims import LOCK, ClaimError, claim, kind_of, refuse_other_kinds


def holder(folder, then: str) -> tuple[int, int]:
    """A process that claims a folder, and its child if it has one. then: "hold", or "fork" a child that outlives it."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        with claim(folder, "train"):
            if then == "hold" or os.fork() == 0:
                os.write(tell, str(os.getpid()).encode())
            time.sleep(1000)
    return pid, int(os.read(told, 20))


def refuse(folder, why: str, verb: str, is_shared: bool = False) -> None:
    """A claim has to fail."""
    with pytest.raises(ClaimError, match=why), claim(folder, verb, is_shared=is_shared):
        pass


def test_a_living_process_is_named(tmp_path):
    pid, _ = holder(tmp_path / "run", "hold")
    refuse(tmp_path / "run", rf"run is in use by medvlp train, process {pid} on .*; wait for it", "train")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with claim(tmp_path / "run", "train"):
        pass


def test_a_dead_process_holds_nothing_though_its_child_lives(tmp_path):
    pid, child = holder(tmp_path / "run", "fork")
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with claim(tmp_path / "run", "train"):
            os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


def test_what_was_made_and_stayed_empty_goes_again(tmp_path):
    with claim(tmp_path / "run", "train"):
        assert (tmp_path / "run" / LOCK).exists()
    assert not (tmp_path / "run").exists()
    with claim(tmp_path / "runs/deep/run", "train"):
        pass
    assert not (tmp_path / "runs").exists()
    (tmp_path / "there").mkdir()
    with claim(tmp_path / "there", "train"):
        pass
    assert list((tmp_path / "there").iterdir()) == []
    with claim(tmp_path / "run", "train"):
        (tmp_path / "run/config.yaml").write_text("verb: train\n")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yaml"]


def test_a_lock_that_is_something_else_is_neither_written_to_nor_waited_for(tmp_path):
    """A folder from elsewhere may have a link to one's own file in its place."""
    target = tmp_path / "own.txt"
    target.write_text("not to be lost")
    folder = tmp_path / "run"
    folder.mkdir()
    for plant in (lambda path: path.symlink_to(target), lambda path: path.hardlink_to(target), os.mkfifo, os.mkdir):
        plant(folder / LOCK)
        refuse(folder, r"\.lock is .*, expected a file of ours: delete it", "train")
        (folder / LOCK).rmdir() if (folder / LOCK).is_dir() else (folder / LOCK).unlink()
    assert target.read_text() == "not to be lost"


@pytest.mark.parametrize("text", ["[" * 5000, "verb: [train]", "- verb", "verb: !!python/name:os.system"])
def test_a_configuration_of_nobody_is_no_kind(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    assert kind_of(tmp_path) == ""


def test_several_share_and_one_alone_does_not_join_them(tmp_path):
    with claim(tmp_path / "out", "prep", is_shared=True), claim(tmp_path / "out", "prep", is_shared=True):
        refuse(tmp_path / "out", "in use", "prep")
    with claim(tmp_path / "out", "prep"):
        refuse(tmp_path / "out", "in use", "prep", is_shared=True)


@pytest.mark.parametrize(
    ("mark", "kind", "told"),
    [
        ("metrics.jsonl", "train", "a training run"),
        ("checkpoints/", "train", "a training run"),
        ("results.jsonl", "eval", "an evaluation"),
        (".plan.json", "prep", "prepared data"),
        ("manifest.json", "prep", "prepared data"),
        ("open_clip_config.json", "export", "an exported model"),
        ("findings.jsonl", "check", "the findings of a check"),
    ],
)
def test_each_kind_is_known_and_refused_to_the_others(tmp_path, mark, kind, told):
    (tmp_path / mark).mkdir() if mark.endswith("/") else (tmp_path / mark).write_text("{}")
    (tmp_path / "config.yaml").write_text("verb: other\n")
    assert kind_of(tmp_path) == kind
    for verb in ("train", "eval", "prep", "check"):
        if verb == kind:
            refuse_other_kinds(tmp_path, verb, "output")
            continue
        with pytest.raises(
            ClaimError, match=f"{tmp_path} holds {told}; medvlp {verb} does not write into it: give another output"
        ):
            refuse_other_kinds(tmp_path, verb, "output")


def test_a_configuration_alone_says_whose_a_folder_is(tmp_path):
    (tmp_path / "config.yaml").write_text("verb: eval\ntasks: []\n")
    assert kind_of(tmp_path) == "eval"
    (tmp_path / "config.yaml").write_text("")
    assert kind_of(tmp_path) == ""
    assert kind_of(tmp_path / "absent") == ""


def test_where_nothing_can_be_locked_it_is_said(tmp_path, monkeypatch, capsys):
    def no_locks(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with claim(tmp_path / "run", "train"):
        assert "cannot be locked: nothing keeps a second train out of it" in capsys.readouterr().err
