"""The same questions in other conditions: each score there, what it loses, and how often the model refuses or gives way."""

from collections.abc import Sequence
from dataclasses import dataclass

from medvlp.config.evaluation.controls import BIAS_CONTROLS, DEFAULT_CONTROLS, IMAGE_CONTROLS, VARIANT_CONTROLS
from medvlp.report.sweep.leaderboard import interval
from medvlp.report.sweep.scores import Scores, Task, label

MEASURES = ("pair_accuracy", "pair_confusion")
"""Metrics of items that belong together; besides them those that end in `_consistency`."""


@dataclass(frozen=True)
class ConditionLine:
    """A score of a model in one condition. Texts."""

    model: str
    condition: str
    metric: str
    plain: str
    """The score of the same questions as they are."""
    score: str
    difference: str
    """The first minus the second, with its interval."""
    n: int
    note: str
    loses: bool
    """Whether another wording costs more than chance: the interval lies above 0."""


@dataclass(frozen=True)
class ConditionTable:
    """A task in all its conditions; measures: (model, name, value with its interval)."""

    task: Task
    lines: list[ConditionLine]
    measures: list[tuple[str, str, str]]


def condition_tables(scores: Scores) -> list[ConditionTable]:
    """In the order of tasks: those that were asked in more conditions than the default ones, that have refusals in one, or
    whose items belong together."""
    return [table for task in scores.tasks if (table := _table(scores, task)).measures or _is_shown(scores, table)]


def _is_shown(scores: Scores, table: ConditionTable) -> bool:
    usual = {control.replace("_", " ") for control in DEFAULT_CONTROLS}
    if any(line.condition not in usual for line in table.lines):
        return True
    names = [f"refused/{control}" for control in IMAGE_CONTROLS]
    return any(value > 0 for name in names for value in scores.values(table.task, name).values())


def _table(scores: Scores, task: Task) -> ConditionTable:
    lines = [
        line
        for control in (*IMAGE_CONTROLS, *VARIANT_CONTROLS)
        for metric in task.main
        for model in scores.models
        if (line := _line(scores, task, model, metric, control)) is not None
    ]
    names = [name for name in task.metrics if name in MEASURES or name.endswith("_consistency")]
    measures = [
        (scores.names[model], label(name), _with_interval(row["value"], interval(row)))
        for name in names
        for model in scores.models
        if (row := scores.row(model, task, name)) is not None and row["value"] is not None
    ]
    return ConditionTable(task, lines, measures)


def _line(scores: Scores, task: Task, model: str, metric: str, control: str) -> ConditionLine | None:
    row = scores.row(model, task, f"{metric}/{control}")
    difference = scores.row(model, task, f"{metric}/minus_{control}")
    if row is None or difference is None or row["value"] is None or difference["value"] is None:
        return None
    low = difference.get("ci_low")
    return ConditionLine(
        scores.names[model],
        control.replace("_", " "),
        label(metric),
        f"{row['value'] + difference['value']:.3f}",
        f"{row['value']:.3f}",
        _with_interval(difference["value"], interval(difference), "+"),
        row["n"],
        _note(scores, task, model, metric, control),
        control in VARIANT_CONTROLS and low is not None and low > 0,
    )


def _note(scores: Scores, task: Task, model: str, metric: str, control: str) -> str:
    if control in BIAS_CONTROLS:
        return _change(
            scores, task, model, f"{metric.removesuffix('_accuracy')}_suggested", control, "suggestion taken"
        )
    return _change(scores, task, model, "refused", control, "refused") if control in IMAGE_CONTROLS else ""


def _change(scores: Scores, task: Task, model: str, metric: str, control: str, words: str) -> str:
    changed = scores.row(model, task, f"{metric}/{control}")
    difference = scores.row(model, task, f"{metric}/minus_{control}")
    values: Sequence[float | None] = [row["value"] if row else None for row in (changed, difference)]
    if values[0] is None or values[1] is None:
        return ""
    return f"{words} {values[0]:.0%}, else {values[0] + values[1]:.0%}"


def _with_interval(value: float, bounds: str, sign: str = "") -> str:
    return f"{value:{sign}.3f} [{bounds}]" if bounds else f"{value:{sign}.3f}"
