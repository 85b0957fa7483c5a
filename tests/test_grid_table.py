"""The table of a grid, from folders of runs."""

import json

import pytest
import yaml

from medvlp.config import as_dict, compose, expand_grid
from medvlp.jsonl import read_rows
from medvlp.runs.grid_table import write_grid_table
from tests.datasets import pairs, write_split


@pytest.fixture
def cells(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVLP_DATA", str(tmp_path))
    write_split(tmp_path / "mni152/train", pairs(8))
    where = "data.sources.mni152.where=choice([],['width<9'],['width>9'])"
    words = ["recipes=clip_mni152", where, f"run_root={tmp_path}/runs", "data.global_batch_size=4"]
    return expand_grid("train", words, multirun=True)


def finished(folder, step, selected, accuracy, state="done"):
    """A run's folder; accuracy: of each evaluation."""
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"state": state, "step": step, "reason": ""}))
    if selected is not None:
        (folder / "selected.json").write_text(json.dumps({"mni152": {"selected": selected}}))
    rows = [
        {"step": step * (n + 1) // len(accuracy), "split": "valid", "task": "mni152_plane", "acc1": value, "auroc": 0.5}
        for n, value in enumerate(accuracy)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_cells_that_read_alike_have_folders_of_their_own(cells):
    names = [argument for cell in cells for argument in cell if argument.startswith("run_name=")]
    assert names == [f"run_name=clip_mni152__where{end}" for end in ("", "-width-9", "-width-9-3")]


def test_names_of_many_values_stay_short():
    words = ["recipes=clip_mni152", f"optim.parts={{vision:{{freeze:true}}}},{{text:{{freeze:{'t' * 300}}}}}"]
    names = [cell[-2] for cell in expand_grid("train", words, multirun=True)]
    assert len(set(names)) == 2
    assert max(map(len, names)) < 150


def test_a_line_is_a_cell_with_its_last_scores(cells, tmp_path):
    runs = tmp_path / "runs"
    finished(runs / "clip_mni152__where", 10, None, [0.9, 0.25])
    finished(runs / "clip_mni152__where-width-9", 10, 3, [0.1, 0.75])
    lines = write_grid_table(cells)
    assert lines[:5] == [
        "| `where` | samples | samples seen | `mni152_plane acc1` | `mni152_plane auroc` | mean |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| `nothing` | 8 | 40 | 0.250 | **0.500** | 0.375 |",
        "| `width<9` | 3 | 40 | **0.750** | **0.500** | **0.625** |",
        "| `width>9` | ? | 0 |  |  |  |",
    ]
    assert "`clip_mni152__where-width-9-3`: `not begun`" in lines
    assert (runs / "clip_mni152.md").read_text().splitlines() == lines[:-1]
    rows = list(read_rows(runs / "clip_mni152.jsonl"))
    assert [row["mean"] for row in rows] == [0.375, 0.625, None]
    assert rows[1]["values"] == {"data.sources.mni152.where": "['width<9']"}


def test_unequal_compute_is_said(cells, tmp_path):
    for number, cell in enumerate(cells):
        finished(tmp_path / "runs" / cell[-2].removeprefix("run_name="), 10 + 2 * number, 3, [0.5])
    assert any("saw between 40 and 56 samples" in line for line in write_grid_table(cells))


def test_a_run_of_another_configuration_is_none_of_the_cells(cells, tmp_path):
    folder = tmp_path / "runs/clip_mni152__where"
    finished(folder, 10, None, [0.9])
    config = as_dict(compose("train", cells[0]))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert "| `nothing` | 8 | 40 | **0.900** | **0.500** | **0.700** |" in write_grid_table(cells)
    config["data"]["global_batch_size"] = 2
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = write_grid_table(cells)
    assert "| `nothing` | ? | 0 |" in lines
    assert any("an earlier run with others of these keys: data.global_batch_size 2 → 4" in line for line in lines)


def test_what_combinations_leave_is_not_guessed(cells, tmp_path):
    held_out = "data.sources.mni152.exclude=[{site: 3}]"
    assert "| `nothing` | ? | 0 |" in write_grid_table([[*cell, held_out] for cell in cells])
