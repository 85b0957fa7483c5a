"""Strict scores of answers in free text, as pure functions on strings.

A text is compared by its tokens (`normalize`): words for scripts that part them, single characters for Chinese and
Japanese. Every score lies in [0, 1]; an answer that cannot be read is wrong and is counted as unparsed, so no mean has
a denominator that depends on what the model said. Where an item has several reference answers the best one counts.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from medvlp.eval.answers.normalization import normalize, tokens, yes_no
from medvlp.eval.errors import TaskError
from medvlp.shards.vocabulary import ANSWER_TYPES

CLOSED, OPEN, MULTIPLE_CHOICE, NUMBER, SET, BOXES = ANSWER_TYPES

# One prediction against one reference


def closed_match(prediction: str, reference: str) -> float:
    """A closed question: by `yes_no` where the reference is yes or no, else ("left or right?") by `exact_match`."""
    if asks_yes_no(reference):
        return float(yes_no(prediction) == normalize(reference))
    return exact_match(prediction, reference)


def exact_match(prediction: str, reference: str) -> float:
    """1.0 where both normalise to the same tokens; a blank prediction never matches."""
    return float(normalize(prediction) == normalize(reference) != "")


def token_recall(prediction: str, reference: str) -> float:
    """Share of the reference's tokens that the prediction holds, each counted as often as the prediction has it."""
    return _overlap(prediction, reference) / max(1, len(tokens(reference)))


def token_f1(prediction: str, reference: str) -> float:
    """Harmonic mean of the tokens' precision and their recall (SQuAD, Rajpurkar 2016)."""
    return 2 * _overlap(prediction, reference) / max(1, len(tokens(prediction)) + len(tokens(reference)))


def _overlap(prediction: str, reference: str) -> int:
    return (Counter(tokens(prediction)) & Counter(tokens(reference))).total()


def bleu(prediction: str, reference: str) -> float:
    """Sentence BLEU by sacrebleu (Post 2018) on our tokens: up to 4-grams, exponential smoothing, effective order.

    Orders longer than the prediction do not count, so a right answer of one word scores 1.0. No shared token: 0.0.
    """
    score = _sacrebleu().sentence_score(normalize(prediction), [normalize(reference)]).score / 100
    return min(1.0, float(score))  # sacrebleu's exp(log(1)) overshoots by a rounding error


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L F1 (Lin 2004) by rouge_score on our tokens: no stemming, and Chinese counts as well."""
    return float(_rouge().score(reference, prediction)["rougeL"].fmeasure)


@cache
def _sacrebleu() -> Any:
    from sacrebleu.metrics import BLEU  # here: only open answers need it

    return BLEU(effective_order=True, smooth_method="exp", tokenize="none")


class _Tokenizer:
    def tokenize(self, text: str) -> list[str]:
        return tokens(text)


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # here: it imports nltk, which takes a second

    return RougeScorer(["rougeL"], tokenizer=_Tokenizer())


# One item

Score = Callable[[str, str], float | None]
"""(prediction, reference) → a value in [0, 1], or None for an item that the metric does not count."""

Item = tuple[str, tuple[str, ...]]
"""An answer type and the right answers."""

_METRICS: dict[str, dict[str, Callable[[str, str], float]]] = {
    CLOSED: {"closed_accuracy": closed_match, "exact_match": exact_match},
    OPEN: {
        "open_exact_match": exact_match,
        "open_token_f1": token_f1,
        "open_token_recall": token_recall,
        "open_bleu": bleu,
        "open_rouge_l": rouge_l,
        "exact_match": exact_match,
    },
}


def strict_scores(
    prediction: str, target: str, answer_type: str, answers: Sequence[str] | None = None
) -> dict[str, float]:
    """Every strict metric of one item by name.

    answer_type: "closed" gives closed_accuracy, "open" gives open_exact_match, open_token_f1, open_token_recall,
    open_bleu and open_rouge_l; both give exact_match and unparsed. `answers` are further right answers next to `target`;
    each metric takes the best. unparsed is 1.0 for a yes/no question where `yes_no` finds nothing, and for any other
    where the prediction is blank. Multiple choice is scored by `medvlp.eval.vqa.multiple_choice`.
    """
    references = _references(target, answers)
    metrics = _METRICS[_known(answer_type, _METRICS)]
    scores = {name: max(metric(prediction, text) for text in references) for name, metric in metrics.items()}
    is_yes_no = answer_type == CLOSED and any(asks_yes_no(text) for text in references)
    return scores | {"unparsed": float(yes_no(prediction) is None if is_yes_no else not prediction.strip())}


def asks_yes_no(reference: str) -> bool:
    """Whether a right answer is yes or no."""
    return yes_no(reference) == normalize(reference)


def _references(target: str, answers: Sequence[str] | None) -> tuple[str, ...]:
    references = tuple(dict.fromkeys(text for text in (target, *(answers or ())) if text.strip()))
    if not references:
        raise TaskError("the target is blank: a question without an answer cannot be scored; leave the item out")
    return references


def _known(answer_type: str, metrics: Mapping[str, object]) -> str:
    if answer_type not in metrics:
        raise ValueError(
            f"found answer type {answer_type!r}; expected one of {sorted(metrics)} (multiple choice: vqa/multiple_choice.py)"
        )
    return answer_type


# The best answer that sees no image


def best_constant(
    targets: Sequence[str],
    answer_types: Sequence[str],
    metric: str,
    answers: Sequence[Sequence[str] | None] | None = None,
) -> tuple[str, float]:
    """The constant answer that maximises `metric`'s mean over the items that have it, and that mean.

    A model that does no better has not been shown to look. Tried are all distinct right answers of those items, "yes"
    and "no"; of equals, the one that shares tokens with most items wins, then the alphabetically first.
    """
    extra = answers if answers is not None else [None] * len(targets)
    scored = {kind: metrics[metric] for kind, metrics in _METRICS.items() if metric in metrics}
    if not scored:
        names = sorted({name for metrics in _METRICS.values() for name in metrics})
        raise ValueError(f"no best constant for metric {metric!r}; expected one of {names}")
    items = Counter(
        (kind, _references(target, further))
        for target, kind, further in zip(targets, answer_types, extra, strict=True)
        if _known(kind, _METRICS) in scored
    )
    return best_of(["yes", "no"], items, scored, _features)


def _features(text: str) -> Iterable[str]:
    """Features that two texts must share for any strict metric to be above 0: a token, or a yes or no that `yes_no` reads."""
    return {*tokens(text), yes_no(text) or ""} - {""}


def best_of(
    more_candidates: Iterable[str],
    items: Mapping[Item, int],
    scored: Mapping[str, Callable[[str, str], float]],
    features: Callable[[str], Iterable[str]],
) -> tuple[str, float]:
    """`best_constant` for any metric: `items` counts (answer type, references), `scored` has the metric by answer type.

    Two texts without a common feature must score 0, which is what makes thousands of items quick: a candidate is
    compared with the items it shares a feature with, and candidates that share too little to win are not compared at
    all.
    """
    if not items:
        raise ValueError("no item has this metric: there is nothing to find a constant answer for")
    keys, counts = list(items), list(items.values())
    holders: dict[str, set[int]] = defaultdict(set)
    for index, (_, references) in enumerate(keys):
        for feature in {f for text in references for f in features(text)}:
            holders[feature].add(index)

    def near(candidate: str) -> set[int]:
        return set().union(*(holders.get(feature, ()) for feature in features(candidate)))

    total = sum(counts)
    texts = {text for _, references in keys for text in references} | set(more_candidates)
    reach = {text: sum(counts[index] for index in near(text)) / total for text in texts}
    best, best_value = "", -1.0
    for candidate in sorted(texts, key=lambda text: (-reach[text], text)):
        if reach[candidate] <= best_value:  # no score is above 1, so neither this one nor any later one can win
            break
        value = _mean(candidate, [(keys[index], counts[index]) for index in near(candidate)], scored, total)
        if value > best_value + 1e-12:
            best, best_value = candidate, value
    return best, best_value


def _mean(
    candidate: str,
    near: Sequence[tuple[Item, int]],
    scored: Mapping[str, Callable[[str, str], float]],
    total: int,
) -> float:
    total_score = sum(
        count * max(scored[kind](candidate, text) for text in references) for (kind, references), count in near
    )
    return total_score / total
