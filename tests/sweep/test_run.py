"""Sweeps in one process: cells, their reuse, and their failures."""

import json
import shutil

import pytest

from medvlp.eval.retrieval import Retrieval
from medvlp.evaluate import main as evaluate
from medvlp.sweep.measure import Measurement
from tests.runs import rows
from tests.sweep.world import ASSISTANT, CLIPS, another, words


@pytest.fixture
def measured(monkeypatch):
    """(model, task) of every cell that is measured from now on."""
    cells: list[tuple[str, str]] = []
    measure = Measurement._measure

    def noting(self, cell, model):
        cells.append(cell.key[:2])
        return measure(self, cell, model)

    monkeypatch.setattr(Measurement, "_measure", noting)
    return cells


def test_clips_and_an_assistant_in_one_command(here, capsys, measured):
    sweep = words("all", [*CLIPS, ASSISTANT], ["kind", "captions", "questions"])
    assert evaluate(sweep) == 0
    said = capsys.readouterr().out
    assert f"questions does not apply to {', '.join(CLIPS)}\n" in said
    assert f"kind does not apply to {ASSISTANT}\n" in said
    fit = [(clip, task) for clip in CLIPS for task in ("kind", "captions")] + [(ASSISTANT, "questions")]
    results = rows(here / "all/results.jsonl")
    assert list(dict.fromkeys((row["checkpoint"], row["task"]) for row in results)) == fit == measured
    accuracy = next(row for row in results if row["metric"] == "acc1")
    line = (
        f"acc1 {accuracy['value']:.3f} [{accuracy['ci_low']:.3f}, {accuracy['ci_high']:.3f}] of 24  [1/5 cells, 0:00:"
    )
    assert line in said
    assert "[5/5 cells]" in said
    assert len(list((here / "all/cells").iterdir())) == 5
    assert not (here / "all/failures.jsonl").exists()
    before = (here / "all/results.jsonl").read_bytes()
    measured.clear()
    assert evaluate(sweep) == 0
    assert measured == []
    assert "5 of 5 cells were finished before" in capsys.readouterr().out
    assert (here / "all/results.jsonl").read_bytes() == before


def test_what_fits_nothing_is_refused(here, capsys):
    assert evaluate(words("unfit", [*CLIPS, ASSISTANT], ["kind"])) == 1
    assert f"task kind (kind: zero_shot) cannot measure {ASSISTANT}, which is an assistant" in capsys.readouterr().err
    assert evaluate(words("unfit", CLIPS, ["kind", "questions"])) == 1
    said = capsys.readouterr().err
    assert (
        "task questions (kind: vqa) cannot measure a.ckpt, which is a CLIP model (nor any other of the models)" in said
    )
    assert not (here / "unfit").exists()


def test_an_equal_model_is_measured_once_and_an_overwritten_one_again(here, capsys, measured):
    shutil.copy("a.ckpt", "copy.ckpt")
    assert evaluate(words("equal", ["a.ckpt", "copy.ckpt"], ["kind"])) == 0
    assert measured == [("a.ckpt", "kind")]
    assert "copy.ckpt: kind\n  the same as a.ckpt: acc1" in capsys.readouterr().out
    results = rows(here / "equal/results.jsonl")
    of_a, of_copy = ([row for row in results if row["checkpoint"] == name] for name in ("a.ckpt", "copy.ckpt"))
    assert [row | {"checkpoint": "copy.ckpt"} for row in of_a] == of_copy
    assert evaluate(words("equal", ["copy.ckpt"], ["kind"])) == 0
    assert "copy.ckpt is the same model as a.ckpt: its finished cells are used" in capsys.readouterr().out
    assert measured == [("a.ckpt", "kind")]
    another(here / "a.ckpt", here / "copy.ckpt", 7)
    assert evaluate(words("equal", ["copy.ckpt"], ["kind"])) == 0
    assert measured == [("a.ckpt", "kind"), ("copy.ckpt", "kind")]
    results = rows(here / "equal/results.jsonl")
    assert [row for row in results if row["checkpoint"] == "a.ckpt"] == of_a  # another command's rows stay
    weights = {row["checkpoint"]: row["protocol"]["weights"] for row in results}
    assert weights["copy.ckpt"] != weights["a.ckpt"]
    assert evaluate(words("equal", ["copy.ckpt"], ["kind"], "seed=1")) == 0
    assert len(measured) == 3  # other intervals
    assert evaluate(words("equal", ["copy.ckpt"], ["kind"], "seed=1", "batch_size=4", "workers=1")) == 0
    assert len(measured) == 3


def test_a_cell_that_is_not_as_it_was_written_is_measured_again(here, measured):
    sweep = words("torn", ["a.ckpt"], ["kind", "captions"])
    assert evaluate(sweep) == 0
    before = (here / "torn/results.jsonl").read_bytes()
    records = next((here / "torn/samples").glob("kind--*"))
    records.write_bytes(records.read_bytes()[:-9] + b"0" + records.read_bytes()[-8:])
    cell = next(path for path in (here / "torn/cells").iterdir() if json.loads(path.read_text())["task"] == "captions")
    cell.write_bytes(cell.read_bytes()[:100])
    measured.clear()
    assert evaluate(sweep) == 0
    assert measured == [("a.ckpt", "kind"), ("a.ckpt", "captions")]
    assert (here / "torn/results.jsonl").read_bytes() == before


def test_cells_that_fail_stop_no_other(here, capsys, monkeypatch):
    content = bytearray((here / "a.ckpt").read_bytes())
    content[len(content) // 2] ^= 255
    (here / "bad.ckpt").write_bytes(content)
    (here / "configs/task/absent.yaml").write_text("name: absent\nkind: retrieval\ndata: nowhere\n")
    sweep = words("failed", ["bad.ckpt", *CLIPS], ["absent", "captions", "kind"])
    assert evaluate(sweep) == 1
    said = capsys.readouterr()
    assert "medvlp eval: 5 of 9 cells failed:\n  bad.ckpt · absent · test: checkpoint bad.ckpt is damaged" in said.err
    assert "Traceback" not in said.err
    failures = rows(here / "failed/failures.jsonl")
    assert [(row["checkpoint"], row["task"], row["split"]) for row in failures] == [
        *(("bad.ckpt", task, "test") for task in ("absent", "captions", "kind")),
        *((clip, "absent", "test") for clip in CLIPS),
    ]
    assert "medvlp prep" in failures[-1]["reason"]
    results = (here / "failed/results.jsonl").read_bytes()
    pairs = dict.fromkeys((row["checkpoint"], row["task"]) for row in rows(here / "failed/results.jsonl"))
    assert list(pairs) == [(clip, task) for clip in CLIPS for task in ("captions", "kind")]

    def faulty(self, model):
        raise ValueError("planted")

    monkeypatch.setattr(Retrieval, "run", faulty)
    sweep = words("faulty", CLIPS, ["captions", "kind"])
    assert evaluate(sweep) == 70
    said = capsys.readouterr().err
    assert said.count("Traceback (most recent call last)") == 2
    assert "a.ckpt · captions · test: ValueError: planted" in said
    assert {row["task"] for row in rows(here / "faulty/results.jsonl")} == {"kind"}
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert evaluate(sweep) == 0
    assert not (here / "faulty/failures.jsonl").exists()
    same_cells = {(row["checkpoint"], row["metric"]): row["value"] for row in rows(here / "faulty/results.jsonl")}
    assert same_cells == {
        (row["checkpoint"], row["metric"]): row["value"] for row in map(json.loads, results.splitlines())
    }


def test_a_model_that_cannot_be_opened_fails_in_all_its_cells(here, capsys, monkeypatch):
    from medvlp.sweep import measure

    opened = measure.open_model
    monkeypatch.setattr(
        measure, "open_model", lambda name, *rest: opened(name, *rest) if name.text == "b.ckpt" else 1 / 0
    )
    assert evaluate(words("unopened", CLIPS, ["kind", "captions"])) == 70
    said = capsys.readouterr()
    assert "failed: kind, captions  [0/4 cells, 2 failed" in said.out
    assert said.err.count("Traceback (most recent call last)") == 1
    assert {row["checkpoint"] for row in rows(here / "unopened/results.jsonl")} == {"b.ckpt"}
