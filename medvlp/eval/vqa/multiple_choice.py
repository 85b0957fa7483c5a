"""Multiple choice: from likelihoods, or from the similarity of texts, to the letter that was picked.

Every function returns the letter of one option, or None for a tie, or a text that can be compared with none. None counts as
wrong. It is never replaced by a random guess and never leaves the denominator. What a reply names is told by
`medvlp.eval.answers.extract_choice`.

Legend: what is keyed by letter ("A", "B", ...) has one value an option. A sum of log-probabilities is over the
option's tokens, in nats.
"""

import math
import re
from collections.abc import Mapping
from difflib import SequenceMatcher

from medvlp.eval.errors import TaskError

TIE_MARGIN = 1e-6
"""Scores this close are equal: batching and padding move a log-likelihood by as much in float32."""


# From likelihoods


def letter_pick(logprob: Mapping[str, float]) -> str | None:
    """The letter that is likeliest as the answer's first token (as MMLU is scored; Hendrycks 2021)."""
    return _largest(logprob)


def mean_likelihood_pick(sum_logprob: Mapping[str, float], tokens: Mapping[str, int]) -> str | None:
    """The option with the highest mean log-probability a token.

    OmniMedVQA's prefix-based score (Hu 2024) is this pick over the continuation " {option}." of the prompt
    "Question: {question} The answer is"; its script gives a tie to the first option, here it is None.
    """
    return _largest(_per(sum_logprob, tokens, "tokens"))


def normalised_likelihood_pick(sum_logprob: Mapping[str, float], options: Mapping[str, str]) -> str | None:
    """The option with the highest log-probability a character of its text: lm-evaluation-harness's acc_norm.

    Independent of the tokenizer. The harness counts characters, without the space before the option; in ASCII they are
    bytes. A tie is None here, the first option there.
    """
    return _largest(_per(sum_logprob, {letter: len(text) for letter, text in options.items()}, "characters"))


def byte_likelihood_pick(sum_logprob: Mapping[str, float], options: Mapping[str, str]) -> str | None:
    """The option with the highest log-probability a byte of its text in UTF-8: lm-evaluation-harness's acc_bytes."""
    return _largest(_per(sum_logprob, {letter: len(text.encode()) for letter, text in options.items()}, "bytes"))


def _per(sum_logprob: Mapping[str, float], lengths: Mapping[str, int], unit: str) -> dict[str, float]:
    if sum_logprob.keys() != lengths.keys():
        raise ValueError(
            f"likelihoods are of options {sorted(sum_logprob)}, {unit} of {sorted(lengths)}; expected equal"
        )
    empty = [letter for letter, length in lengths.items() if length < 1]
    if empty:
        raise ValueError(f"option {empty[0]} has no {unit}: its likelihood has no mean; leave the option out")
    return {letter: value / lengths[letter] for letter, value in sum_logprob.items()}


def _largest(scores: Mapping[str, float]) -> str | None:
    if not scores:
        raise ValueError("no options: expected one score a letter")
    if any(math.isnan(score) or score == math.inf for score in scores.values()):
        raise TaskError(f"likelihoods hold NaN or +infinity: {dict(scores)}; check the checkpoint")
    best, *lower = sorted(scores, key=lambda letter: -scores[letter])
    if lower and (scores[best] == scores[lower[0]] or scores[best] - scores[lower[0]] <= TIE_MARGIN):
        return None  # the equality is for two that are impossible, whose difference is NaN
    return best


# From the similarity of texts


def most_similar_pick(generated: str, options: Mapping[str, str]) -> str | None:
    """OmniMedVQA's question-answering score (Hu 2024): the option most similar to the generated text.

    Similarity is difflib's ratio on the raw characters. As in its script the first of equals is picked, and none where
    no character is shared. Not as in its script, a reply that is nothing but a letter picks none: "B" has no text to compare,
    and would resemble "Bronchiectasis". Nearly every other reply picks something.
    """
    letters = {_bare(letter) for letter in options} - {_bare(option) for option in options.values()}
    if _bare(generated) in letters:
        return None
    ratios = {letter: SequenceMatcher(None, option, generated).ratio() for letter, option in options.items()}
    best = max(ratios, key=lambda letter: ratios[letter])
    return best if ratios[best] > 0 else None


def _bare(text: str) -> str:
    """A text without case, blanks and marks."""
    return re.sub(r"\W+", "", text).casefold()
