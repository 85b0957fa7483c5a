"""Votes over sampled responses: majorities, ties, responses without an answer."""

import pytest

from medvlp.eval.models.answering import Answer
from medvlp.eval.prompting.votes import Voted, key_of


def read(text):
    return None if text[:1] in ("", "?") else text[0]


@pytest.mark.parametrize(
    ("samples", "text", "votes"),
    [
        (["a1", "b", "a2"], "a1", {"a": 2, "b": 1}),
        (["b", "a1", "a2"], "a1", {"a": 2, "b": 1}),  # the first that gives the answer
        (["a1", "b1"], "", {"a": 1, "b": 1}),  # a tie is no guess, whichever came first
        (["a", "b", "c", "b", "a"], "", {"a": 2, "b": 2, "c": 1}),
        (["?1", "?2", "b"], "b", {"b": 1}),  # what has no answer does not vote
        (["?1", "?2"], "?1", {}),
    ],
)
def test_the_answer_of_most_samples_wins(samples, text, votes):
    voted = Voted.of(samples, read)
    assert (str(voted), voted.votes, voted.samples) == (text, votes, tuple(samples))


def test_answers_are_counted_by_what_they_say():
    assert key_of("The Left lung.") == key_of("left lung")
    assert key_of(("B", "A")) == key_of(["A", "B"]) != key_of(("A",))
    assert key_of(5) == key_of(5.0) == "5"
    assert key_of(()) == "(nothing)"
    assert key_of(None) is None


def test_a_vote_took_what_its_samples_took_together():
    samples = [Answer("a", "stop", {"tokens": 3}, "r1"), Answer("a", "length", {"tokens": 4}, "r2")]
    first = [Answer("x", "stop", {"tokens": 5}, "r0")] * 2  # one request
    voted = Voted.of(samples, read, first, 2)
    assert (voted.usage, voted.finish) == ({"tokens": 12}, "stop")
    assert Voted.of([samples[0], Answer("", "too_long")], read).finish == "too_long"
