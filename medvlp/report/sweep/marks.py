"""Marks next to a number: the best of a column, those that a paired test cannot tell from it, and what was trained on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medvlp.config.evaluation.metric_names import direction
from medvlp.jsonl import Row
from medvlp.report.sweep.scores import Scores, Task

LEVEL = 0.05
"""Of the paired tests, after Holm's correction."""
BEST, TIED, WORSE, UNCOMPARED = "best", "tied", "worse", "uncompared"
NOT_IN_TRAIN = "_not_in_train"
"""End of the names of metrics over the items that were not trained on."""
SIGNS = {BEST: "★", TIED: "≈", WORSE: "", UNCOMPARED: "⊘", "": ""}
"""Standing in a column → its sign in tables."""
PARTLY, FULLY, RELATED, UNKNOWN = "†", "‡", "§", "?"
"""Some items were in training data; all were; none was, but others of their groups; nobody knows."""
LEGEND = {
    SIGNS[BEST]: "best value of the column",
    SIGNS[TIED]: f"not distinguishable from ★: paired test on the same items, p ≥ {LEVEL:g} after Holm's correction",
    SIGNS[UNCOMPARED]: "not compared with ★, because the protocols differ or there is no paired test",
    PARTLY: "some of the items, or their images, were in the model's training data",
    FULLY: "all of the items, or their images, were in the model's training data",
    RELATED: "none of the items was in the model's training data, but others of the same patient, article or video were",
    UNKNOWN: "what the model was trained on is not known, or could not be compared",
}
"""Sign → what it says. A value without ★, ≈ and ⊘ is worse than ★ by the paired test."""
WinsTiesLosses = dict[str, dict[str, tuple[int, int, int]]]
"""Model → other model → tasks and metrics on which it is better, not distinguishable, and worse."""


@dataclass(frozen=True)
class Pair:
    """A paired comparison, seen from the one that is not best: difference = best − other, with its interval."""

    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p: float | None
    """After Holm's correction."""
    wins: Any
    ties: Any
    losses: Any
    """Items on which the best one is better, equal, worse; None where they were not counted."""
    n: Any
    lines: list[str]
    """What differs between their cards. Where it decides, there is no difference of the values."""


class Comparisons:
    """Rows of comparisons.jsonl by column and pair."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.pairs: dict[tuple[str, str, str], dict[tuple[str, str], Row]] = {}
        for row in rows:
            column = row["task"], row.get("split") or "", row["metric"]
            self.pairs.setdefault(column, {})[row["a"], row["b"]] = row

    def has(self, task: Task, metric: str) -> bool:
        """Whether any pair of a column was compared."""
        return (task.task, task.split, metric) in self.pairs

    def pair(self, task: Task, metric: str, best: str, model: str) -> Pair | None:
        """The comparison of two models, whichever of them the row names first; None where there is none."""
        rows = self.pairs.get((task.task, task.split, metric), {})
        row, sign = rows.get((best, model)), 1
        if row is None:
            row, sign = rows.get((model, best)), -1
        if row is None:
            return None
        low, high = row.get("ci_low"), row.get("ci_high")
        wins, losses = row.get("wins"), row.get("losses")
        if sign < 0:
            low, high = (None if high is None else -high), (None if low is None else -low)
            wins, losses = losses, wins
        difference = None if row["difference"] is None else sign * row["difference"]
        return Pair(
            difference,
            low,
            high,
            row["p_holm"],
            wins,
            row.get("ties"),
            losses,
            row["n"],
            row["differing"] or [],
        )


def wins_ties_losses(rows: Sequence[Row]) -> WinsTiesLosses:
    """The matrix of all models over the rows of comparisons.jsonl. Pairs that are not comparable do not count."""
    matrix: WinsTiesLosses = {}
    for row in rows:
        if row["difference"] is None or row["p_holm"] is None:
            continue
        is_different = row["p_holm"] < LEVEL
        better = direction(row["metric"]) * row["difference"]
        sign = (better > 0) - (better < 0) if is_different else 0
        for model, rival, sign_of_model in ((row["a"], row["b"], sign), (row["b"], row["a"], -sign)):
            wins, ties, losses = matrix.setdefault(model, {}).get(rival, (0, 0, 0))
            matrix[model][rival] = (
                wins + (sign_of_model > 0),
                ties + (sign_of_model == 0),
                losses + (sign_of_model < 0),
            )
    return matrix


def standings(scores: Scores, comparisons: Comparisons, task: Task, metric: str) -> dict[str, str]:
    """Model → BEST, TIED, WORSE, UNCOMPARED, or "" where no pair of the column was compared. A single model has none."""
    values = scores.values(task, metric)
    if len(values) < 2:
        return {}
    top = direction(metric) * max(direction(metric) * value for value in values.values())
    leaders = [model for model, value in values.items() if value == top]
    if not comparisons.has(task, metric):
        return {model: BEST if model in leaders else "" for model in values}
    return {
        model: BEST if model in leaders else _standing(comparisons, task, metric, leaders, model) for model in values
    }


def _standing(comparisons: Comparisons, task: Task, metric: str, leaders: list[str], model: str) -> str:
    pairs = [comparisons.pair(task, metric, leader, model) for leader in leaders]
    tested = [pair for pair in pairs if pair and pair.difference is not None and pair.p is not None]
    if not tested:
        return UNCOMPARED
    is_worse = any(pair.p < LEVEL and direction(metric) * pair.difference > 0 for pair in tested)  # type: ignore[operator]
    return WORSE if is_worse else TIED


def trained_mark(protocol: Mapping[str, Any] | None, metric: str = "") -> str:
    """What a protocol says of the items in training data, as a sign; empty where none is, or nobody looked.

    metric: one over the items that are not in train shares no more than groups with it.
    """
    overlap = (protocol or {}).get("in_train")
    if overlap is None:
        return ""
    if isinstance(overlap, str):
        return UNKNOWN
    related = overlap.get("same_group", 0)
    matches = sum(count for name, count in overlap.items() if name.startswith("same_")) - related
    if matches and not metric.endswith(NOT_IN_TRAIN):
        return FULLY if matches >= overlap.get("samples", matches + 1) else PARTLY
    if related:
        return RELATED
    return UNKNOWN if overlap.get("unknown") else ""
