import os
import pickle

import pytest
import torch

from medvlp.jsonl import Appender, read_rows
from medvlp.training.checkpoints import CheckpointError, WholeCheckpoints, load_checkpoint, newest
from medvlp.training.files import Status, drop_rows_after

CONTENT = {"state_dict": {"a": torch.ones(3)}, "global_step": 4, "medvlp": {"format": 1}}


def test_a_checkpoint_is_whole_or_absent(tmp_path, monkeypatch):
    path = tmp_path / "checkpoints/step-000004.ckpt"
    WholeCheckpoints().save_checkpoint(CONTENT, path)
    before = path.read_bytes()

    def fails_half_way(content, file):
        file.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", fails_half_way)
    with pytest.raises(CheckpointError, match=r"could not save .*step-000004.ckpt.* MiB are free there"):
        WholeCheckpoints().save_checkpoint(CONTENT, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_newest_whole_checkpoint_is_found_by_step_not_by_name(tmp_path, capsys):
    assert newest(tmp_path) is None
    for step in (999999, 1000000):
        WholeCheckpoints().save_checkpoint(CONTENT, tmp_path / f"step-{step:06d}.ckpt")
    assert newest(tmp_path).name == "step-1000000.ckpt"
    whole = (tmp_path / "step-1000000.ckpt").read_bytes()
    (tmp_path / "step-1000000.ckpt").write_bytes(whole[: len(whole) // 2])
    assert newest(tmp_path).name == "step-999999.ckpt"
    assert "passed over: checkpoint" in capsys.readouterr().out


class Harm:
    def __reduce__(self):
        return (os.abort, ())


def test_nothing_is_unpickled_and_other_files_are_refused(tmp_path):
    torch.save({"medvlp": Harm()}, tmp_path / "harm.ckpt")
    (tmp_path / "pickle.ckpt").write_bytes(pickle.dumps(Harm()))
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    for name, said in (
        ("harm", "cannot be read"),
        ("pickle", "cannot be read"),
        ("foreign", "was not written by medvlp"),
    ):
        with pytest.raises(CheckpointError, match=said):
            load_checkpoint(tmp_path / f"{name}.ckpt")
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "absent.ckpt")


def test_rows_after_the_checkpoint_and_a_cut_line_are_dropped_of_every_file(tmp_path):
    paths = [tmp_path / "metrics.jsonl", tmp_path / "generations.jsonl"]
    for path in paths:
        Appender(path).append(*({"step": step, "text": "ü"} for step in range(1, 6)), {"text": "of no step"})
        with path.open("a") as file:
            file.write('{"step": 2, "te')
    (tmp_path / "whole.jsonl").write_text('{"step": 3}')
    drop_rows_after(tmp_path, 3)
    for path in paths:
        kept = [{"step": s, "text": "ü"} for s in (1, 2, 3)] + [{"text": "of no step"}]
        assert list(read_rows(path)) == kept
        Appender(path).append({"step": 4, "text": "again"})
        assert list(read_rows(path)) == [*kept, {"step": 4, "text": "again"}]
    assert (tmp_path / "whole.jsonl").read_text() == '{"step": 3}'


def test_a_failures_first_reason_stays(tmp_path):
    status = Status(tmp_path)
    status.write("running", 3)
    status.write("failed", 3, "the disk is full")
    status.write("failed", 3, "connection closed by peer")
    assert status.read() == {"state": "failed", "step": 3, "reason": "the disk is full"}
    status.write("running", 0)
    assert status.read()["state"] == "running"
