"""ROUGE-1 of a correction as MEDIQA-CORR's script has it, and scores where one side or both say that nothing is wrong."""

from collections.abc import Mapping

EPSILON = 1e-8
"""What pltrdy's `rouge` adds to the denominator of F1."""


def rouge_1(correction: str, reference: str) -> float:
    """F1 of the different words of two sentences, as of the package `rouge` 1.0.1 that the script calls: case is kept, full
    stops are taken out, other marks stay with their words. A correction without words scores 0."""
    words, expected = _words(correction), _words(reference)
    if not words or not expected:
        return 0.0
    hits = len(words & expected)
    precision, recall = hits / len(words), hits / len(expected)
    return 2 * precision * recall / (precision + recall + EPSILON)


def _words(text: str) -> set[str]:
    parts = [" ".join(part.split()) for part in text.split(".") if part]
    return {word for part in parts for word in part.split(" ")}


def clipped(value: float) -> float:
    """A score within 0 and 1, so that it can be averaged with texts that are right as they are."""
    return min(1.0, max(0.0, value))


def composite(score: float | None, reference: str, correction: str) -> float:
    """A text's score in the composite: 1 where neither side corrects anything, 0 where one of them does, else `score`."""
    if not reference and not correction:
        return 1.0
    return score if reference and correction and score is not None else 0.0


AGGREGATED = ("rouge_1", "bert_score", "bleurt")
"""Scores whose mean is the published aggregate; it is given where all three are there."""


def aggregate(scores: Mapping[str, float]) -> float | None:
    """The mean of `AGGREGATED`; None where one of them is missing."""
    if not all(name in scores for name in AGGREGATED):
        return None
    return sum(scores[name] for name in AGGREGATED) / len(AGGREGATED)
