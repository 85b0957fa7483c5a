"""Scores by subgroup: a table for each field, models × groups, with the worst group of each model marked."""

from collections.abc import Iterable
from dataclasses import dataclass

from medvlp.config.evaluation.groupings import NO_NUMBER, NOT_STATED
from medvlp.config.evaluation.metric_names import direction
from medvlp.jsonl import Row
from medvlp.report.sweep.evaluation import cell_of
from medvlp.report.sweep.leaderboard import interval, span
from medvlp.report.sweep.scores import Scores, Task, label

GROUPS = 12
"""Groups of a field in a table, those with most items first."""


@dataclass(frozen=True)
class GroupScore:
    """One model on one group. Empty texts where it has no score."""

    value: str = ""
    interval: str = ""
    is_worst: bool = False
    is_number: bool = False


@dataclass(frozen=True)
class SubgroupTable:
    """One metric of one task by one field."""

    task: Task
    by: str
    label: str
    groups: list[tuple[str, str]]
    """(name, items; a range where models differ)."""
    skipped: int
    """Groups beyond the first of the table."""
    extras: list[str]
    """Headings of summaries: equity-scaled, worst group."""
    lines: list[tuple[str, list[GroupScore], list[str]]]
    """(model, its scores in the order of groups, its summaries)."""

    @property
    def compares(self) -> bool:
        """Whether any model has scores of two groups."""
        return any(sum(score.is_number for score in scores) > 1 for _, scores, _ in self.lines)


SUMMARIES = {"equity_scaled": "equity-scaled", "worst_group": "worst group"}
"""End of the name of a metric over groups, `<metric>/<end>[<by>]` → its heading."""


def subgroup_tables(scores: Scores) -> list[SubgroupTable]:
    """Tables in the order of the tasks; of each task the main metrics that it was divided by."""
    tables = []
    for task in scores.tasks:
        rows = [row for row in scores.evaluation.subgroups if cell_of(row)[1:] == (task.task, task.split)]
        fields = dict.fromkeys(row["by"] for row in rows)
        metrics = list(dict.fromkeys(row["metric"] for row in rows))
        shown_metrics = [metric for metric in task.main if metric in metrics] or metrics[:1]
        for by in fields:
            for metric in shown_metrics:
                if members := [row for row in rows if (row["by"], row["metric"]) == (by, metric)]:
                    tables.append(_table(scores, task, by, metric, members))
    return tables


def _name(group: object) -> str:
    return NOT_STATED if group is None or group == "" else str(group)


def _table(scores: Scores, task: Task, by: str, metric: str, rows: Iterable[Row]) -> SubgroupTable:
    by_model: dict[str, dict[str, Row]] = {}
    counts: dict[str, list[int]] = {}
    for row in rows:
        by_model.setdefault(row["checkpoint"], {})[_name(row["group"])] = row
        counts.setdefault(_name(row["group"]), []).append(row["n"])
    names = sorted(counts, key=lambda name: (-max(counts[name]), name))
    order = [model for model in scores.models if model in by_model]
    summaries = [end for end in SUMMARIES if f"{metric}/{end}[{by}]" in task.metrics]
    lines = []
    for model in order:
        extras = []
        for end in summaries:
            summary = scores.row(model, task, f"{metric}/{end}[{by}]")
            extras.append("" if summary is None or summary["value"] is None else f"{summary['value']:.3f}")
        lines.append((scores.names[model], _scores(by_model[model], names[:GROUPS], direction(metric)), extras))
    return SubgroupTable(
        task,
        by,
        label(metric),
        [(name, span(counts[name])) for name in names[:GROUPS]],
        len(names[GROUPS:]),
        [SUMMARIES[end] for end in summaries],
        lines,
    )


def _scores(rows: dict[str, Row], names: list[str], sign: int) -> list[GroupScore]:
    """sign: 1 where higher is better, -1 where lower is."""
    values = {name: row["value"] for name, row in rows.items() if row["value"] is not None}
    by_group = {name: sign * value for name, value in values.items() if name not in (NOT_STATED, NO_NUMBER)}
    worst = min(by_group.values()) if len(set(by_group.values())) > 1 else None
    return [
        GroupScore(f"{values[name]:.3f}", interval(rows[name]), by_group.get(name) == worst is not None, True)
        if name in values
        else GroupScore("undefined" if name in rows else "")
        for name in names
    ]
