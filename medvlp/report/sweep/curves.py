"""Curves of a metric over the training steps of runs, from checkpoints of one run that were evaluated together."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from markupsafe import Markup

from medvlp.report.plot_svg import COLOURS, Curve, Plot, axis_around
from medvlp.report.sweep.scores import Scores, Task, label

STEP = re.compile(r"(?:^|[^a-z])step[-_=]?(\d{1,15})(?!\d)", re.IGNORECASE)
"""`step-000040.ckpt`."""


@dataclass(frozen=True)
class Chart:
    """A drawing with the names of its curves, each with its colour, and what it does not show."""

    title: str
    svg: Markup
    legend: list[tuple[int, str]]
    skipped: str = ""


def run_of(checkpoint: str) -> str:
    """The folder of a checkpoint's run; empty where it is no file of one."""
    if re.match(r"(?:open_clip|hf|api):", checkpoint) or not checkpoint.endswith(".ckpt"):
        return ""
    parent = PurePath(checkpoint).parent
    return str(parent.parent if parent.name == "checkpoints" else parent)


def step_of(checkpoint: str, protocol: Mapping[str, Any]) -> int | None:
    """The global step of a checkpoint, from its protocol or else its name; None where neither says it."""
    if protocol.get("step") is not None:
        return int(protocol["step"])
    match = STEP.search(PurePath(checkpoint).stem)
    return int(match[1]) if match else None


def step_charts(scores: Scores) -> tuple[list[Chart], list[str]]:
    """A chart for each main metric with a curve for each run that has two steps, and checkpoints whose step is not known."""
    runs: dict[str, list[str]] = {}
    for model in scores.models:
        if run := run_of(model):
            runs.setdefault(run, []).append(model)
    runs = {run: models for run, models in runs.items() if len(models) > 1}
    names = _names(list(runs))
    charts = [
        chart
        for task in scores.tasks
        for metric in task.main
        if (chart := _chart(scores, task, metric, runs, names)) is not None
    ]
    unknown = [
        scores.names[model]
        for models in runs.values()
        for model in models
        if all(step_of(model, scores.protocol(model, task) or {}) is None for task in scores.tasks)
    ]
    return charts, unknown if charts else []


def _names(runs: list[str]) -> dict[str, str]:
    short = [PurePath(run).name for run in runs]
    return {run: name if short.count(name) == 1 else run for run, name in zip(runs, short, strict=True)}


def _chart(
    scores: Scores, task: Task, metric: str, runs: Mapping[str, list[str]], names: Mapping[str, str]
) -> Chart | None:
    curves: list[Curve] = []
    legend: list[tuple[int, str]] = []
    skipped: list[str] = []
    for run, models in runs.items():
        # A checkpoint that is there twice (last.ckpt and step-000040.ckpt) is one point.
        by_step = {}
        for model in models:
            row, step = scores.row(model, task, metric), step_of(model, scores.protocol(model, task) or {})
            if row is not None and row["value"] is not None and step is not None:
                by_step[step] = row
        if len(by_step) < 2:
            continue
        if len(curves) == COLOURS:
            skipped.append(names[run])
            continue
        rows = sorted(by_step.items())
        has_band = all(row.get("ci_low") is not None and row.get("ci_high") is not None for _, row in rows)
        band = [(step, row["ci_low"], row["ci_high"]) for step, row in rows] if has_band else []
        points = [(step, row["value"]) for step, row in rows]
        curves.append(Curve(points, band, [3.0] * len(points), len(curves)))
        legend.append((len(legend), names[run]))
    if not curves:
        return None
    steps = [step for curve in curves for step, _ in curve.points]
    values = [y for curve in curves for _, *ys in (*curve.points, *curve.band) for y in ys]
    title = f"{task.name}: {label(metric)}"
    plot = Plot(title, axis_around(steps, "training step"), axis_around(values, "", 0.1), curves)
    missing = f"{len(skipped)} more runs have no curve here: {', '.join(skipped)}" if skipped else ""
    return Chart(title, plot.svg(), legend, missing)
