"""Weights of classes in the cell of a table."""

import pytest

from data_prep.errors import BadRow
from data_prep.readers.tables.label_cells import weights_of_cell


@pytest.mark.parametrize("weight", [10**400, 10**5000, float("inf"), float("nan"), -1, True, "x"], ids=range(7))
def test_a_weight_that_is_none_is_named(weight):
    with pytest.raises(BadRow, match="the weight of 'a' is") as caught:
        weights_of_cell({"w": {"a": weight}}, "w", {})
    assert caught.value.reason == "bad_w"
