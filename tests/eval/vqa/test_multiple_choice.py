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


def harness(sums, texts, gold):
    """lm-evaluation-harness's acc, acc_norm and acc_bytes of one question, written from their definitions: the first option with
    the highest log-likelihood, plain, a character and a byte."""
    lengths = {"acc": [1] * len(texts), "acc_norm": [], "acc_bytes": []}
    for text in texts:
        lengths["acc_norm"].append(sum(1 for _ in text))
        lengths["acc_bytes"].append(sum(1 for _ in text.encode("utf-8")))
    results = {}
    for name, of_texts in lengths.items():
        best, best_score = None, -math.inf
        for position in range(len(texts)):
            score = sums[position] / of_texts[position]
            if best is None or score > best_score:
                best, best_score = position, score
        results[name] = float(best == gold)
    return results


OPTION_TEXTS = st.lists(st.text("ab é肺µ", min_size=1, max_size=12), min_size=2, max_size=6)


@given(OPTION_TEXTS, st.data())
def test_picks_equal_the_harness_where_nothing_ties(texts, data):
    letters = "ABCDEF"[: len(texts)]
    sums = data.draw(st.lists(st.floats(-50, -0.01), min_size=len(texts), max_size=len(texts)))
    gold = data.draw(st.integers(0, len(texts) - 1))
    expected = harness(sums, texts, gold)
    by_letter, options = dict(zip(letters, sums, strict=True)), dict(zip(letters, texts, strict=True))
    picks = {
        "acc": (multiple_choice.letter_pick(by_letter), np.array(sums)),
        "acc_norm": (
            multiple_choice.normalised_likelihood_pick(by_letter, options),
            np.array(sums) / list(map(len, texts)),
        ),
        "acc_bytes": (
            multiple_choice.byte_likelihood_pick(by_letter, options),
            np.array(sums) / [len(text.encode()) for text in texts],
        ),
    }
    for name, (pick, scores) in picks.items():
        assert pick is None if not is_clear(scores) else float(pick == letters[gold]) == expected[name]


@given(OPTION_TEXTS, st.data())
def test_the_mean_of_the_tokens_equals_omnimedvqa_s_reciprocal_loss(texts, data):
    letters = "ABCDEF"[: len(texts)]
    counts = data.draw(st.lists(st.integers(1, 9), min_size=len(texts), max_size=len(texts)))
    nats = [data.draw(st.lists(st.floats(-9, -0.01), min_size=count, max_size=count)) for count in counts]
    losses = [sum(-value for value in row) / len(row) for row in nats]
    powers = [math.exp(1 / loss) if loss > 0.002 else math.inf for loss in losses]
    sums = {letter: sum(row) for letter, row in zip(letters, nats, strict=True)}
    pick = multiple_choice.mean_likelihood_pick(sums, dict(zip(letters, counts, strict=True)))
    if is_clear(-np.array(losses)) and max(powers) < math.inf:
        assert pick == letters[powers.index(max(powers))]
    elif not is_clear(-np.array(losses)):
        assert pick is None


def test_bytes_and_characters_differ_beyond_ascii():
    options = {"A": "肺炎", "B": "abc"}
    sums = {"A": -4.0, "B": -5.0}
    assert multiple_choice.normalised_likelihood_pick(sums, options) == "B"  # -2 against -1.67 a character
    assert multiple_choice.byte_likelihood_pick(sums, options) == "A"  # -0.67 against -1.67 a byte
    assert harness([-4.0, -5.0], list(options.values()), 0) == {"acc": 1.0, "acc_norm": 0.0, "acc_bytes": 1.0}


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
        (
            "B",
            {"A": "Normal", "B": "Fracture", "C": "Bronchiectasis"},
            None,
        ),  # a letter is no text, and resembles no "Bronchiectasis"
        ("(b).", {"A": "Normal", "B": "Fracture", "C": "Bronchiectasis"}, None),
        ("Bronchiectasia", {"A": "Normal", "B": "Fracture", "C": "Bronchiectasis"}, "C"),
        ("C", {"A": "C", "B": "D"}, "A"),  # here it is the text of an option
    ],
)
def test_most_similar_pick(generated, options, expected):
    assert multiple_choice.most_similar_pick(generated, options) == expected
