"""Leaderboards, one a kind of task, and the heat map of all models and tasks."""

from collections.abc import Sequence
from dataclasses import dataclass

from medvlp.report.sweep.marks import SIGNS, Comparisons, standings, trained_mark
from medvlp.report.sweep.scores import KINDS, Scores, Task, label

SHADES = 9
"""Shades of the heat map, from 0."""
LEAST_SPAN = 0.1
"""Difference between the palest and the darkest shade of a column: smaller ones would show noise as contrast."""


@dataclass(frozen=True)
class Number:
    """A value in a table. All texts; empty where there is none."""

    value: str
    interval: str = ""
    standing: str = ""
    """As in `marks`: best, tied, lower, uncompared, or empty."""
    trained: str = ""
    """Sign of what the model was trained on."""
    cell: str = ""
    """Name of the card of the number."""
    reason: str = ""
    """Why there is no value."""
    is_failure: bool = False
    """Whether the model failed on the task."""

    @property
    def signs(self) -> str:
        """★, ≈ or ⊘, then †, ‡, § or ?."""
        return SIGNS[self.standing] + self.trained


@dataclass(frozen=True)
class Column:
    """One metric of one task."""

    task: Task
    metric: str
    label: str
    n: str
    """Items; a range where models were measured on different numbers."""


@dataclass(frozen=True)
class Line:
    """A model in a table."""

    model: str
    numbers: list[Number]
    rank: str = ""
    """Mean rank over the tasks."""


@dataclass(frozen=True)
class Leaderboard:
    """Models × main metrics of the tasks of one kind."""

    kind: str
    title: str
    columns: list[Column]
    lines: list[Line]
    has_ranks: bool
    is_compared: bool
    """Whether paired tests were made."""

    @property
    def spans(self) -> list[tuple[Task, int]]:
        """Tasks, each with the number of its columns."""
        tasks = dict.fromkeys(column.task for column in self.columns)
        return [(task, sum(column.task == task for column in self.columns)) for task in tasks]


@dataclass(frozen=True)
class HeatMap:
    """Models × tasks, one metric a task. shades: 0 to SHADES - 1, -1 without a value."""

    columns: list[Column]
    lines: list[tuple[Line, list[int]]]


def cell_id(scores: Scores, model: str, task: Task) -> str:
    """The name of a cell's card on the page."""
    return f"cell-{scores.models.index(model)}-{scores.tasks.index(task)}"


def leaderboards(scores: Scores, comparisons: Comparisons) -> list[Leaderboard]:
    """A table for each kind of task; the models are those that have a number, or failed."""
    kinds = dict.fromkeys(task.kind for task in scores.tasks)
    return [_leaderboard(scores, comparisons, kind) for kind in kinds]


def _leaderboard(scores: Scores, comparisons: Comparisons, kind: str) -> Leaderboard:
    tasks = [task for task in scores.tasks if task.kind == kind]
    columns = [column_of(scores, task, metric) for task in tasks for metric in task.main]
    standing = [standings(scores, comparisons, column.task, column.metric) for column in columns]
    models = [m for m in scores.models if any(scores.protocol(m, t) is not None or scores.failure(m, t) for t in tasks)]
    ranks = {model: _ranks(scores, tasks, model) for model in models}
    has_ranks = len(models) > 2 and len(tasks) > 1
    # Those with fewer tasks stand below: their mean is over other tasks.
    order = sorted(models, key=lambda model: (-len(ranks[model]), _mean(ranks[model])))
    lines = [
        Line(
            model,
            [
                number_of(scores, column, model, standing_of.get(model, ""))
                for column, standing_of in zip(columns, standing, strict=True)
            ],
            f"{_mean(ranks[model]):.1f}" if has_ranks and ranks[model] else "",
        )
        for model in order
    ]
    is_compared = any(comparisons.has(column.task, column.metric) for column in columns)
    return Leaderboard(kind, KINDS.get(kind, kind or "Results"), columns, lines, has_ranks, is_compared)


def _ranks(scores: Scores, tasks: Sequence[Task], model: str) -> list[float]:
    """The rank of a model in each task that it has, by the task's first main metric; equals share their mean rank."""
    ranks = []
    for task in tasks:
        values = scores.values(task, task.main[0])
        if model in values:
            better = sum(value > values[model] for value in values.values())
            equal = sum(value == values[model] for value in values.values())
            ranks.append(better + (equal + 1) / 2)
    return ranks


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0


def column_of(scores: Scores, task: Task, metric: str) -> Column:
    """The head of a column."""
    rows = [scores.row(model, task, metric) for model in scores.models]
    return Column(task, metric, label(metric), span([row["n"] for row in rows if row]))


def span(counts: Sequence[int]) -> str:
    """`98`, or `98–102`."""
    if not counts:
        return "–"
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)}–{max(counts)}"


def number_of(scores: Scores, column: Column, model: str, standing: str = "") -> Number:
    """One number of a column."""
    row, protocol = scores.row(model, column.task, column.metric), scores.protocol(model, column.task)
    cell = cell_id(scores, model, column.task) if protocol is not None else ""
    if row is None:
        failure, omitted = scores.failure(model, column.task), (protocol or {}).get("omitted") or {}
        return Number("", cell=cell, reason=failure or str(omitted.get(column.metric, "")), is_failure=bool(failure))
    if row["value"] is None:
        return Number("undefined", cell=cell)
    return Number(f"{row['value']:.3f}", interval(row), standing, trained_mark(protocol, column.metric), cell)


def interval(row: dict[str, float | None]) -> str:
    """`0.380, 0.445`; empty where a bound is not defined."""
    low, high = row.get("ci_low"), row.get("ci_high")
    return "" if low is None or high is None else f"{low:.3f}, {high:.3f}"


def heat_map(scores: Scores, comparisons: Comparisons) -> HeatMap:
    """All models in their order, all tasks with their first main metric."""
    columns = [column_of(scores, task, task.main[0]) for task in scores.tasks]
    values = [scores.values(column.task, column.metric) for column in columns]
    standing = [standings(scores, comparisons, column.task, column.metric) for column in columns]
    lines = []
    for model in scores.models:
        numbers = [
            number_of(scores, column, model, standing_of.get(model, ""))
            for column, standing_of in zip(columns, standing, strict=True)
        ]
        lines.append((Line(model, numbers), [_shade(column, model) for column in values]))
    return HeatMap(columns, lines)


def _shade(values: dict[str, float], model: str) -> int:
    if model not in values:
        return -1
    low, high = min(values.values()), max(values.values())
    share = 1 - (high - values[model]) / max(high - low, LEAST_SPAN)
    return min(int(share * SHADES), SHADES - 1)
