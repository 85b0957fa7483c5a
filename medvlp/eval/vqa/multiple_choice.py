"""Multiple choice: from likelihoods, or from a generated text, to the letter that was picked.

Every function returns the letter of one option, or None for an answer that cannot be told: a tie, or a text that names
no single option. None counts as wrong and as unparsed. It is never replaced by a random guess and never leaves the
denominator.

Legend: what is keyed by letter ("A", "B", ...) has one value an option. A sum of log-probabilities is over the
option's tokens, in nats.
"""

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from difflib import SequenceMatcher

from medvlp.eval.errors import TaskError
from medvlp.eval.vqa.metrics import normalize

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


# From a generated text


def match_option(generated: str, options: Mapping[str, str]) -> str | None:
    """The one option that a generated answer names, or None. options: text by letter.

    In this order, the first that applies. The whole answer is a letter: "B", "(b)", "B." The whole answer is an
    option's text, as `normalize` sees it. Letters are named: at the start and set off by a mark ("B) no fracture"), or
    after a cue ("the answer is B", "Answer: (B)", "option B"). Exactly one option's text occurs as whole words; one
    inside a longer option's does not count for itself ("the left lung" names "left lung", not "lung").

    An answer that contradicts itself names none: "(A) or (B)", "A." followed by the text of B, the list of options
    repeated. "the answer is a fracture" names no A. Negations are not understood.
    """
    if not options:
        raise ValueError("no options: expected a text a letter")
    generated = unicodedata.normalize("NFKC", generated)
    bare = re.sub(r"^\W+|\W+$", "", generated).casefold()
    for letters in (
        {letter for letter in options if letter.casefold() == bare},
        _lettered_text(generated, options),  # before the text alone, where the A of "A. no fracture" is an article
        _with_text(generated, options),
        _named(generated, options),
        _mentioned(generated, options),
    ):
        if letters:
            return letters.pop() if len(letters) == 1 else None
    return None


def _with_text(text: str, options: Mapping[str, str]) -> set[str]:
    """The letters of the options that normalise to the same tokens."""
    return {letter for letter, option in options.items() if normalize(option) == normalize(text) != ""}


_CUE = re.compile(r"\b(?:answer|option|choice)(?:\s+is)?[\s:*\"'(\[]*$", re.IGNORECASE)
_SET_OFF = r"\s*(?:[.,:)\]*]+(?=\W|$|[^\W\d_]{2})|-\s)"  # "B.", "B)", "B:no fracture", "**B**", but not "a.m."
_CONJUNCTION = re.compile(r"[\s,/&()\[\]]*(?:\b(?:or|and)\b)?[\s()\[\]]*", re.IGNORECASE)


def _lead(generated: str, options: Mapping[str, str]) -> re.Match[str] | None:
    """A letter at the start that is set off by a mark; group 1 is the letter."""
    return re.match(rf"\W*({_any_of(options)}){_SET_OFF}", generated, re.IGNORECASE)


def _any_of(options: Mapping[str, str]) -> str:
    return "|".join(re.escape(letter) for letter in options)


def _lettered_text(generated: str, options: Mapping[str, str]) -> set[str]:
    """A letter and then an option's text, nothing else: that letter, or all letters where the two disagree."""
    lead = _lead(generated, options)
    letters = _with_text(generated[lead.end() :], options) if lead else set()
    if not lead or not letters:
        return set()
    letter = _letter(lead.group(1), options)
    return {letter} if letter in letters else letters | {letter}


def _letter(spelling: str, options: Mapping[str, str]) -> str:
    return next(letter for letter in options if letter.casefold() == spelling.casefold())


def _named(generated: str, options: Mapping[str, str]) -> set[str]:
    """The letters that an answer names as such: more than one where it wavers."""
    lead = _lead(generated, options)
    letters: set[str] = set()
    end = 0
    for mention in re.finditer(rf"(?<![\w'’-])(?:{_any_of(options)})(?!\w|[-'’]\w)", generated, re.IGNORECASE):
        is_lead = lead is not None and lead.start(1) == mention.start()
        is_listed = lead is not None and re.match(r"[.:)\]]\s+\w", generated[mention.end() :]) is not None
        is_joined = bool(letters) and _CONJUNCTION.fullmatch(generated, end, mention.start()) is not None
        if is_lead or is_listed or is_joined or _follows_cue(mention, generated):
            letters.add(_letter(mention.group(), options))
            end = mention.end()
    return letters


def _follows_cue(mention: re.Match[str], generated: str) -> bool:
    """Before another word only a capital is a letter, "answer is B since", and where all is in capitals not even that."""
    before_word = re.match(r"\s+\w", generated[mention.end() :]) is not None
    is_letter = not before_word or (mention.group().isupper() and not generated.isupper())
    return is_letter and _CUE.search(generated[: mention.start()]) is not None


def _mentioned(generated: str, options: Mapping[str, str]) -> set[str]:
    """The letters of the options whose text occurs as whole words, longer texts first."""
    by_text: dict[str, set[str]] = defaultdict(set)
    for letter, option in options.items():
        by_text[normalize(option)].add(letter)
    letters: set[str] = set()
    remainder = normalize(generated)
    for text in sorted(by_text.keys() - {""}, key=len, reverse=True):
        remainder, times = re.subn(rf"(?<!\S){re.escape(text)}(?!\S)", "|", remainder)
        if times:
            letters |= by_text[text]
    return letters


def most_similar_pick(generated: str, options: Mapping[str, str]) -> str | None:
    """OmniMedVQA's question-answering score (Hu 2024): the option most similar to the generated text.

    Similarity is difflib's ratio on the raw characters. As in its script the first of equals is picked, and none where
    no character is shared. Nearly every answer picks something, so read it next to `match_option`'s unparsed rate.
    """
    ratios = {letter: SequenceMatcher(None, option, generated).ratio() for letter, option in options.items()}
    best = max(ratios, key=lambda letter: ratios[letter])
    return best if ratios[best] > 0 else None
