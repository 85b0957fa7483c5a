"""Equal texts in training: what objective.same_text and objective.positives do to a whole run."""

from dataclasses import replace

import pytest

from tests.datasets import pairs, write_split
from tests.models.tiny import tiny_architecture
from tests.runs import losses, rows, run_here, tiny_words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("same_text")
    samples = [replace(pair, texts={"caption": f"kind {row % 12}"}) for row, pair in enumerate(pairs(48))]
    write_split(made / "made" / "train", samples)
    tiny_architecture(made)
    return made


def run(folder, name, *more):
    words = [*tiny_words(folder), "trainer.max_steps=6", "trainer.checkpoint_every=3", f"run_name={name}", *more]
    assert run_here(words) == 0
    return folder / "runs" / name


def texts(path):
    return [
        [int(key.split("__")[1].removeprefix("a")) % 12 for key in row["keys"]] for row in rows(path / "samples.jsonl")
    ]


def test_apart_keeps_equal_texts_out_of_a_batch_and_the_others_change_the_loss(folder, capsys):
    plain, apart = run(folder, "plain"), run(folder, "apart", "objective.same_text=apart")
    assert all(len(set(batch)) == 8 for batch in texts(apart))
    assert any(len(set(batch)) < 8 for batch in texts(plain))
    seen = [sorted(key for row in rows(path / "samples.jsonl") for key in row["keys"]) for path in (plain, apart)]
    assert seen[0] == seen[1]  # the same samples an epoch
    assert "same_text=apart" not in capsys.readouterr().out
    first = losses(plain)[0]
    for name in ("masked", "mil_nce"):
        assert abs(losses(run(folder, name, f"objective.same_text={name}"))[0] - first) > 1e-3
    kinds = run(folder, "kinds", "objective.positives=label.kind")
    assert abs(losses(kinds)[0] - first) > 1e-3
    assert all(row["positives"] > 0 for row in rows(kinds / "metrics.jsonl") if row["split"] == "train")


def test_what_cannot_be_kept_apart_is_said_and_a_label_that_nobody_has_is_refused(folder, capsys):
    words = [*tiny_words(folder), "trainer.max_steps=1"]
    assert run_here([*words, "run_name=many", "data.global_batch_size=24", "objective.same_text=apart"]) == 0
    assert "24 of 48 samples of an epoch meet another of their text" in capsys.readouterr().out
    assert run_here([*words, "run_name=none", "objective.positives=label.sort"]) == 1
    assert "none of the first samples of the data has it; its labels are kind" in capsys.readouterr().err
