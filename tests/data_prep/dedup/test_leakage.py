"""The one count of leakage, and pictures under two labels."""

import numpy as np
import pytest

from data_prep.dedup.duplicates import find_copies
from data_prep.dedup.leakage import BYTES, PICTURE, Conflict, Leak, find_conflicts, find_leaks
from data_prep.dedup.visual_matches import Limits
from tests.data_prep.dedup.fingerprinted import fingerprints_of, sample_of, scene
from tests.data_prep.dedup.test_duplicates import made
from tests.data_prep.planted import encoded


def leaked(contents, edges, splits):
    """splits: t for train, x for test, - for a sample that was dropped."""
    train_N, test_N = (np.array([letter == each for letter in splits]) for each in "tx")
    return [(leak.row, leak.train_row, leak.match) for leak in find_leaks(made(contents, edges), train_N, test_N)]


@pytest.mark.parametrize(
    ("contents", "edges", "splits", "expected"),
    [
        pytest.param([[0], [0], [1]], [], "txx", [(1, 0, BYTES)], id="bytes"),
        pytest.param([[0], [1], [2]], [(0, 1)], "txx", [(1, 0, PICTURE)], id="picture"),
        pytest.param([[0], [1], [0]], [(0, 1)], "ttx", [(2, 0, BYTES)], id="bytes come first, and it counts once"),
        pytest.param(
            [[0], [0], [0], [0]], [], "ttxx", [(2, 0, BYTES), (3, 0, BYTES)], id="each of test, not each pair"
        ),
        pytest.param([[0], [0]], [], "xx", [], id="copies inside test are in no train"),
        pytest.param([[0], [0]], [], "-x", [], id="what was dropped is not trained on"),
        pytest.param([[0], [0]], [], "t-", [], id="what was dropped is not tested on"),
        pytest.param([[0, 1], [2, 1]], [], "tx", [(1, 0, BYTES)], id="one of several images is enough"),
        # Test's row is like the dropped row alone: no chain leads from it to train.
        pytest.param([[0], [1], [2]], [(0, 1), (1, 2)], "t-x", [], id="no chain"),
    ],
)
def test_held_out_samples_that_are_in_train(contents, edges, splits, expected):
    assert leaked(contents, edges, splits) == expected


def test_the_most_alike_is_named():
    copies = made([[0], [1], [2]], [(0, 2), (1, 2)])
    copies.neighbours[2] = {0: (3, 0.97), 1: (3, 0.99)}
    leaks = find_leaks(copies, np.array([True, True, False]), np.array([False, False, True]))
    assert leaks == [Leak(2, 1, PICTURE, 0.99)]


def test_one_picture_under_two_labels(tmp_path):
    whole, other = encoded(scene(0)), encoded(scene(1))
    samples = [
        sample_of("a", whole, labels={"tumour": "glioma", "grade": 2}),
        sample_of("b", whole, labels={"tumour": "meningioma", "grade": 2}),
        sample_of("c", whole, labels={"tumour": "glioma"}),  # the same as far as both say
        sample_of("d", encoded(scene(0), 60), labels={"tumour": "none", "side": "left"}),
        sample_of("e", other, labels={"tumour": "none"}),
        sample_of("f", other),
    ]
    marks = fingerprints_of(tmp_path / "marks", samples, per_file=4)
    assert find_conflicts(find_copies(marks, Limits()), marks) == [
        Conflict(1, 0, BYTES, {"tumour": ["meningioma", "glioma"]}),
        Conflict(3, 0, PICTURE, {"tumour": ["none", "glioma"]}),
    ]
