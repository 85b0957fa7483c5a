"""Scores of a response, and their means next to those of controls.

N: questions; K: clusters of questions; R: resamples.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvlp.eval.bootstrap import bootstrap_intervals
from medvlp.eval.metrics import Array, Value
from medvlp.eval.task import Bootstrap, MetricValue
from medvlp.eval.trained import IN_TRAIN, NOT_IN_TRAIN, is_divided
from medvlp.eval.vqa import multiple_choice
from medvlp.eval.vqa.llava_med import llava_med_scores
from medvlp.eval.vqa.metrics import CLOSED, MULTIPLE_CHOICE, OPEN, best_constant, strict_scores
from medvlp.eval.vqa.questions import Question
from medvlp.eval.vqa.responses import Response

Scores = dict[str, float | None]
"""Metric → score of one item; None: the item does not count in that metric's mean."""

PICKS = (
    "letter_likelihood",
    "mean_likelihood",
    "normalised_likelihood",
    "generated",
    "most_similar",
)
STRICT = (
    "closed_accuracy",
    "open_token_recall",
    "open_token_f1",
    "open_exact_match",
    "open_bleu",
    "open_rouge_l",
    "exact_match",
)
CHOICE_METRICS = tuple(f"{name}_accuracy" for name in PICKS)
ANSWER_TYPES_OF = {"closed_accuracy": {CLOSED}, "open_token_recall": {OPEN}, "exact_match": {CLOSED, OPEN}}
"""Main metrics of answers in free text, and the answer types that have them."""
MAIN = (*ANSWER_TYPES_OF, *CHOICE_METRICS)
"""Metrics that are compared with their controls."""

SCORERS = {
    "closed_accuracy": "strict: the one whole word yes or no of the answer, or the exact text for other closed questions",
    "open_*, exact_match": "strict: tokens after SQuAD's normalisation extended for medicine (medvlp.eval.vqa.metrics)",
    "unparsed": "no single yes or no, a blank answer, or no single option; such answers count as wrong",
    "letter_likelihood_accuracy": "likeliest option letter behind the prompt that lists the options",
    "mean_likelihood_accuracy": "highest mean log-probability a token of the option's text, options not listed",
    "normalised_likelihood_accuracy": "highest log-probability a character of the option's text, options not listed",
    "generated_accuracy": "the option that the generated text names; options listed",
    "most_similar_accuracy": "the option most similar to the generated text (OmniMedVQA's question-answering score)",
    "llava_med/*": "LLaVA-Med's published scripts, quirks included: for comparison with papers only",
}


def score(question: Question, response: Response) -> Scores:
    """Every metric that the question has."""
    if question.answer_type == MULTIPLE_CHOICE:
        picked = picks(question, response)
        right = {f"{name}_accuracy": float(letter == question.letter) for name, letter in picked.items()}
        return {**right, "unparsed": float(picked["generated"] is None)}
    strict = strict_scores(response.text, question.target, question.answer_type, question.answers)
    return {**strict, **llava_med_scores(response.text, question.target, question.answer_type)}


def picks(question: Question, response: Response) -> dict[str, str | None]:
    """Multiple choice: the letter by each of `PICKS`; None where there is no single one."""
    sums = {letter: total for letter, (total, _) in response.options.items()}
    counts = {letter: count for letter, (_, count) in response.options.items()}
    return {
        "letter_likelihood": multiple_choice.letter_pick(response.letters),
        "mean_likelihood": multiple_choice.mean_likelihood_pick(sums, counts),
        "normalised_likelihood": multiple_choice.normalised_likelihood_pick(sums, question.options),
        "generated": multiple_choice.match_option(response.text, question.options),
        "most_similar": multiple_choice.most_similar_pick(response.text, question.options),
    }


def constant_scores(questions: Sequence[Question]) -> tuple[list[Scores], dict[str, str]]:
    """The scores of each main metric's own best constant answer on every item, and these answers: for multiple choice
    the commonest right letter, the first in the alphabet of equals."""
    scores: list[Scores] = [{} for _ in questions]
    constants: dict[str, str] = {}
    free = [i for i, question in enumerate(questions) if question.answer_type != MULTIPLE_CHOICE]
    types = {questions[i].answer_type for i in free}
    for metric, answer_types in ANSWER_TYPES_OF.items():
        if not answer_types & types:
            continue
        constants[metric], _ = best_constant(
            [questions[i].target for i in free],
            [questions[i].answer_type for i in free],
            metric,
            [questions[i].answers for i in free],
        )
        for i in free:
            if questions[i].answer_type in answer_types:
                scores[i][metric] = score(questions[i], Response(constants[metric]))[metric]
    letters = Counter(question.letter for question in questions if question.options)
    for metric in CHOICE_METRICS if letters else ():
        constants[metric] = min(letters, key=lambda letter: (-letters[letter], letter))
        for item_scores, question in zip(scores, questions, strict=True):
            if question.options:
                item_scores[metric] = float(question.letter == constants[metric])
    return scores, constants


def columns(scores: Sequence[Scores], blind: Mapping[str, Sequence[Scores]]) -> dict[str, list[float | None]]:
    """Metric → its score of every item (None: not of that metric): strict ones first, the main ones with their controls
    and the paired differences from them, LLaVA-Med's last."""
    names = {name for item_scores in scores for name in item_scores}
    first = [name for name in (*STRICT, "unparsed", *CHOICE_METRICS) if name in names]
    by_metric: dict[str, list[float | None]] = {}
    for metric in [*first, *sorted(names - set(first))]:
        column = [item_scores.get(metric) for item_scores in scores]
        by_metric[metric] = column
        for control, control_scores in blind.items() if metric in MAIN else ():
            control_column = [item_scores.get(metric) for item_scores in control_scores]
            by_metric[f"{metric}/{control}"] = control_column
            by_metric[f"{metric}/minus_{control}"] = [
                None if a is None or b is None else a - b for a, b in zip(column, control_column, strict=True)
            ]
    return by_metric


def measure(
    columns: Mapping[str, Sequence[float | None]],
    groups: Sequence[str],
    bootstrap: Bootstrap,
    trained_N: Array | None = None,
) -> list[MetricValue]:
    """The mean of each column over the items that have it, with intervals clustered by group; all columns see the same
    resamples. n: the items that have it. A column without any is skipped. trained_N: as in `Bootstrap.measure`."""
    columns = _parted(columns, trained_N)
    clusters, cluster_N = np.unique(np.asarray(groups), return_inverse=True)
    means: dict[str, Callable[[Array | None], Value]] = {}
    counts: dict[str, int] = {}
    for name, column in columns.items():
        defined_N = np.array([value is not None for value in column])
        if not defined_N.any():
            continue
        value_N = np.array([value or 0.0 for value in column])
        sum_K, count_K = (
            np.bincount(cluster_N, value_N, len(clusters)),
            np.bincount(cluster_N, defined_N, len(clusters)),
        )
        means[name] = partial(_ratio, sum_K, count_K)
        counts[name] = int(defined_N.sum())
    intervals = bootstrap_intervals(means, clusters.tolist(), bootstrap.resamples, bootstrap.seed)
    return [MetricValue(name, float(mean(None)), *intervals[name], counts[name]) for name, mean in means.items()]


def _parted(
    columns: Mapping[str, Sequence[float | None]], trained_N: Array | None
) -> Mapping[str, Sequence[float | None]]:
    """After each column, its values of items that were trained on, and of the others."""
    if trained_N is None or not is_divided(trained_N):
        return columns
    parts = {"": np.ones_like(trained_N), f"_{IN_TRAIN}": trained_N, f"_{NOT_IN_TRAIN}": np.logical_not(trained_N)}
    return {
        name + part: [value if is_member else None for value, is_member in zip(column, member_N, strict=True)]
        for name, column in columns.items()
        for part, member_N in parts.items()
    }


def _ratio(sum_K: NDArray[Any], count_K: NDArray[Any], weights_RK: Array | None) -> Value:
    if weights_RK is None:
        return float(sum_K.sum() / count_K.sum())
    total_R, items_R = weights_RK @ sum_K, weights_RK @ count_K
    return np.divide(total_R, items_R, out=np.full(len(items_R), np.nan), where=items_R > 0)
