"""Labels as samples hold them: one class, or the states of several."""

import math

import numpy as np
import pytest

from medvlp.data.labels import MISSING, ClassLabels, UnknownLabel, read_labels
from medvlp.shards import BadSample, Sample

NAN = math.nan
SINGLE = ClassLabels("finding", ("mass", "cyst", "1"), exclude=("unclear",))
SEVERAL = ClassLabels("findings", ("mass", "cyst"), multi_label=True, exclude=("scar",))


@pytest.mark.parametrize(
    ("labels", "index"),
    [
        ({"finding": "mass"}, 0),
        ({"finding": " cyst "}, 1),
        ({"finding": ["cyst"]}, 1),
        ({"finding": 1}, 2),
        ({"finding": 1.0}, 2),
        ({"finding": "unclear"}, MISSING),
        ({"finding": ""}, MISSING),
        ({"finding": None}, MISSING),
        ({"finding": NAN}, MISSING),
        ({"finding": ["", "mass", None]}, 0),
        ({}, 1),  # of the metadata
    ],
)
def test_one_class(labels, index):
    assert SINGLE.class_index(labels, {"finding": "cyst"}) == index


@pytest.mark.parametrize("value", ["Mass", "tumour", 2, True, ["mass", "cyst"], {"mass": 1}])
def test_what_is_no_class_is_said(value):
    with pytest.raises(UnknownLabel):
        SINGLE.class_index({"finding": value}, {})


@pytest.mark.parametrize(
    ("value", "states"),
    [
        (["mass"], [1, 0]),
        (["cyst", "scar", "mass"], [1, 1]),
        ([], [0, 0]),
        ("cyst", [0, 1]),
        (None, [NAN, NAN]),
        *((blank, [NAN, NAN]) for blank in ("", " ", [""], [None, " "], NAN, [NAN])),
        (["", "mass"], [1, 0]),
        ({"mass": 1, "cyst": 0}, [1, 0]),
        ({"mass": True, "cyst": False, "scar": 1}, [1, 0]),
        ({"mass": "1.0", "cyst": "0"}, [1, 0]),
        ({"mass": 1.0}, [1, NAN]),
        ({"mass": None, "cyst": ""}, [NAN, NAN]),
        ({"mass": NAN, "cyst": 1}, [NAN, 1]),
        ({"mass": "nan", "cyst": "NaN"}, [NAN, NAN]),
        ({"mass": -1, "cyst": "-1.0"}, [NAN, NAN]),
        ({}, [NAN, NAN]),
    ],
)
def test_states_of_several_classes(value, states):
    assert np.array_equal(SEVERAL.states({"findings": value}, {}), np.array(states, np.float32), equal_nan=True)


@pytest.mark.parametrize(
    "value", [["mass", "tumour"], {"tumour": 1}, {"mass": 2}, {"mass": "yes"}, {"mass": [1]}, [0, 1]]
)
def test_states_that_are_not_known_are_said(value):
    with pytest.raises(UnknownLabel):
        SEVERAL.states({"findings": value}, {})


@pytest.mark.parametrize(
    ("value", "several", "unknown", "unreadable"),
    [
        ("tumour", False, ["tumour"], []),
        ("tumour", True, ["tumour"], []),
        ({"mass": 7}, False, [], ["a mapping where one class is expected"]),
        ({"mass": 7}, True, [], ["mass=7"]),
        (["mass", "cyst"], False, [], ["2 names where one class is expected"]),
        ([""], True, [], []),
    ],
)
def test_a_name_is_told_from_what_is_no_label(value, several, unknown, unreadable):
    labels = ClassLabels("finding", ("mass", "cyst"), several)
    (table,) = read_labels(Rows([Sample("s", labels={"finding": value})]), [labels])
    assert (list(table.unknown), list(table.unreadable)) == (unknown, unreadable)


@pytest.mark.parametrize(("policy", "state"), [("missing", NAN), ("negative", 0), ("positive", 1)])
def test_policies_of_uncertain_labels(policy, state):
    labels = ClassLabels("", ("mass", "cyst"), multi_label=True, uncertain=policy)
    expected = np.array([state, 1], np.float32)
    assert np.array_equal(labels.states({"mass": -1, "cyst": 1, "other": "x"}, {}), expected, equal_nan=True)


def test_a_star_excludes_all_others():
    single, multiple = (
        ClassLabels("f", ("mass",), multi_label=is_several, exclude=("*",)) for is_several in (False, True)
    )
    assert single.class_index({"f": "anything"}, {}) == MISSING
    assert multiple.states({"f": ["anything", "mass"]}, {}).tolist() == [1]


def test_it_comes_back_from_a_checkpoint():
    assert ClassLabels.from_metadata(SEVERAL.metadata()) == SEVERAL


class Rows(list):
    """Samples by row; None cannot be read."""

    def read_text(self, row):
        if self[row] is None:
            raise BadSample("broken_json", key="x", detail="")
        return self[row]


def test_a_table_counts_classes_missing_and_unknown_labels():
    values = ["mass", "cyst", "mass", None, "unclear", "tumour", "tumour"]
    rows = Rows([*(Sample(f"s{n}", labels={"finding": value}) for n, value in enumerate(values)), None])
    several = ClassLabels("finding", ("mass",), multi_label=True, exclude=("*",))
    one_table, several_table = read_labels(rows, [SINGLE, several])
    assert one_table.target.tolist() == [0, 1, 0, *[MISSING] * 5]
    assert one_table.counts() == {"mass": (2, 1), "cyst": (1, 2), "1": (0, 3)}
    assert dict(one_table.unknown) == {"tumour": 2}
    assert one_table.is_labelled_N.sum() == 3
    assert several_table.counts() == {"mass": (2, 4)}
    assert several_table.is_labelled_N.tolist() == [True, True, True, False, True, True, True, False]
    assert several_table.take(np.array([0, 3])).counts() == {"mass": (1, 0)}
