"""Conditions: what the grammar reads, what it refuses, and where it points."""

from fractions import Fraction

import pytest

from medvlp.selection import ConditionError, parse_condition
from medvlp.selection.syntax import (
    MAX_DEPTH,
    Best,
    Both,
    Comparison,
    Either,
    ListedIn,
    Membership,
    Missing,
    Negation,
    leaves,
)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("width >= 224", Comparison("width", ">=", "224")),
        ("width>=224", Comparison("width", ">=", "224")),
        ("licence == CC-BY-4.0", Comparison("licence", "=", "CC-BY-4.0")),
        ("modality != 'X ray, plain'", Comparison("modality", "!=", "X ray, plain")),
        ('modality = "in"', Comparison("modality", "=", "in")),
        ("modality in (CT, 'X ray')", Membership("modality", ("CT", "X ray"))),
        ("modality not in [CT]", Negation(Membership("modality", ("CT",)))),
        ("key in file lists/a.txt", ListedIn("key", "lists/a.txt")),
        ("key not in file 'my lists/a.txt'", Negation(ListedIn("key", "my lists/a.txt"))),
        ("b.language is missing", Missing("b.language")),
        ("language is not missing", Negation(Missing("language"))),
        ("top 30% by b.similarity", Best("b.similarity", True, share=Fraction(3, 10))),
        ("bottom 12.5% by score", Best("score", False, share=Fraction(1, 8))),
        ("top 1000 by score", Best("score", True, count=1000)),
        (
            "a = 1 or b = 2 and not c = 3",
            Either((Comparison("a", "=", "1"), Both((Comparison("b", "=", "2"), Negation(Comparison("c", "=", "3")))))),
        ),
        (
            "(a = 1 or b = 2) and c = 3",
            Both((Either((Comparison("a", "=", "1"), Comparison("b", "=", "2"))), Comparison("c", "=", "3"))),
        ),
    ],
)
def test_a_condition_is_a_tree(text, tree):
    assert parse_condition(text, "k") == tree
    assert all(leaf.column for leaf in leaves(tree))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "k: '' is no condition"),
        ("width >", r"k: width >⟨here⟩ — expected a value"),
        ("width 3", r"k: width ⟨here⟩3 — expected = !="),
        ("3width = 3", r"k: ⟨here⟩3width = 3 — expected a column's name"),
        ("and = 3", "expected a column's name"),
        ("a = 1 b = 2", r"k: a = 1 ⟨here⟩b = 2 — expected and, or, or the end"),
        ("(a = 1", r"expected \)"),
        ("a in (1, 2]", r"expected \)"),
        ("a in ()", "expected a value"),
        ("a in file", "expected a file"),
        ("a = 'x", r"k: a = ⟨here⟩'x — expected a column, a sign or a value"),
        ("top x% by a", "expected a share such as 30%"),
        ("top 0% by a", "expected a share such as 30%"),
        ("top 2.5 by a", "expected a share such as 30%"),
        ("top 130% by a", "130% is more than there is"),
        ("top 30% of a", "expected by"),
        ("__import__('os').system('x')", "expected = !="),
        ("(" * (MAX_DEPTH + 1), "no more than 50 brackets"),
        ("not " * 2000 + "a = 1", "no more than 50 brackets"),
        ("a = " + "1" * 10_000, "is no condition"),
    ],
)
def test_what_is_no_condition_is_refused_where_it_goes_wrong(text, message):
    with pytest.raises(ConditionError, match=message):
        parse_condition(text, "k")
