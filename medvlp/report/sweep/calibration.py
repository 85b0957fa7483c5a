"""Calibration of the models on each task: reliability diagrams, risk-coverage curves, and the numbers that sum them up."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from medvlp.config.evaluation.metric_names import SENSITIVITY
from medvlp.jsonl import Row
from medvlp.report.plot_svg import Axis, Curve, Plot, axis_around, thinned
from medvlp.report.sweep.curves import Chart
from medvlp.report.sweep.evaluation import cell_of
from medvlp.report.sweep.leaderboard import interval
from medvlp.report.sweep.scores import Scores, Task

DIAGRAMS = 6
"""Models a task that are drawn, the best first."""
POINTS = 60
"""Of a risk-coverage curve on a page."""
LARGEST_DOT = 5.5
"""Radius of the dot of the fullest bin, pixels."""
METRICS = {
    "ece": "ECE",
    "brier": "Brier score",
    "aurc": "AURC",
}
"""Last part of a metric's name → its heading; besides them sensitivities, see `_title`."""


@dataclass(frozen=True)
class Diagram:
    """A reliability diagram of one model."""

    model: str
    svg: Markup
    summary: str


@dataclass(frozen=True)
class Calibration:
    """One task."""

    task: Task
    columns: list[str]
    lines: list[tuple[str, list[tuple[str, str]]]]
    """(model, (value, interval) for each column)."""
    diagrams: list[Diagram]
    risk: Chart | None
    skipped: int
    """Models with a diagram that is not drawn."""


def calibrations(scores: Scores) -> list[Calibration]:
    """The tasks that have bins, curves or numbers of calibration."""
    pages = [_of_task(scores, task) for task in scores.tasks]
    return [page for page in pages if page is not None]


def _of_task(scores: Scores, task: Task) -> Calibration | None:
    rows: dict[str, list[Row]] = {}
    for row in scores.evaluation.calibration:
        if cell_of(row)[1:] == (task.task, task.split):
            rows.setdefault(row["checkpoint"], []).append(row)
    metrics = [metric for metric in task.metrics if _title(metric)]
    if not rows and not metrics:
        return None
    order = scores.ranked(task, task.main[0])
    order += [model for model in scores.models if model not in order]
    lines = [(model, [_value(scores.row(model, task, metric)) for metric in metrics]) for model in order]
    candidates = [model for model in order if model in rows]
    diagrams = [diagram for model in candidates[:DIAGRAMS] for diagram in _diagrams(scores, model, rows[model])]
    return Calibration(
        task,
        [_heading(metric) for metric in metrics],
        [(scores.names[model], values) for model, values in lines if any(value for value, _ in values)],
        diagrams,
        _risk(scores, task, {model: rows[model] for model in candidates[:DIAGRAMS]}),
        len(candidates[DIAGRAMS:]),
    )


def _heading(metric: str) -> str:
    base = metric.rpartition("/")[0]
    return f"{_title(metric)} ({base})" if base else _title(metric)


def _title(metric: str) -> str:
    """What a number of calibration is, without what it is of; empty for other metrics."""
    name = metric.rpartition("/")[2]
    if match := SENSITIVITY.fullmatch(name):
        return f"sensitivity at {match[1]}% specificity"
    return METRICS.get(name, "")


def _value(row: Row | None) -> tuple[str, str]:
    if row is None or row["value"] is None:
        return ("", "") if row is None else ("undefined", "")
    return f"{row['value']:.3f}", interval(row)


def _diagrams(scores: Scores, model: str, rows: list[Row]) -> list[Diagram]:
    diagrams = []
    for row in rows:
        bins = [b for b in row.get("bins") or [] if b["n"] and None not in (b.get("confidence"), b.get("accuracy"))]
        if not bins:
            continue
        most = max(b["n"] for b in bins)
        points = [(_share(b["confidence"]), _share(b["accuracy"])) for b in bins]
        sizes = [max(1.5, LARGEST_DOT * (b["n"] / most) ** 0.5) for b in bins]
        name = scores.names[model] + (f" · {row['metric']}" if row.get("metric") else "")
        axes = Axis(0, 1, "confidence"), Axis(0, 1, "share right")
        plot = Plot(f"Reliability of {name}", *axes, [Curve(points, (), sizes)], True, 230, 210)
        items = sum(b["n"] for b in bins)
        gap = sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / items
        diagrams.append(Diagram(name, plot.svg(), f"mean gap {gap:.3f}, n = {items}"))
    return diagrams


def _share(value: float) -> float:
    return min(max(float(value), 0.0), 1.0)


def _risk(scores: Scores, task: Task, rows: dict[str, list[Row]]) -> Chart | None:
    curves: list[Curve] = []
    legend: list[tuple[int, str]] = []
    for model, model_rows in rows.items():
        row: dict[str, Any] = next((row for row in model_rows if row.get("risk_coverage")), {})
        points = sorted((_share(coverage), _share(accuracy)) for coverage, accuracy in row.get("risk_coverage") or [])
        if points:
            curves.append(Curve(thinned(points, POINTS), colour=len(curves)))
            legend.append((len(legend), scores.names[model]))
    if not curves:
        return None
    lows = [y for curve in curves for _, y in curve.points]
    title = f"{task.name}: accuracy on the items that are answered"
    y = axis_around([*lows, 1.0], "share right", 0.1)
    plot = Plot(title, Axis(0, 1, "coverage (surest items first)"), Axis(max(y.low, 0.0), 1.0, y.label), curves)
    return Chart(title, plot.svg(), legend)
