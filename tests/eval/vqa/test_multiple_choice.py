"""Multiple choice: tables, laws, and numpy's argmax as the other harnesses use it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvlp.eval.errors import TaskError
from medvlp.eval.vqa import multiple_choice

OPTIONS = {"A": "pneumonia", "B": "no fracture", "C": "left lung", "D": "lung"}


@pytest.mark.parametrize(
    ("logprob", "expected"),
    [
        ({"A": -1.0, "B": -0.5}, "B"),
        ({"A": -0.5, "B": -1.0}, "A"),
        ({"A": -0.5, "B": -0.5}, None),
        ({"A": -0.5, "B": -0.5, "C": -0.1}, "C"),  # a tie behind the best is none
        ({"A": -0.5, "B": -0.5 - 1e-8}, None),
        ({"A": -0.5, "B": -0.5 - 1e-5}, "A"),
        ({"A": -math.inf, "B": -9.0}, "B"),
        ({"A": -math.inf, "B": -math.inf}, None),
        ({"A": -3.0}, "A"),
    ],
)
def test_letter_pick(logprob, expected):
    assert multiple_choice.letter_pick(logprob) == expected


@pytest.mark.parametrize(
    ("sums", "tokens", "options", "by_sum", "by_mean", "by_length"),
    [
        # The long answer loses by its sum and wins by its mean; characters are not tokens.
        ({"A": -2.0, "B": -4.0}, {"A": 1, "B": 4}, {"A": "lung", "B": "left upper lobe"}, "A", "B", "B"),
        ({"A": -2.0, "B": -3.0}, {"A": 1, "B": 2}, {"A": "pneumothorax", "B": "ab cd"}, "A", "B", "A"),
        ({"A": -2.0, "B": -4.0}, {"A": 2, "B": 4}, {"A": "ab", "B": "abcd"}, "A", None, None),
        ({"A": -2.0, "B": -2.1}, {"A": 1, "B": 1}, {"A": "é", "B": "ab"}, "A", "A", "B"),
    ],
)
def test_likelihood_picks(sums, tokens, options, by_sum, by_mean, by_length):
    assert multiple_choice.letter_pick(sums) == by_sum
    assert multiple_choice.mean_likelihood_pick(sums, tokens) == by_mean
    assert multiple_choice.normalised_likelihood_pick(sums, options) == by_length


values = st.lists(st.floats(-50, -0.01), min_size=2, max_size=5)


@given(values, st.data())
def test_picks_equal_argmax_where_nothing_ties(sums, data):
    """lm-evaluation-harness: argmax of the sums over the characters; OmniMedVQA: argmax of 1 / mean loss."""
    letters = "ABCDE"[: len(sums)]
    texts = data.draw(st.lists(st.text("ab é", min_size=1, max_size=12), min_size=len(sums), max_size=len(sums)))
    counts = data.draw(st.lists(st.integers(1, 9), min_size=len(sums), max_size=len(sums)))
    by_letter = dict(zip(letters, sums, strict=True))
    per_character = np.array(sums) / np.array([float(len(text)) for text in texts])
    mean_loss = -np.array(sums) / counts

    pick = multiple_choice.normalised_likelihood_pick(by_letter, dict(zip(letters, texts, strict=True)))
    assert pick == (letters[per_character.argmax()] if is_clear(per_character) else None)
    pick = multiple_choice.mean_likelihood_pick(by_letter, dict(zip(letters, counts, strict=True)))
    assert pick == (letters[(1 / mean_loss).argmax()] if is_clear(-mean_loss) else None)


def is_clear(scores):
    best, second = np.sort(scores)[:-3:-1]
    return best - second > 1e-6


def test_likelihoods_that_cannot_be_compared_are_named():
    with pytest.raises(TaskError, match="NaN"):
        multiple_choice.letter_pick({"A": math.nan, "B": -1.0})
    with pytest.raises(ValueError, match="no options"):
        multiple_choice.letter_pick({})
    with pytest.raises(ValueError, match=r"\['A', 'B'\], tokens of \['A'\]"):
        multiple_choice.mean_likelihood_pick({"A": -1.0, "B": -1.0}, {"A": 1})
    with pytest.raises(ValueError, match="option B has no characters"):
        multiple_choice.normalised_likelihood_pick({"A": -1.0, "B": -1.0}, {"A": "lung", "B": ""})


@pytest.mark.parametrize(
    ("generated", "expected"),
    [
        # a letter alone
        ("A", "A"),
        ("b", "B"),
        ("(B)", "B"),
        (" B.\n", "B"),
        ("**C**", "C"),
        ("Ｂ", "B"),
        ("E", None),
        # an option's text
        ("pneumonia", "A"),
        ("No fracture.", "B"),
        ("A pneumonia", "A"),
        ("the lung", "D"),
        # a letter set off
        ("B) no fracture", "B"),
        ("(B) no fracture", "B"),
        ("B: no fracture", "B"),
        ("B:no fracture", "B"),
        ("B：no fracture", "B"),
        ("**B** no", "B"),
        ("B - because the bone is whole", "B"),
        ("B. because the bone is whole", "B"),
        ("a.m. dose", None),
        ("B-cell lymphoma", None),
        # after a cue
        ("The answer is B", "B"),
        ("the answer is b.", "B"),
        ("Answer: (B)", "B"),
        ("**Answer:** B", "B"),
        ("The correct option is B.", "B"),
        ("I choose option B since", "B"),
        ("The answer is A because", "A"),
        ("The answer is B. A is wrong", "B"),
        ("the answer is a fracture", None),
        ("THE ANSWER IS A FRACTURE", None),
        ("The answer is B-cell lymphoma", None),
        # an option's text within
        ("it is in the left lung", "C"),  # and not D, whose "lung" is inside C's
        ("the left lung, or another lung", None),
        ("there is pneumonia here", "A"),
        ("pneumonias", None),
        # contradictions and nothing
        ("A or B", None),
        ("(A) or (B)", None),
        ("A, B", None),
        ("The answer is A or B", None),
        ("option B and option C", None),
        ("A. no fracture", None),
        ("A. pneumonia B. no fracture C. left lung D. lung", None),
        ("A. B. C. D.", None),
        ("pneumonia and left lung", None),
        ("I cannot tell", None),
        ("", None),
        ("...", None),
    ],
)
def test_match_option(generated, expected):
    assert multiple_choice.match_option(generated, OPTIONS) == expected


@pytest.mark.parametrize(
    ("generated", "options", "expected"),
    [
        ("C. Hepatitis B.", {"A": "Hepatitis A", "B": "Hepatitis C", "C": "Hepatitis B"}, "C"),
        ("Hepatitis B", {"A": "Hepatitis A", "B": "Hepatitis C", "C": "Hepatitis B"}, "C"),
        ("B. cereus", {"A": "B. cereus", "B": "S. aureus"}, "A"),
        ("1.5 cm", {"A": "15 cm", "B": "1.5 cm"}, "B"),
        ("lung", {"A": "lung", "B": "Lung."}, None),  # two options of one text
        ("in the lung here", {"A": "lung", "B": "Lung."}, None),
        ("B. Lung", {"A": "lung", "B": "Lung."}, "B"),
        ("是左肺。", {"A": "左肺", "B": "右肺"}, "A"),
        ("", {"A": "", "B": "lung"}, None),
    ],
)
def test_match_option_with_awkward_options(generated, options, expected):
    assert multiple_choice.match_option(generated, options) == expected


@given(
    st.permutations(list(OPTIONS.values())), st.sampled_from("ABCD"), st.sampled_from(["{}", "({})", "{}. {t}", "{t}"])
)
def test_match_option_follows_the_options(texts, letter, form):
    options = dict(zip("ABCD", texts, strict=True))
    assert multiple_choice.match_option(form.format(letter, t=options[letter]), options) == letter


def test_match_option_needs_options():
    with pytest.raises(ValueError, match="no options"):
        multiple_choice.match_option("A", {})


@pytest.mark.parametrize(
    ("generated", "options", "expected"),
    [
        ("left lung", OPTIONS, "C"),
        ("fractured", OPTIONS, "B"),
        ("lungs", OPTIONS, "D"),
        ("ab", {"A": "xa", "B": "ax"}, "A"),  # equals: the first
        ("ab", {"B": "ax", "A": "xa"}, "B"),
        ("Z", OPTIONS, None),
        ("", OPTIONS, None),
        ("LUNG", {"A": "Lungs", "B": "LX"}, "B"),  # case counts
    ],
)
def test_most_similar_pick(generated, options, expected):
    assert multiple_choice.most_similar_pick(generated, options) == expected
