"""Numbers within bounds, and sets: tables worked out by hand, and MedCalc-Bench's rules written out."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvlp.eval.answers import extract_number
from medvlp.eval.answers.targets import best_number, best_set, item_set, number_target, partial_credit, set_scores
from medvlp.shards import BadSample


@pytest.mark.parametrize(
    ("text", "metadata", "answer", "expected"),
    [
        ("25.3", {}, 25.3, 1),
        ("25.3", {}, 25.30000000001, 1),
        ("25.3", {}, 25.4, 0),
        ("25.3", {"tolerance": 0.1}, 25.4, 1),
        ("25.3", {"tolerance": 0.1}, 25.5, 0),
        ("100", {"relative_tolerance": 0.05}, 95, 1),
        ("100", {"relative_tolerance": 0.05}, 94.9, 0),
        ("-100", {"relative_tolerance": 0.05}, -105, 1),  # of its size
        ("25.3", {"lower": "24.035", "upper": "26.565"}, 26.565, 1),
        ("25.3", {"lower": "24.035", "upper": "26.565"}, 24.0, 0),
        ("25.3", {"lower": 24, "upper": 30, "tolerance": 0.1}, 30, 1),  # stated bounds go first
        ("1,250", {"lower": "1,187.5", "upper": "1,312.5"}, 1200, 1),
        ("4", {"number_type": "integer"}, 4.4, 1),
        ("4", {"number_type": "integer"}, 4.5, 1),  # halves to the even number
        ("4", {"number_type": "integer"}, 3.4, 0),
        ("0.53", {"relative_tolerance": 0.05}, None, 0),
        ("03/14/2021", {"number_type": "date", "lower": "03/14/2021", "upper": "03/14/2021"}, date(2021, 3, 14), 1),
        ("03/14/2021", {"number_type": "date"}, date(2021, 3, 15), 0),
        ("2021-03-14", {"number_type": "date", "lower": "2021-03-10", "upper": "03/20/2021"}, date(2021, 3, 20), 1),
        ("2021-03-14", {"number_type": "date", "lower": "2021-03-10", "upper": "03/20/2021"}, date(2021, 3, 21), 0),
        ("2021-03-14", {"number_type": "date", "lower": date(2021, 3, 10)}, date(2021, 3, 10), 1),
        ("2021-03-14", {"number_type": "date", "lower": "2021-03-10", "tolerance": 1}, date(2021, 3, 16), 0),
        ("03/14/2021", {"number_type": "date", "tolerance": 1}, date(2021, 3, 15), 1),
        ("('36 weeks', '4 days')", {"number_type": "weeks"}, 256, 1),
        ("36 weeks, 4 days", {"number_type": "weeks"}, 255, 0),
        ("36 weeks, 4 days", {"number_type": "weeks", "lower": "('36 weeks', '0 days')"}, 252, 1),
        ("36 weeks, 4 days", {"number_type": "weeks", "lower": "36+0", "upper": "37 weeks"}, 260, 0),
        ("0", {}, 0.0, 1),
    ],
)
def test_a_number_within_its_bounds(text, metadata, answer, expected):
    assert number_target(text, metadata).accuracy(answer) == expected


def test_a_percentage_is_tried_as_a_share():
    target = number_target("0.53", {"relative_tolerance": 0.05})
    assert (target.accuracy(53.0), target.accuracy(53.0, is_percent=True)) == (0, 1)


@pytest.mark.parametrize(
    ("text", "metadata"),
    [
        ("high", {}),
        ("5", {"number_type": "complex"}),
        ("5", {"lower": "x"}),
        ("5", {"lower": 6, "upper": 4}),
        ("5", {"tolerance": -1}),
        ("5", {"lower": float("nan")}),
        ("5", {"upper": True}),
        ("5 or 6", {}),
        ("tomorrow", {"number_type": "date"}),
        ("02/30/2021", {"number_type": "date"}),
        ("02/03/2021", {"number_type": "date", "lower": "1"}),
        ("02/03/2021", {"number_type": "date", "relative_tolerance": 0.05}),
        ("02/03/2021", {"number_type": "date", "lower": "02/04/2021"}),
        ("36 weeks", {"number_type": "weeks", "upper": 259}),
    ],
)
def test_targets_that_are_none_are_bad_samples(text, metadata):
    with pytest.raises(BadSample) as caught:
        number_target(text, metadata)
    assert caught.value.reason == "bad_number"


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_bounds_as_medcalc_bench_applies_them(truth, answer):
    lower, upper = sorted((truth * 0.95, truth * 1.05))
    target = number_target(repr(truth), {"lower": lower, "upper": upper})
    if min(abs(answer - lower), abs(answer - upper)) > 1e-2:
        assert target.accuracy(answer) == float(lower <= answer <= upper)
    integer = number_target(str(round(truth)), {"number_type": "integer"})
    assert integer.accuracy(answer) == float(round(answer) == round(truth))


@pytest.mark.parametrize(
    ("reply", "number_type", "expected"),
    [
        ("5,8", "decimal", 5.8),
        ("1,234", "decimal", 1234),
        ("1,234.5", "decimal", 1234.5),
        ("1.2e-3", "decimal", 0.0012),
        ("3/4", "decimal", 0.75),
        ("3/5 points", "integer", 3),
        ("120/80", "decimal", 120),  # no fraction
        ("5-6", "decimal", None),
        ("5 to 6 mg", "decimal", None),
        ("from 5", "decimal", 5),
        ("12", "weeks", None),
        ("12 weeks", "weeks", 84),
        ("12+3", "weeks", 87),
        ("12 3/7 weeks", "weeks", 87),
        ("[12, 3]", "weeks", 87),
        ("12/31/2020", "date", date(2020, 12, 31)),
        ("31/12/2020", "date", date(2020, 12, 31)),
        ("2020-12-31", "date", date(2020, 12, 31)),
        ("31 December 2020", "date", date(2020, 12, 31)),
        ("December 31st, 2020", "date", date(2020, 12, 31)),
        ("2020", "date", None),
        ("NaN", "decimal", None),
        ("9" * 400, "decimal", None),
        ("٥", "decimal", 5),
    ],
)
def test_numbers_as_people_write_them(reply, number_type, expected):
    assert extract_number(reply, number_type).answer == expected


@pytest.mark.parametrize(
    ("items", "right", "exact", "f1", "precision", "recall"),
    [
        (("Effusion", "nodule"), ("nodule", "effusion"), 1, 1, 1, 1),
        (("effusion",), ("nodule", "effusion"), 0, 2 / 3, 1, 1 / 2),
        (("effusion", "mass"), ("nodule", "effusion"), 0, 1 / 2, 1 / 2, 1 / 2),
        (("the effusion", "effusion"), ("effusion",), 1, 1, 1, 1),
        ((), (), 1, 1, 1, 1),
        ((), ("effusion",), 0, 0, 0, 0),
        (("effusion",), (), 0, 0, 0, 0),
        (None, (), 0, 0, 0, 0),
        (("肺炎",), ("肺炎",), 1, 1, 1, 1),
    ],
)
def test_sets(items, right, exact, f1, precision, recall):
    scores = set_scores(items, right)
    assert scores == pytest.approx(
        {"set_exact_match": exact, "set_f1": f1, "set_precision": precision, "set_recall": recall}
    )


@given(st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")))
def test_f1_of_sets_is_the_harmonic_mean(items, right):
    """Precision and recall from the counts of a confusion table."""
    hits, extra, missed = (sum(map(member, "abcdef")) for member in (
        lambda x: x in items and x in right, lambda x: x in items and x not in right, lambda x: x not in items and x in right
    ))  # fmt: skip
    precision, recall = hits / max(1, hits + extra), hits / max(1, hits + missed)
    expected = 2 * precision * recall / (precision + recall) if hits else float(not items and not right)
    assert set_scores([f"{i}{i}" for i in items], [f"{i}{i}" for i in right])["set_f1"] == pytest.approx(expected)


def test_a_set_is_a_list_of_texts():
    assert item_set(["a", "b"]) == ("a", "b")
    assert item_set([]) == ()
    for value in (None, "a, b", [1], [""], {"a": 1}):
        with pytest.raises(BadSample, match="bad_set"):
            item_set(value)


@pytest.mark.parametrize(
    ("labels", "right", "expected"),
    [("AC", "AC", 1), ("A", "AC", 1 / 2), ("AB", "AC", 0), ("ACB", "AC", 1 / 2), ("", "AC", 0), ("ABCD", "ABC", 2 / 3)],
)  # fmt: skip
def test_partial_credit(labels, right, expected):
    assert partial_credit(labels, right) == pytest.approx(expected)


def test_the_best_constants():
    numbers = [number_target(text, {"tolerance": 1}) for text in ("1", "2", "2.5", "9")]
    assert best_number(numbers) == (1.5, "decimal", 3)
    dates = [number_target("2020-01-01", {"number_type": "date"})] * 4
    assert best_number([*numbers, *dates])[1:] == ("date", 4)
    assert best_set([("a", "b"), ("a",), ("a",), ("c",)]) == ("a",)
    brute = max(sum(target.accuracy(value / 4) for target in numbers) for value in range(60))
    assert brute == 3
