"""Data that grew and choices that changed: what is done again, what is kept, and what the person is told."""

import json

import pytest

from data_prep import pipeline
from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from tests.data_prep.folders import jpeg
from tests.data_prep.ways import marks

CHOICES = {"workers": 1, "samples_per_shard": 5}


@pytest.fixture
def table(tmp_path):
    """A table of 12 images: units of 5, 5 and 2."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "pairs.csv").write_text("filepath,title\n")
    return grow(tmp_path / "in" / "pairs.csv", 0, 12)


def grow(table, start, stop):
    for n in range(start, stop):
        (table.parent / f"{n}.jpg").write_bytes(jpeg(n))
    with open(table, "a") as file:
        file.writelines(f"{n}.jpg,Caption {n}\n" for n in range(start, stop))
    return table


def done_before(output):
    run = json.loads((output / "run.json").read_text())
    return run["units_done_before"], run["units"]


def test_with_a_cache_only_what_is_new_is_done(table, tmp_path):
    cached = {**CHOICES, "cache": str(tmp_path / "cache")}
    prepare("csv", table, tmp_path / "first", **cached)
    assert done_before(tmp_path / "first") == (0, 3)
    grow(table, 12, 21)
    prepare("csv", table, tmp_path / "second", **cached)
    assert done_before(tmp_path / "second") == (2, 5)  # the unit of two has five rows now
    prepare("csv", table, tmp_path / "straight", **CHOICES)
    assert marks(tmp_path / "second") == marks(tmp_path / "straight")


def test_other_splits_keep_all_units(table, tmp_path):
    cached = {**CHOICES, "cache": str(tmp_path / "cache")}
    prepare("csv", table, tmp_path / "first", **cached)
    prepare("csv", table, tmp_path / "second", **cached, split="random")
    assert done_before(tmp_path / "second") == (3, 3)
    prepare("csv", table, tmp_path / "straight", **CHOICES, split="random")
    assert marks(tmp_path / "second") == marks(tmp_path / "straight")


def test_an_unfinished_folder_takes_what_was_added(table, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as stopping:
        stopping.setattr(pipeline, "apply_dataset_stages", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare("csv", table, tmp_path / "out", **CHOICES)
    grow(table, 12, 21)
    prepare("csv", table, tmp_path / "out", **CHOICES)
    assert done_before(tmp_path / "out") == (2, 5)
    prepare("csv", table, tmp_path / "straight", **CHOICES)
    assert marks(tmp_path / "out") == marks(tmp_path / "straight")


@pytest.mark.parametrize(
    ("changed", "difference", "lost"),
    [
        ({}, r"read\.input\.", "units that read what changed have to be done again"),
        ({"min_side": 20}, r"check_images\.min_side: 16 there, 20 now", "every unit has to be done again"),
        (
            {"split": "random"},
            r"split\.by: publisher there, random now",
            "units stay as they are, splits and shards have",
        ),
    ],
)
def test_a_finished_folder_says_what_a_change_invalidates(table, tmp_path, changed, difference, lost):
    prepare("csv", table, tmp_path / "out", **CHOICES)
    before = marks(tmp_path / "out")
    if not changed:
        grow(table, 12, 13)
    with pytest.raises(PrepError, match=difference) as caught:
        prepare("csv", table, tmp_path / "out", **CHOICES, **changed)
    assert lost in str(caught.value)
    assert "give a new output folder" in str(caught.value)
    assert marks(tmp_path / "out") == before
