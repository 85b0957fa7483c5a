import os
import pickle
import zipfile

import pytest
import torch

from medvlp.jsonl import Appender, read_rows
from medvlp.models.weights import weights_hash
from medvlp.training.checkpoints import (
    CheckpointError,
    check_resumable,
    load_checkpoint,
    newest,
    save_checkpoint,
)
from medvlp.training.run_folder import Status, drop_rows_after
from tests.training.saved import content, save


def test_a_checkpoint_is_whole_or_absent(tmp_path, monkeypatch):
    path = tmp_path / "checkpoints/step-000004.ckpt"
    save_checkpoint(content(4), path)
    before = path.read_bytes()

    def fails_half_way(content, file):
        file.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", fails_half_way)
    with pytest.raises(CheckpointError, match=r"could not save .*step-000004.ckpt.* MiB are free there"):
        save_checkpoint(content(4), path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_newest_whole_checkpoint_is_found_by_step_not_by_name(tmp_path, capsys):
    assert newest(tmp_path) is None
    for step in (999999, 1000000):
        save(tmp_path / f"step-{step:06d}.ckpt", step)
    assert newest(tmp_path).name == "step-1000000.ckpt"
    whole = (tmp_path / "step-1000000.ckpt").read_bytes()
    (tmp_path / "step-1000000.ckpt").write_bytes(whole[: len(whole) // 2])
    assert newest(tmp_path).name == "step-999999.ckpt"
    assert "skipped: checkpoint" in capsys.readouterr().out


def test_last_and_best_are_checkpoints_too(tmp_path):
    save(tmp_path / "best.ckpt", 3)
    assert newest(tmp_path).name == "best.ckpt"
    save(tmp_path / "last.ckpt", 6)
    assert newest(tmp_path).name == "last.ckpt"
    save(tmp_path / "step-000006.ckpt", 6)
    assert newest(tmp_path).name == "step-000006.ckpt"
    (tmp_path / "step-000006.ckpt").rename(tmp_path / "step-000004.ckpt")
    save(tmp_path / "step-000004.ckpt", 4)
    assert newest(tmp_path).name == "last.ckpt"


def test_checkpoints_without_numbers_are_passed_over(tmp_path, capsys):
    save(tmp_path / "step-000003.ckpt", 3)
    save(tmp_path / "step-000006.ckpt", 6, value=float("nan"))
    save(tmp_path / "last.ckpt", 6, value=float("nan"))
    assert newest(tmp_path).name == "step-000003.ckpt"
    assert "step-000006.ckpt: a is not a number (NaN), so the run had diverged before it" in capsys.readouterr().out


def test_where_no_checkpoint_is_whole_nothing_starts_afresh_over_them(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"half")
    save(tmp_path / "step-000006.ckpt", 6, value=float("nan"))
    with pytest.raises(
        CheckpointError, match=r"no run can go on from the 2 checkpoints in .*step-000006.*NaN.*Restore"
    ):
        newest(tmp_path)


def test_every_bit_of_a_checkpoint_is_watched(tmp_path):
    whole = tmp_path / "whole.ckpt"
    save(whole, 4)
    data, expected = whole.read_bytes(), load_checkpoint(whole)
    used = used_bytes(whole)
    for number, at in enumerate(range(0, len(data), 41)):
        path = tmp_path / f"{number}.ckpt"
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << number % 8]) + data[at + 1 :])
        try:
            assert str(load_checkpoint(path)) == str(expected), at
        except CheckpointError:
            continue
        assert at not in used, at  # nobody reads it: padding, dates


def used_bytes(path) -> set[int]:
    """Where the members' data are."""
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        names = set()
        for member in archive.infolist():
            file.seek(member.header_offset + 26)
            name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
            start = member.header_offset + 30 + name + extra
            names |= set(range(start, start + member.file_size))
        return names


@pytest.mark.parametrize("part", ["state_dict", "weights_sha256"])
def test_an_edited_checkpoint_is_refused_by_its_hash(tmp_path, part):
    other = content(4, value=2.0)
    edited = content(4)
    if part == "state_dict":
        edited[part] = other[part]
    else:
        edited["medvlp"][part] = other["medvlp"][part]
    torch.save(edited, tmp_path / "a.ckpt")
    computed = weights_hash(edited["state_dict"])[:12]
    with pytest.raises(CheckpointError, match=f"its weights are not those that it was saved with .sha256 {computed}"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_a_file_that_changes_after_it_was_found_sound_is_looked_at_again(tmp_path):
    path = tmp_path / "a.ckpt"
    save(path, 4)
    load_checkpoint(path)
    data = bytearray(path.read_bytes())
    data[min(used_bytes(path)) + 40] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("state_dict"), "state_dict should be tensors by name"),
        (lambda c: c["state_dict"].update(a="text"), "state_dict should be tensors by name"),
        (lambda c: c.update(medvlp=[]), "medvlp should be a dict, it is a list"),
        (lambda c: c["medvlp"].update(format=99), "medvlp.format is 99, this medvlp reads 1"),
        (lambda c: c["medvlp"].pop("weights_sha256"), "weights_sha256 should be a string"),
        (lambda c: c["medvlp"].update(config="x"), "medvlp.config.model.kind should be a string"),
        (lambda c: c["medvlp"]["config"].update(model={"kind": ["clip"]}), "model.kind should be a string"),
        (lambda c: c["medvlp"].update(assistant=None), "medvlp.assistant and its lora should be dicts"),
        (lambda c: c["medvlp"].update(assistant={"lora": []}), "medvlp.assistant and its lora should be dicts"),
        (lambda c: c.update(global_step="4"), "global_step should be a number of steps"),
    ],
)
def test_a_malformed_checkpoint_is_named(tmp_path, change, said):
    made = content(4)
    change(made)
    torch.save(made, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"a\.ckpt is not as medvlp train writes it") as error:
        load_checkpoint(tmp_path / "a.ckpt")
    assert said in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("loops"),
        lambda c: c["loops"]["fit_loop"].clear(),
        lambda c: c.update(optimizer_states=[]),
        lambda c: c.update(optimizer_states=[{"state": {}}]),
        lambda c: c.pop("lr_schedulers"),
    ],
)
def test_weights_without_a_run_are_no_resume(tmp_path, change):
    made = content(4)
    change(made)
    torch.save(made, tmp_path / "a.ckpt")
    assert load_checkpoint(tmp_path / "a.ckpt")["global_step"] == 4
    with pytest.raises(CheckpointError, match=r"holds no run to go on with .* start a new run with init_from="):
        check_resumable(tmp_path / "a.ckpt")


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
        early_rows = [{"step": s, "text": "ü"} for s in (1, 2, 3)] + [{"text": "of no step"}]
        assert list(read_rows(path)) == early_rows
        Appender(path).append({"step": 4, "text": "again"})
        assert list(read_rows(path)) == [*early_rows, {"step": 4, "text": "again"}]
    assert (tmp_path / "whole.jsonl").read_text() == '{"step": 3}'


def test_a_failures_first_reason_stays(tmp_path):
    status = Status(tmp_path)
    status.write("running", 3)
    status.write("failed", 3, "the disk is full")
    status.write("failed", 3, "connection closed by peer")
    assert status.read() == {"state": "failed", "step": 3, "reason": "the disk is full"}
    status.write("running", 0)
    assert status.read()["state"] == "running"
