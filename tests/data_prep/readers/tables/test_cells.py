"""Cells: lists that were written as text, and what says nothing."""

import pytest

from data_prep.readers.tables.cells import items_of_cell, list_in, value_of_cell
from data_prep.vocabulary.text import says_nothing


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("['pleural effusion', 'nodule']", ["pleural effusion", "nodule"]),
        ('["a", "it\'s", null, 2]', ["a", "it's", None, 2]),
        ("('a', 3)", ["a", 3]),
        ("{'b', 'a'}", ["a", "b"]),
        ("['a' 'b c'\n 'd']", ["a", "b c", "d"]),
        ("['a', nan]", ["a", None]),
        ("[]", []),
        (" [1, 2] ", [1, 2]),
        ("[Translated article]", None),
        ("(left)", None),
        ("('a')", None),
        ('{"a": 1}', None),
        ("plain", None),
        ("", None),
        ("[__import__('os').system('x')]", None),
    ],
)
def test_lists_in_texts(text, content):
    assert list_in(text) == content


@pytest.mark.parametrize("hostile", ["[" * 50_000 + "]", "[" + "'a'," * 40_000 + "]", "[1/0]", "['\0']x", "[{[]: 1}]"])
def test_lists_that_are_refused(hostile):
    assert list_in(hostile) is None


def test_values_and_items():
    entry = {"a": "['x', ('y', None)]", "b": ["x", None, 3], "c": "x; y;", "d": None, "e": True}
    assert value_of_cell(entry, "a") == ["x"]
    assert value_of_cell(entry, "b") == ["x", 3]
    assert (value_of_cell(entry, "c"), value_of_cell(entry, "d"), value_of_cell(entry, "e")) == ("x; y;", "", "true")
    assert items_of_cell(entry, "b") == ["x", "3"]
    assert (items_of_cell(entry, "c"), items_of_cell(entry, "c", ";")) == (None, ["x", "y"])


@pytest.mark.parametrize("text", ["None", " nan ", "N/A", "-", ".", "…", "?!"])
def test_texts_without_words(text):
    assert says_nothing(text)
    assert not says_nothing(f"{text} 骨折")
