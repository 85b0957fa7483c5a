"""The one sentence about leakage, wherever it is said."""

import json

import pytest

from medvlp.report import results_table
from medvlp.report.dataset.leakage import Leakage, leakage_lines, leakage_notes

BRAIN = {"leakage": {"test": {"samples": 394, "same_bytes": 88, "same_picture": 159}}, "splits": {}}
SAID = "247 of 394 samples of test have an image that is in train: 88 the same bytes, 159 the same picture"


@pytest.mark.parametrize(
    ("leakage", "sentence"),
    [
        (Leakage("test", 394, 88, 159), SAID),
        (
            Leakage("valid", 9, 1, 0),
            "1 of 9 samples of valid has an image that is in train: 1 the same bytes, 0 the same picture",
        ),
        (Leakage("valid", 9, 0, 0), "none of 9 samples of valid has an image that is in train"),
    ],
)
def test_sentences(leakage, sentence):
    assert leakage.sentence == sentence


def test_a_data_set_of_one_split_has_nothing_to_say():
    assert leakage_lines({"splits": {"train": {"out": 3}}}) == []
    assert leakage_lines({"splits": {"train": {"out": 3}}, "leakage": {}}) == []


def test_training_says_what_the_preparation_counted(tmp_path):
    (tmp_path / "brain" / "train").mkdir(parents=True)
    (tmp_path / "brain" / "ledger.json").write_text(json.dumps(BRAIN))
    (tmp_path / "torn" / "train").mkdir(parents=True)
    (tmp_path / "torn" / "ledger.json").write_text("{")
    folders = {
        name: tmp_path / folder / "train" for name, folder in {"mri": "brain", "none": "none", "torn": "torn"}.items()
    }
    assert leakage_notes(folders) == [f"data.sources.mri: {SAID}"]
    assert leakage_notes({"mri": tmp_path / "brain/test"}) == []  # whoever trains on test has no test


def row(metric, value, n, **in_train):
    counts = {"samples": 394, "same_bytes": 88, "same_picture": 159, "compared": ["brain/train"], "unknown": []}
    protocol = {"split": "test", "in_train": counts | in_train}
    return {
        "checkpoint": "runs/a.ckpt",
        "task": "brain",
        "metric": metric,
        "value": value,
        "n": n,
        "protocol": protocol,
    }


def test_results_say_what_was_trained_on():
    rows = [row("acc1", 0.65, 394), row("acc1_in_train", 0.83, 247), row("acc1_not_in_train", 0.354, 147)]
    lines = results_table(rows).splitlines()
    assert lines[-2:] == ["in train:", f"  brain, runs/a: {SAID}"]


def test_results_say_what_could_not_be_compared():
    missing = row(
        "acc1", 0.65, 394, same_bytes=0, same_picture=0, compared=[], unknown=["old/train, which is not here"]
    )
    assert (
        results_table([missing]).splitlines()[-1] == "  brain, runs/a: not compared with old/train, which is not here"
    )
