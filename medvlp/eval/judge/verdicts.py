"""What judges are asked about an answer, and what their responses come to. A reply that gives no verdict gives none: no guess."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medvlp.config.evaluation.answering.judge import TEXT, Rubric
from medvlp.shards.vocabulary import IMAGE_TOKEN

CORRECT, INCORRECT, NOT_ATTEMPTED = GRADE_NAMES = ("correct", "incorrect", "not attempted")
LOWEST, HIGHEST = 1, 10
NOTHING = "(nothing)"
IMAGES, NO_IMAGES = "The images above are those of the question.", "You are shown no image."
GRADE_LINES = tuple(f"Grade: {name}" for name in GRADE_NAMES)
WIN, TIE, LOSS = "better", "equal", "worse"
JUDGE, SECOND = FIELDS = ("judge", "second_judge")
"""Fields of a record with the verdicts, and beginnings of the metrics' names."""

_TAG = re.compile(r"<(?=/?(?:question|information|right_answer|answer(?:_[12])?)\s*>)", re.IGNORECASE)
_GRADE_LINE = re.compile(
    r"\W*(?:final\s+)?grade\s*(?:is|[:=\-–])\W*(correct|incorrect|not[ _-]attempted)\W*", re.IGNORECASE
)
_GRADE_ALONE = re.compile(r"\W*(correct|incorrect|not[ _-]attempted)\W*", re.IGNORECASE)
_NUMBER = r"(\d+(?:\.\d+)?)(?:\s*/\s*10)?"
_SCORE_LINE = re.compile(rf"\W*scores?\s*[:=]\W*{_NUMBER}(?:\s*[,;]\s*|\s+(?:and\s+)?){_NUMBER}\W*", re.IGNORECASE)
_SCORES_ALONE = re.compile(rf"\W*{_NUMBER}(?:\s*[,;]\s*|\s+){_NUMBER}\W*")


@dataclass(frozen=True)
class Judged:
    """What a judge reads of one item.

    reference: the right answer, or several, one a line. answer: the model's. row: of the sample whose images the judge sees;
    None without.
    """

    question: str
    context: str
    reference: str
    answer: str
    row: int | None = None


def prompt_of(rubric: Rubric, values: Mapping[str, str], scoring: str = TEXT) -> str:
    """A rubric's prompt, filled in one go: braces in an answer are no placeholders, its tags do not end the prompt's, and it has
    no place of an image."""

    def filled(match: re.Match[str]) -> str:
        text = values[match[1]].replace(IMAGE_TOKEN, "(image)").strip()
        return _TAG.sub("< ", text) or NOTHING

    return re.sub("{(" + "|".join(values) + ")}", filled, rubric.prompt_for(scoring))


def grade_prompt(rubric: Rubric, item: Judged, scoring: str = TEXT) -> str:
    """About one answer."""
    return prompt_of(rubric, _common(item) | {"reference": item.reference, "answer": item.answer}, scoring)


def pair_prompts(rubric: Rubric, item: Judged, scoring: str = TEXT) -> tuple[str, str]:
    """About the right answer and the model's: the right one first, then the model's first."""
    return (
        prompt_of(rubric, _common(item) | {"first": item.reference, "second": item.answer}, scoring),
        prompt_of(rubric, _common(item) | {"first": item.answer, "second": item.reference}, scoring),
    )


def _common(item: Judged) -> dict[str, str]:
    return {
        "question": item.question,
        "context": item.context,
        "images": NO_IMAGES if item.row is None else IMAGES,
    }


def grade_in(reply: str) -> str | None:
    """The grade that a reply gives: the only one on lines `Grade: ...`, or a reply that is nothing but a grade."""
    lines = reply.strip().splitlines()
    grades = {_grade(match[1]) for line in lines if (match := _GRADE_LINE.fullmatch(line.strip()))}
    if not grades and len(lines) == 1 and (match := _GRADE_ALONE.fullmatch(lines[0].strip())):
        grades = {_grade(match[1])}
    return grades.pop() if len(grades) == 1 else None


def _grade(text: str) -> str:
    return re.sub(r"[ _-]+", " ", text.lower())


def scores_in(reply: str) -> tuple[float, float] | None:
    """The two scores that a reply gives, in the order of the prompt: the only ones on lines `Scores: 7 8`, or the first line if
    it is nothing but two numbers."""
    lines = [line.strip() for line in reply.strip().splitlines()]
    pairs = {(float(m[1]), float(m[2])) for line in lines if (m := _SCORE_LINE.fullmatch(line))}
    if not pairs and lines and (match := _SCORES_ALONE.fullmatch(lines[0])):
        pairs = {(float(match[1]), float(match[2]))}
    if len(pairs) != 1:
        return None
    first, second = pairs.pop()
    return (first, second) if all(LOWEST <= score <= HIGHEST for score in (first, second)) else None


def score_lines(start: str = "Scores:") -> tuple[str, ...]:
    """All lines with one score more."""
    return tuple(f"{start} {score}" for score in range(LOWEST, HIGHEST + 1))


def probabilities_of(likelihoods: Sequence[tuple[float, int]]) -> list[float]:
    """Probabilities of lines, of which one is what is written: from (nats, tokens) of each.

    The tokens of the first of `score_lines` can be the beginning of those of the last (1 of 10), whose probability is then in
    the first's, and is taken out.
    """
    best = max(nats for nats, _ in likelihoods)
    weights = [math.exp(nats - best) for nats, _ in likelihoods]
    if len(weights) == HIGHEST and likelihoods[-1][1] > likelihoods[0][1]:
        weights[0] = max(0.0, weights[0] - weights[-1])
    return [round(weight / sum(weights), 6) for weight in weights]


def likeliest(probabilities: Sequence[float]) -> int | None:
    """The index of the largest; None of several that tie."""
    best = max(probabilities)
    return probabilities.index(best) if list(probabilities).count(best) == 1 else None


def mean_score(probabilities: Sequence[float]) -> float:
    """The mean of the scores under their probabilities (G-Eval, Liu et al. 2023)."""
    scores = range(LOWEST, HIGHEST + 1)
    return round(sum(s * p for s, p in zip(scores, probabilities, strict=True)) / sum(probabilities), 4)


def grade_of(verdict: Mapping[str, Any]) -> str | None:
    """A verdict as one of three classes, in which judges agree or not."""
    if "grade" in verdict:
        return verdict["grade"]
    if None in verdict["scores"]:
        return None
    return {1: WIN, 0: TIE, -1: LOSS}[sign(sum(answer - right for right, answer in verdict["scores"]))]


def sign(value: float) -> int:
    """1, 0 or -1."""
    return (value > 0) - (value < 0)
