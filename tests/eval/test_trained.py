"""Scores on items that were trained on, and on the others, next to the scores on all."""

from dataclasses import replace

import pytest

from medvlp.combinations import ItemFilter, parse_combinations, values_of
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.statistics.measures import measures
from medvlp.eval.trained import Trained, marked, part_names
from tests.eval.colour_world import sample
from tests.eval.test_task import run, zero_shot

SIX = [
    sample("a", "red", "p1", hue="red"),
    sample("b", "green", "p2", hue="green"),
    sample("c", "blue", "p3", hue=3),
    sample("d", "red", "p4", hue="green"),
    sample("e", "blue", "p5", hue="red"),
    sample("f", "green", "p6", hue="green"),
]
"""d and e are taken for another class."""


def measured(trained):
    result = run(replace(zero_shot(SIX), trained=trained))
    return {metric.name: metric for metric in result.metrics}, result.protocol["in_train"]


def test_a_row_for_each_part_after_every_score():
    metrics, in_train = measured(Trained({"a": "bytes", "b": "picture", "c": "bytes", "z": "bytes"}, ["made/train"]))
    assert list(metrics)[:3] == ["acc1", "acc1_in_train", "acc1_not_in_train"]
    assert len(metrics) == 3 * 3
    scores = {name: (metrics[name].value, metrics[name].n) for name in list(metrics)[:3]}
    assert scores == {
        "acc1": (pytest.approx(4 / 6), 6),
        "acc1_in_train": (1.0, 3),
        "acc1_not_in_train": (pytest.approx(1 / 3), 3),
    }
    # Over the classes that the part has: red and green.
    assert metrics["mean_per_class_recall_not_in_train"].value == pytest.approx((0 + 1 / 2) / 2)
    assert metrics["acc1_in_train"].ci_low == metrics["acc1_in_train"].ci_high == 1.0
    assert in_train == {
        "samples": 6,
        "same_bytes": 2,
        "same_picture": 1,
        "same_id": 0,
        "same_group": 0,
        "compared": ["made/train"],
        "unknown": [],
    }


def test_an_id_is_the_item_itself_and_a_group_is_another_of_its_kind():
    metrics, in_train = measured(Trained({"a": "id", "b": "group"}, ["made/train"]))
    assert (in_train["same_id"], in_train["same_group"]) == (1, 1)
    assert (metrics["acc1_in_train"].n, metrics["acc1_not_in_train"].n) == (1, 5)
    assert list(measured(Trained({"b": "group"}))[0]) == ["acc1", "mean_per_class_recall", "auroc"]


def test_the_scores_on_all_stay_as_they_were():
    plain, in_train = measured(None)
    assert in_train is None
    apart, _ = measured(Trained({"a": "bytes"}))
    assert {name: metric for name, metric in apart.items() if name in plain} == plain


def test_where_nothing_was_trained_on_no_row_is_added():
    metrics, in_train = measured(Trained({}, ["made/train"], ["gone/train, which is not here"]))
    assert list(metrics) == ["acc1", "mean_per_class_recall", "auroc"]
    assert (in_train["same_bytes"], in_train["unknown"]) == (0, ["gone/train, which is not here"])


def test_where_everything_was_trained_on_the_count_alone_says_so():
    metrics, in_train = measured(Trained(dict.fromkeys("abcdef", "bytes")))
    assert list(metrics) == ["acc1", "mean_per_class_recall", "auroc"]
    assert (in_train["samples"], in_train["same_bytes"]) == (6, 6)


def test_intervals_are_of_the_part_alone():
    """Half of the items score 1 and half 0: over all the interval is wide, over each part it has no width."""
    records = [
        {"id": f"{i}", "group": f"{i}", "scores": {"share": float(i < 20)}, "in_train": "bytes" if i < 20 else None}
        for i in range(40)
    ]
    values = Bootstrap(200).measure(measures(records, {}))
    assert [(m.name, m.value, m.n) for m in values] == [
        ("share", 0.5, 40),
        ("share_in_train", 1.0, 20),
        ("share_not_in_train", 0.0, 20),
    ]
    assert values[0].ci_high - values[0].ci_low > 0.2
    assert [(m.ci_low, m.ci_high) for m in values[1:]] == [(1.0, 1.0), (0.0, 0.0)]


def without(*entries):
    return [ItemFilter(exclude=(combination,)) for combination in parse_combinations("x", entries)]


def test_an_item_is_unseen_by_its_own_fields_and_by_its_samples_lists():
    trained = Trained(
        unseen=without({"organ": "liver", "kind": "plane"}, {"findings": "nodule"}),
        values={"a": values_of({"organ": "liver", "findings": []}), "b": values_of({"findings": ["nodule", "mass"]})},
    )
    fields = [{"kind": "plane"}, {"kind": "organ"}, {"kind": "plane", "organ": "lung"}, {}, {"seen": "by a doctor"}]
    records = [{"id": str(n), "fields": of_item} for n, of_item in enumerate(fields)]
    rows = marked(records, ["a", "a", "a", "b", "c"], trained)
    assert [row["seen"] for row in rows] == ["unseen", "seen", "seen", "unseen", "seen"]
    assert [row.get("held_out") for row in rows] == ["organ=liver, kind=plane", None, None, "findings=nodule", None]
    assert rows[0]["fields"] == {"kind": "plane", "seen": "unseen", "held_out": "organ=liver, kind=plane"}
    assert rows[4]["fields"] == {"seen": "by a doctor"}  # the data's own field stays
    assert trained.held_out(rows)["held_out"] == {
        "items": 5,
        "unseen": 2,
        "combinations": {"organ=liver, kind=plane": 1, "findings=nodule": 1},
        "notes": [],
    }
    assert Trained().held_out(rows) == {}
    assert marked(records, ["a"] * 5, Trained()) == records


def test_seen_and_unseen_follow_every_score_and_are_its_parts():
    result = run(replace(zero_shot(SIX), trained=Trained({"a": "bytes"}, unseen=without({"hue": "green"}))))
    metrics = {metric.name: metric for metric in result.metrics}
    assert list(metrics)[:5] == ["acc1", *(f"acc1{ending}" for ending in part_names())]
    assert (metrics["acc1_seen"].value, metrics["acc1_seen"].n) == (pytest.approx(2 / 3), 3)
    assert (metrics["acc1_unseen"].value, metrics["acc1_unseen"].n) == (pytest.approx(2 / 3), 3)
    nothing = run(replace(zero_shot(SIX), trained=Trained(unseen=without({"hue": "violet"}))))
    assert [metric.name for metric in nothing.metrics] == ["acc1", "mean_per_class_recall", "auroc"]
