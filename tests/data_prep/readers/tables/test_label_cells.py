"""Classes and their weights in the cell of a table."""

import pytest

from data_prep.errors import BadRow
from data_prep.readers.tables.label_cells import classes_of_cell, weights_of_cell


@pytest.mark.parametrize("weight", [10**400, 10**5000, float("inf"), float("nan"), -1, True, "x"], ids=range(7))
def test_a_weight_that_is_none_is_named(weight):
    with pytest.raises(BadRow, match="the weight of 'a' is") as caught:
        weights_of_cell({"w": {"a": weight}}, "w", {})
    assert caught.value.reason == "bad_w"


@pytest.mark.parametrize(
    ("cell", "classes"),
    [
        ("a|b", ["a", "b"]),
        ("a, b", ["a, b"]),
        ("['a', 'nan']", ["a"]),
        ("nan", ["nan"]),
        ("['nan']", None),
        ("[]", []),
        ([], []),
        ("", None),
        (None, None),
        (["nan"], None),
        ("['<NA>', None]", None),
    ],
)
def test_a_blank_states_nothing_and_an_empty_list_states_none(cell, classes):
    assert classes_of_cell({"c": cell}, "c", {}) == classes
