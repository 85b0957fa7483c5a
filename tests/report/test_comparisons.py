"""Marks of what was trained on, and how often models win against each other, as tables show them."""

import pytest

from medvlp.report import results_table
from medvlp.report.comparisons import comparison_table
from medvlp.report.sweep.marks import wins_ties_losses

CLEAN = {
    "samples": 3,
    "same_bytes": 0,
    "same_picture": 0,
    "same_id": 0,
    "same_group": 0,
    "compared": ["x"],
    "unknown": [],
}


def result(metric="acc1", **in_train):
    protocol = {"split": "test", "in_train": CLEAN | in_train}
    return {"checkpoint": "runs/a/last.ckpt", "task": "kvasir_vqa", "metric": metric, "value": 0.5, "ci_low": 0.4,
            "ci_high": 0.6, "n": 3, "protocol": protocol}  # fmt: skip


@pytest.mark.parametrize(
    ("in_train", "mark"),
    [
        ({}, ""),
        ({"same_bytes": 3}, "‡"),
        ({"same_bytes": 1, "same_group": 2}, "†"),
        ({"same_bytes": 1, "same_picture": 2}, "‡"),
        ({"same_id": 1}, "†"),
        ({"same_group": 1}, "§"),
        ({"same_group": 3}, "§"),
        ({"unknown": ["old/train, which is not here"]}, "?"),
    ],
)
def test_what_was_trained_on_is_marked_at_the_number_itself(in_train, mark):
    text = results_table([result(**in_train)])
    line = next(line for line in text.splitlines() if "acc1" in line)
    assert f"0.500 [0.400, 0.600]{mark} " in line
    assert not mark or any(line.startswith(f"{mark} ") for line in text.splitlines())  # what the mark says


def test_what_others_trained_is_marked_and_the_part_that_is_not_in_train_is_not():
    foreign = result() | {"protocol": {"split": "test", "in_train": "unknown"}}
    assert "0.500 [0.400, 0.600]? " in results_table([foreign])
    lines = results_table(
        [result(same_id=1), result("acc1_in_train", same_id=1), result("acc1_not_in_train", same_id=1)]
    )
    marked = [line for line in lines.splitlines() if "]†" in line]
    assert len(marked) == 2


def test_a_model_that_ignores_the_image_is_said_to_under_the_table():
    verdict = "This model ignores the image: none of its 7 answers changes."
    row = result() | {"protocol": {"split": "test", "in_train": CLEAN, "reliance": [verdict, "With blank images ..."]}}
    assert results_table([row, row]).splitlines()[-2:] == ["images:", f"  kvasir_vqa, a/last: {verdict}"]


def pair(a, b, difference, p_holm, metric="acc1"):
    return {
        "task": "t", "split": "test", "metric": metric, "a": a, "b": b, "difference": difference, "ci_low": -0.1,
        "ci_high": 0.1, "p": p_holm, "p_holm": p_holm, "n": 9, "wins": 1, "ties": 2, "losses": 6,
        "differing": ["split_hash: 'x' against 'y'"] if difference is None else [],
    }  # fmt: skip


PAIRS = [
    pair("a", "b", 0.2, 0.01),
    pair("a", "c", -0.2, 0.04),
    pair("b", "c", 0.3, 0.05),  # not below the level
    pair("a", "b", -0.1, 0.6, "auroc"),
    pair("a", "c", None, None, "auroc"),
]


def test_wins_ties_and_losses_by_hand():
    assert wins_ties_losses(PAIRS) == {
        "a": {"b": (1, 1, 0), "c": (0, 0, 1)},
        "b": {"a": (0, 1, 1), "c": (0, 1, 0)},
        "c": {"a": (1, 0, 0), "b": (0, 1, 0)},
    }


def test_the_table_of_pairs_says_what_differs_and_what_is_different():
    text = comparison_table(PAIRS, {"a": "A1", "b": "B1", "c": "C1"}, {("a", "t", "test"): "‡"})
    assert "A1‡" in text
    assert "‡ all of the items, or their images, were in the model's training data" in text
    assert "+0.200 [-0.100, +0.100]" in text
    assert "0.010 *" in text
    assert "0.050 *" not in text
    assert "not comparable" in text
    assert "  t · test, A1 and C1: split_hash: 'x' against 'y'" in text.splitlines()
    assert "1 / 1 / 0" in text
    assert "better / not" not in comparison_table(PAIRS[:1], {"a": "A1", "b": "B1"}, {})  # two models need no matrix
