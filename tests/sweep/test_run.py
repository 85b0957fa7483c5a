"""Sweeps in one process: cells, their reuse, and their failures."""

import json
import os
import shutil
from itertools import permutations

import pytest

from medvlp.eval.retrieval.image_text import Retrieval
from medvlp.evaluate import main as evaluate
from medvlp.sweep import run
from medvlp.sweep.cells import CellFolder
from medvlp.sweep.measure import Measurement
from medvlp.sweep.plan import Cell
from tests.runs import rows
from tests.sweep.world import ASSISTANT, CLIPS, another, words


@pytest.fixture
def measured(monkeypatch):
    """(model, task) of every cell that is measured from now on."""
    cells: list[tuple[str, str]] = []
    run_cell = Measurement._run_cell

    def noting(self, cell, progress, measure):
        cells.append(cell.key[:2])
        return run_cell(self, cell, progress, measure)

    monkeypatch.setattr(Measurement, "_run_cell", noting)
    return cells


def test_clips_and_an_assistant_in_one_command(sweep_folder, capsys, measured):
    sweep = words("all", [*CLIPS, ASSISTANT], ["kind", "captions", "questions"])
    assert evaluate(sweep) == 0
    said = capsys.readouterr().out
    assert f"questions does not apply to {', '.join(CLIPS)}\n" in said
    assert f"kind does not apply to {ASSISTANT}\n" in said
    fit = [(clip, task) for clip in CLIPS for task in ("kind", "captions")] + [(ASSISTANT, "questions")]
    results = rows(sweep_folder / "all/results.jsonl")
    assert list(dict.fromkeys((row["checkpoint"], row["task"]) for row in results)) == fit == measured
    accuracy = next(row for row in results if row["metric"] == "acc1")
    line = (
        f"acc1 {accuracy['value']:.3f} [{accuracy['ci_low']:.3f}, {accuracy['ci_high']:.3f}] of 24  [1/5 cells, 0:00:"
    )
    assert line in said
    assert "[5/5 cells]" in said
    assert len(list((sweep_folder / "all/cells").iterdir())) == 5
    assert not (sweep_folder / "all/failures.jsonl").exists()
    before = (sweep_folder / "all/results.jsonl").read_bytes()
    measured.clear()
    assert evaluate(sweep) == 0
    assert measured == []
    assert "5 of 5 cells were finished before" in capsys.readouterr().out
    assert (sweep_folder / "all/results.jsonl").read_bytes() == before


def test_what_fits_nothing_is_refused(sweep_folder, capsys):
    assert evaluate(words("unfit", [*CLIPS, ASSISTANT], ["kind"])) == 1
    assert f"task kind (kind: zero_shot) cannot measure {ASSISTANT}, which is an assistant" in capsys.readouterr().err
    assert evaluate(words("unfit", CLIPS, ["kind", "questions"])) == 1
    said = capsys.readouterr().err
    assert (
        "task questions (kind: vqa) cannot measure a.ckpt, which is a CLIP model (nor any other of the models)" in said
    )
    assert evaluate(words("unfit", CLIPS, ["made", "questions"], "dry_run=true")) == 1
    assert evaluate(words("unfit", [*CLIPS, ASSISTANT], ["nobody"])) == 1
    assert "unknown task 'nobody'" in capsys.readouterr().err
    assert not (sweep_folder / "unfit").exists()


def test_of_a_group_the_tasks_run_that_fit(sweep_folder, capsys):
    assert evaluate(words("grouped", ["a.ckpt"], ["made"], "dry_run=true")) == 0
    assert "questions does not apply to a.ckpt\n" in capsys.readouterr().out


def test_an_equal_model_is_measured_once_and_an_overwritten_one_again(sweep_folder, capsys, measured):
    shutil.copy("a.ckpt", "copy.ckpt")
    assert evaluate(words("equal", ["a.ckpt", "copy.ckpt"], ["kind"])) == 0
    assert measured == [("a.ckpt", "kind")]
    assert "copy.ckpt: kind\n  the same as a.ckpt: acc1" in capsys.readouterr().out
    results = rows(sweep_folder / "equal/results.jsonl")
    of_a, of_copy = ([row for row in results if row["checkpoint"] == name] for name in ("a.ckpt", "copy.ckpt"))
    assert [row | {"checkpoint": "copy.ckpt"} for row in of_a] == of_copy
    assert evaluate(words("equal", ["copy.ckpt"], ["kind"])) == 0
    assert "copy.ckpt is the same model as a.ckpt: its finished cells are used" in capsys.readouterr().out
    assert measured == [("a.ckpt", "kind")]
    another(sweep_folder / "a.ckpt", sweep_folder / "copy.ckpt", 7)
    assert evaluate(words("equal", ["copy.ckpt"], ["kind"])) == 0
    assert measured == [("a.ckpt", "kind"), ("copy.ckpt", "kind")]
    results = rows(sweep_folder / "equal/results.jsonl")
    assert [row for row in results if row["checkpoint"] == "a.ckpt"] == of_a  # another command's rows stay
    weights = {row["checkpoint"]: row["protocol"]["weights"] for row in results}
    assert weights["copy.ckpt"] != weights["a.ckpt"]
    assert evaluate(words("equal", ["copy.ckpt"], ["kind"], "seed=1")) == 0
    assert len(measured) == 3  # other intervals
    assert evaluate(words("equal", ["copy.ckpt"], ["kind"], "seed=1", "batch_size=4", "workers=1")) == 0
    assert len(measured) == 3


def test_a_cell_that_is_not_as_it_was_written_is_measured_again(sweep_folder, measured):
    sweep = words("torn", ["a.ckpt"], ["kind", "captions"])
    assert evaluate(sweep) == 0
    before = (sweep_folder / "torn/results.jsonl").read_bytes()
    records = next((sweep_folder / "torn/samples").glob("kind--*"))
    records.write_bytes(records.read_bytes()[:-9] + b"0" + records.read_bytes()[-8:])
    cell = next(
        path for path in (sweep_folder / "torn/cells").iterdir() if json.loads(path.read_text())["task"] == "captions"
    )
    cell.write_bytes(cell.read_bytes()[:100])
    measured.clear()
    assert evaluate(sweep) == 0
    assert measured == [("a.ckpt", "kind"), ("a.ckpt", "captions")]
    assert (sweep_folder / "torn/results.jsonl").read_bytes() == before


CHANGES = {
    "no metrics": lambda content: content.pop("metrics"),
    "a list": lambda content: content.update(protocol=[1]),
    "a text for a number": lambda content: content["metrics"][0].update(value="<b>"),
    "no subgroups": lambda content: content.update(subgroups=None),
    "records outside": lambda content: (content.update(files={}), content["protocol"].update(records="../x.jsonl")),
}


def test_a_cell_of_another_shape_is_measured_again_and_names_nobody_else(sweep_folder, measured):
    sweep = words("shapes", ["a.ckpt"], ["kind"])
    assert evaluate(sweep) == 0
    before = (sweep_folder / "shapes/results.jsonl").read_bytes()
    (path,) = (sweep_folder / "shapes/cells").glob("*.json")
    folder = CellFolder(sweep_folder / "shapes")
    cell = path.read_text()
    assert folder.read(path.stem) == json.loads(cell)
    for change in CHANGES.values():
        content = json.loads(cell)
        change(content)
        path.write_text(json.dumps(content))
        assert folder.read(path.stem) is None
    measured.clear()
    assert evaluate(sweep) == 0
    assert measured == [("a.ckpt", "kind")]
    content = json.loads(cell)
    content["metrics"][0] |= {"checkpoint": "another", "task": "another"}
    path.write_text(json.dumps(content))
    assert evaluate(sweep) == 0
    assert measured == [("a.ckpt", "kind")]
    assert (sweep_folder / "shapes/results.jsonl").read_bytes() == before


def test_a_row_that_is_no_result_is_named_before_anything_is_measured(sweep_folder, measured, capsys):
    (sweep_folder / "rows").mkdir()
    row = {"checkpoint": ["x"], "task": "kind", "metric": "acc1", "protocol": {"split": "test"}}
    (sweep_folder / "rows/results.jsonl").write_text(json.dumps(row) + "\n")
    (sweep_folder / "rows/config.yaml").write_text("verb: eval\n")
    assert evaluate(words("rows", ["a.ckpt"], ["kind"])) == 1
    assert "rows/results.jsonl has a row that is not a result" in capsys.readouterr().err
    assert measured == []


def test_two_tasks_of_one_name_are_refused(sweep_folder, capsys):
    task = sweep_folder / "configs/task/kind.yaml"
    (sweep_folder / "configs/task/kind2.yaml").write_text(task.read_text().replace("a finding", "an image"))
    assert evaluate(words("named", ["a.ckpt"], ["kind", "kind2"])) == 1
    assert "two of the tasks have name: kind and split test" in capsys.readouterr().err


def test_nothing_is_left_of_results_that_have_given_way(sweep_folder, monkeypatch):
    from medvlp.sweep import measure

    assert evaluate(words("stale", CLIPS, ["kind"])) == 0
    made = ["comparisons.jsonl", "leaderboard.md", "results.csv"]
    assert all((sweep_folder / "stale" / name).is_file() for name in made)
    number = f"{rows(sweep_folder / 'stale/results.jsonl')[0]['value']:.3f}"
    assert number in (sweep_folder / "stale/report.html").read_text()
    monkeypatch.setattr(measure, "open_model", lambda *arguments: 1 / 0)
    assert evaluate(words("stale", CLIPS, ["kind"], "seed=7")) == 70
    assert rows(sweep_folder / "stale/results.jsonl") == []
    assert not (sweep_folder / "stale/comparisons.jsonl").exists()
    report = (sweep_folder / "stale/report.html").read_text()
    assert number not in report
    assert "ZeroDivisionError" in report


def test_cells_that_fail_stop_no_other(sweep_folder, capsys, monkeypatch):
    content = bytearray((sweep_folder / "a.ckpt").read_bytes())
    content[len(content) // 2] ^= 255
    (sweep_folder / "bad.ckpt").write_bytes(content)
    (sweep_folder / "configs/task/absent.yaml").write_text("name: absent\nkind: retrieval\ndata: nowhere\n")
    sweep = words("failed", ["bad.ckpt", *CLIPS], ["absent", "captions", "kind"])
    assert evaluate(sweep) == 1
    said = capsys.readouterr()
    assert "medvlp eval: 5 of 9 cells failed:\n  bad.ckpt · absent · test: checkpoint bad.ckpt is damaged" in said.err
    assert "Traceback" not in said.err
    failures = rows(sweep_folder / "failed/failures.jsonl")
    assert [(row["checkpoint"], row["task"], row["split"]) for row in failures] == [
        *(("bad.ckpt", task, "test") for task in ("absent", "captions", "kind")),
        *((clip, "absent", "test") for clip in CLIPS),
    ]
    assert "medvlp prep" in failures[-1]["reason"]
    results = (sweep_folder / "failed/results.jsonl").read_bytes()
    pairs = dict.fromkeys((row["checkpoint"], row["task"]) for row in rows(sweep_folder / "failed/results.jsonl"))
    assert list(pairs) == [(clip, task) for clip in CLIPS for task in ("captions", "kind")]

    def faulty(self, model):
        raise ValueError("planted")

    monkeypatch.setattr(Retrieval, "run", faulty)
    sweep = words("faulty", CLIPS, ["captions", "kind"])
    assert evaluate(sweep) == 70
    said = capsys.readouterr().err
    assert said.count("Traceback (most recent call last)") == 2
    assert "a.ckpt · captions · test: ValueError: planted" in said
    assert {row["task"] for row in rows(sweep_folder / "faulty/results.jsonl")} == {"kind"}
    monkeypatch.undo()
    monkeypatch.chdir(sweep_folder)
    assert evaluate(sweep) == 0
    assert not (sweep_folder / "faulty/failures.jsonl").exists()
    same_cells = {
        (row["checkpoint"], row["metric"]): row["value"] for row in rows(sweep_folder / "faulty/results.jsonl")
    }
    assert same_cells == {
        (row["checkpoint"], row["metric"]): row["value"] for row in map(json.loads, results.splitlines())
    }


def test_a_model_that_cannot_be_opened_fails_in_all_its_cells(sweep_folder, capsys, monkeypatch):
    from medvlp.sweep import measure

    opened = measure.open_model
    monkeypatch.setattr(
        measure, "open_model", lambda name, *rest: opened(name, *rest) if name.text == "b.ckpt" else 1 / 0
    )
    assert evaluate(words("unopened", CLIPS, ["kind", "captions"])) == 70
    said = capsys.readouterr()
    assert "failed: kind, captions  [0/4 cells, 2 failed" in said.out
    assert said.err.count("Traceback (most recent call last)") == 1
    assert {row["checkpoint"] for row in rows(sweep_folder / "unopened/results.jsonl")} == {"b.ckpt"}


def test_a_model_that_is_overwritten_after_the_plan_is_not_measured_as_what_it_was(
    sweep_folder, capsys, measured, monkeypatch
):
    shutil.copy("a.ckpt", "moving.ckpt")
    shutil.copy("b.ckpt", "new.ckpt")
    make_plan = run.make_plan

    def overwriting(config):
        plan = make_plan(config)
        os.replace("new.ckpt", "moving.ckpt")
        return plan

    monkeypatch.setattr(run, "make_plan", overwriting)
    assert evaluate(words("moved", ["moving.ckpt"], ["kind"])) == 1
    assert "moving.ckpt was overwritten after this command had looked at it" in capsys.readouterr().err
    assert measured == []
    assert not (sweep_folder / "moved").exists() or not list((sweep_folder / "moved").rglob("*.json"))


def test_the_order_of_prompt_sets_is_part_of_a_cells_name():
    """The first of equally good sets is taken, so that the order decides scores."""
    sets = {"plain": ["{}"], "longer": ["an image of {}"]}
    names = {Cell(None, None, {"task": {"prompt_sets": dict(items)}}).id for items in permutations(sets.items())}
    assert len(names) == 2
