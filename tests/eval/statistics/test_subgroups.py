"""Subgroups by hand: groups, their intervals, the worst one, and equity-scaled metrics."""

import math

import numpy as np
import pytest

from medvlp.config.evaluation.groupings import parse_groupings
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.errors import RecordsError
from medvlp.eval.metrics import auroc
from medvlp.eval.statistics.cell import record_statistics
from medvlp.eval.statistics.subgroups import equity_scaled, group_names, number_of, ordered, subgroups_of, worst_group

AGE = parse_groupings(["age:0-40-65"])[0]
PLAIN = parse_groupings(["age"])[0]
VQA = {"kind": "vqa", "controls": {}}


def question(number, score, cluster=None, **fields):
    scores = {"closed_accuracy": score, "unparsed": 0.0}
    cluster = cluster or f"p{number}"
    return {"id": f"q{number}", "group": cluster, "scores": scores, "control_scores": {}, "fields": fields}


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (45, 45.0),
        ("45", 45.0),
        ("90+", 90.0),
        (" 0.5 ", 0.5),
        ("-2", -2.0),
        (True, None),
        ("4 cm", None),
        (None, None),
        (10**400, None),
        ("9" * 400, None),
    ],
)
def test_ages_are_numbers(value, number):
    assert number_of(value) == number


def test_edges_make_bins_and_nothing_is_dropped():
    values = [-1, 0, 39.9, "40", 65, "90+", "old", None]
    names = group_names(values, AGE)
    assert names == [
        "under 0", "from 0 to under 40", "from 0 to under 40", "from 40 to under 65", "from 65", "from 65",
        "(not a number)", "(not stated)",
    ]  # fmt: skip
    assert ordered(names[::-1]) == list(dict.fromkeys(names))


def test_many_different_numbers_are_cut_at_their_quartiles():
    names = group_names([*range(40), None], PLAIN)
    assert ordered(names) == ["under 9", "from 9 to under 19", "from 19 to under 29", "from 29", "(not stated)"]
    assert group_names([1, 2, "3"], PLAIN) == ["1", "2", "3"]  # few: each its own group
    assert ordered(["10", "9", "b", "(not stated)", "a"]) == ["9", "10", "a", "b", "(not stated)"]
    assert group_names([False, None], PLAIN) == ["false", "(not stated)"]
    assert set(group_names(list("abcdefghijkl"), PLAIN)) == set("abcdefghijkl")  # many, but no numbers


def test_rare_values_beyond_fifty_are_one_group():
    values = [f"v{i:03}" for i in range(60) for _ in range(2 if i < 50 else 1)]
    names = group_names(values, PLAIN)
    assert len(set(names)) == 51
    assert names.count("(other values)") == 10


def test_groups_have_their_metric_items_clusters_and_interval():
    records = [question(i, float(i % 4 != 0), sex="F") for i in range(20)]
    records += [question(i, float(i % 2), cluster="one", sex="M") for i in range(20, 26)]
    records += [question(26, 1.0)]
    subgroups = subgroups_of(records, VQA, parse_groupings(["sex", "site"]), [], Bootstrap(500))
    assert subgroups.metrics == []
    assert {row["metric"] for row in subgroups.rows} == {"closed_accuracy"}
    female, male, unknown, siteless = subgroups.rows
    assert [(row["by"], row["group"]) for row in subgroups.rows[2:]] == [
        ("sex", "(not stated)"),
        ("site", "(not stated)"),
    ]
    assert [(row["group"], row["value"]) for row in subgroups.rows[:3]] == [
        ("F", 0.75),
        ("M", 0.5),
        ("(not stated)", 1.0),
    ]
    assert [(row["n"], row["clusters"]) for row in subgroups.rows] == [(20, 20), (6, 1), (1, 1), (27, 22)]
    assert siteless["value"] == pytest.approx(19 / 27)
    assert female["ci_low"] < 0.75 < female["ci_high"]
    assert male["ci_low"] is male["ci_high"] is unknown["ci_low"] is None  # one cluster says nothing of others
    assert female["by"] == "sex"


def test_worst_group_and_equity_of_people():
    records = [question(i, float(i < 12), sex="F" if i < 10 else "M") for i in range(20)] + [question(20, 0.0)]
    subgroups = subgroups_of(records, VQA, [], parse_groupings(["sex"]), Bootstrap(500))
    values = {value.name: value for value in subgroups.metrics}
    assert list(values) == ["closed_accuracy/equity_scaled[sex]", "closed_accuracy/worst_group[sex]"]
    whole = 12 / 21
    scaled = values["closed_accuracy/equity_scaled[sex]"]
    assert scaled.value == pytest.approx(whole / (1 + abs(whole - 1.0) + abs(whole - 0.2)))
    worst = values["closed_accuracy/worst_group[sex]"]
    assert (worst.value, worst.n) == (0.2, 20)  # the item of unknown sex is in no group
    for value in values.values():
        assert value.ci_low <= value.value <= value.ci_high
        assert value.ci_low < value.ci_high


def test_undefined_groups_neither_lower_the_worst_nor_widen_the_gap():
    value_GR = np.array([[0.5, np.nan, np.nan], [0.8, 0.9, np.nan]])
    assert worst_group(np.ones(3), value_GR).tolist() == pytest.approx([0.5, 0.9, math.nan], nan_ok=True)
    scaled = equity_scaled(np.array([0.7, 0.7, 0.7]), value_GR).tolist()
    assert scaled == pytest.approx([0.7 / 1.3, 0.7 / 1.2, math.nan], nan_ok=True)
    assert equity_scaled(np.array([0.7]), value_GR[:, :1], 2.0).tolist() == pytest.approx([0.7 / 1.6])


def test_the_worst_group_of_an_error_is_the_highest_and_it_has_no_equity():
    protocol = {"kind": "my_own"}
    records = [
        {"id": f"{i}", "group": f"{i}", "scores": {"error": float(i < 4)}, "fields": {"sex": "F" if i < 5 else "M"}}
        for i in range(20)
    ]
    (worst,) = subgroups_of(records, protocol, [], parse_groupings(["sex"]), Bootstrap(200)).metrics
    assert (worst.name, worst.value) == ("error/worst_group[sex]", 0.8)
    assert worst.ci_low < 0.8 < worst.ci_high


def test_records_of_a_kind_of_one_s_own_may_have_no_fields():
    records = [{"id": f"{i}", "group": f"{i}", "scores": {"hit": 1.0}} for i in range(3)]
    (row,) = subgroups_of(records, {"kind": "my_own"}, parse_groupings(["sex"]), [], Bootstrap(20)).rows
    assert (row["group"], row["value"]) == ("(not stated)", 1.0)
    with pytest.raises(RecordsError, match="no object of names and values"):
        subgroups_of([records[0] | {"fields": ["F"]}], {"kind": "my_own"}, parse_groupings(["sex"]), [], Bootstrap(20))
    without = [{"id": "a", "group": "a"}]  # nor scores, where no subgroups are asked for
    assert subgroups_of(without, {"kind": "my_own"}, [], [], Bootstrap(20)).rows == []


def test_a_number_beyond_float64_is_a_group_of_its_own():
    assert group_names([10**400, 1], PLAIN) == [str(10**400), "1"]
    assert group_names([10**400, 1], AGE) == ["(not a number)", "from 0 to under 40"]


def zero_shot_records(count=60):
    generator = np.random.default_rng(3)
    records = []
    for number in range(count):
        target, cosine = int(generator.integers(2)), float(generator.normal(scale=0.01))
        similarities = [0.0, cosine + 0.01 * target]
        powers = np.exp(100 * np.array(similarities))
        scores = (powers / powers.sum()).tolist()
        best = int(np.argmax(scores))
        fields = {"site": "north" if number % 3 else "south"} | ({"all": "same"} if target else {})
        records.append(
            {"id": f"k{number}", "group": f"p{number // 2}", "prediction": ["no", "yes"][best], "similarities": similarities,
             "target": ["no", "yes"][target], "scores": dict(zip(("no", "yes"), scores, strict=True)), "fields": fields}
        )  # fmt: skip
    return records


CLASSES = {"kind": "zero_shot", "classes": {"no": ["no"], "yes": ["yes"]}}


def test_a_group_of_one_class_has_no_auroc():
    records = zero_shot_records()
    rows = subgroups_of(records, CLASSES, parse_groupings(["all", "site"]), [], Bootstrap(200)).rows
    by_key = {(row["metric"], row["by"], row["group"]): row for row in rows}
    assert {key[0] for key in by_key} == {"acc1", "mean_per_class_recall", "auroc"}
    assert by_key["auroc", "all", "same"]["value"] is None
    south = [record for record in records if record["fields"]["site"] == "south"]
    expected = auroc(
        [record["scores"]["yes"] for record in south], [float(record["target"] == "yes") for record in south]
    )
    row = by_key["auroc", "site", "south"]
    assert row["value"] == pytest.approx(expected)
    assert (row["n"], row["clusters"]) == (20, len({record["group"] for record in south}))
    assert row["ci_low"] < row["value"] < row["ci_high"]


def test_a_cell_has_calibration_and_subgroups():
    records = zero_shot_records()
    people = parse_groupings(["site"])
    made = record_statistics(records, CLASSES | {"positive": "yes"}, Bootstrap(200), [], people, 0.9)
    names = [value.name for value in made.metrics]
    assert names[:4] == ["ece", "brier", "aurc", "sensitivity@90specificity"]
    assert "auroc/worst_group[site]" in names
    assert all(value.ci_low <= value.value <= value.ci_high for value in made.metrics if value.name != "ece")
    (row,) = made.calibration
    assert (row["metric"], row["n"], len(row["bins"]), row["risk_coverage"][-1][0]) == ("acc1", 60, 15, 1.0)
    accuracy = np.mean([record["prediction"] == record["target"] for record in records])
    assert row["risk_coverage"][-1][1] == pytest.approx(accuracy)
    both = record_statistics(records, CLASSES, Bootstrap(0), [], [], 0.9)
    assert both.metrics[3].value != made.metrics[3].value  # without `positive`: the mean of both classes
    assert record_statistics([question(0, 1.0)], VQA, Bootstrap(0)).calibration == []
