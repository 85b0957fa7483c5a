"""Prompt sets of a task: the choice of one, and the spread of a metric over all.

Legend: R resamples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvlp.eval.metrics import Array, MeanOfMeans, Metric, Value

REDUCTIONS: dict[str, Callable[..., Any]] = {"best": np.max, "median": np.median, "worst": np.min}
BY_RANK, BY_SCORES = "ranks_by_prompts", "scores_by_prompts"
"""Of a record: prompt set → the rank of the right class, or → metric → score."""


@dataclass(frozen=True)
class OverPromptSets:
    """The best, median or worst of one metric over prompt sets, in each resample for itself. reduction: of `REDUCTIONS`."""

    by_set: tuple[MeanOfMeans, ...]
    reduction: str

    def __call__(self, weights_RN: Array | None) -> Value:
        values = np.stack([np.asarray(metric(weights_RN)) for metric in self.by_set])
        reduced = REDUCTIONS[self.reduction](values, axis=0)
        return float(reduced) if weights_RN is None else np.asarray(reduced, np.float64)

    @property
    def member_N(self) -> NDArray[np.bool_]:
        """Whether each item counts: the same ones for every set."""
        return np.asarray(self.by_set[0].member_NC.any(axis=1), bool)


def spread(name: str, by_set: Sequence[MeanOfMeans]) -> dict[str, Metric]:
    """`<name>/prompts_best`, `_median` and `_worst`."""
    return {f"{name}/prompts_{reduction}": OverPromptSets(tuple(by_set), reduction) for reduction in REDUCTIONS}


def rank_spread(records: Sequence[Mapping[str, Any]]) -> dict[str, Metric]:
    """The spread of acc1 over prompt sets; nothing where records are of one set."""
    if not records or BY_RANK not in records[0]:
        return {}
    names = list(records[0][BY_RANK])
    return spread("acc1", [MeanOfMeans.of([record[BY_RANK][name] == 1 for record in records]) for name in names])


def score_spread(records: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Metric], dict[str, int]]:
    """The spread of each main metric over instructions, and the questions that it is over: those that every instruction
    could ask."""
    sets = list(dict.fromkeys(name for record in records for name in record.get(BY_SCORES, {})))
    metrics = dict.fromkeys(
        metric for record in records for scores in record.get(BY_SCORES, {}).values() for metric in scores
    )
    by_name: dict[str, Metric] = {}
    counts: dict[str, int] = {}
    for metric in metrics:
        columns = [[record.get(BY_SCORES, {}).get(name, {}).get(metric) for record in records] for name in sets]
        is_asked_N = np.array(
            [all(value is not None for value in values) for values in zip(*columns, strict=True)], bool
        )
        if is_asked_N.any():
            of_metric = spread(metric, [MeanOfMeans.of([value or 0.0 for value in c], is_asked_N) for c in columns])
            by_name |= of_metric
            counts |= dict.fromkeys(of_metric, int(is_asked_N.sum()))
    return by_name, counts


def choose(value_of: Mapping[str, float]) -> str:
    """The set with the highest value on validation data, the first of equals."""
    return max(value_of, key=lambda name: value_of[name])


def choice_protocol(name: str, value_of: Mapping[str, float], metric: str, why_first: str) -> dict[str, Any]:
    """How the set of the scores was chosen, for a protocol. value_of: empty where the first was taken, and why_first says why."""
    if not value_of:
        return {"prompt_set": name, "prompt_set_chosen": f"the first, because {why_first}"}
    values = ", ".join(f"{set_name} {value:.3f}" for set_name, value in value_of.items())
    return {"prompt_set": name, "prompt_set_chosen": f"best {metric} on the validation split: {values}"}
