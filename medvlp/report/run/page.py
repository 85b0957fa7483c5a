"""The page of a training run or an evaluation: whichever of the two sets of files a folder holds."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from medvlp.report.dataset.ledger import data_counts
from medvlp.report.files import JsonLines, NotARun, Row, explained, read_json, read_jsonl, read_yaml
from medvlp.report.page import write_page
from medvlp.report.run.charts import COLOURS, Curve, line_chart
from medvlp.report.sweep.evaluation import read_evaluation
from medvlp.report.sweep.page import evaluation_values

TRAINING_CHARTS = {
    "loss": "Loss",
    "lr": "Learning rate",
    "samples_per_second": "Samples per second",
    "pairs_per_second": "Pairs per second",
    "data_wait": "Share of time spent waiting for data",
    "grad_norm": "Gradient norm",
    "logit_scale": "Logit scale",
}
"""Columns of metrics.jsonl with the first charts, and their titles; any others follow under their own names."""

NOT_CURVES = ("step", "epoch", "split", "task", "excluded")

RUN_FILES = ("metrics.jsonl", "results.jsonl", "status.json")


@dataclass(frozen=True)
class Chart:
    """A drawing, and the last value of each of its curves for those who cannot see it."""

    svg: Markup
    summary: str


def write_run_report(folder: str | Path) -> Path:
    """Write `report.html` into a run's folder and return its path; next to that of an evaluation, its leaderboards and
    results as Markdown, LaTeX and CSV.

    Raises:
        NotARun: there is nothing of a run in the folder, or a file of it is damaged.
    """
    folder = Path(folder)
    if not any((folder / name).is_file() for name in RUN_FILES):
        problem = "does not exist" if not folder.is_dir() else f"holds none of {', '.join(RUN_FILES)}"
        raise NotARun(
            f"{folder} {problem}: expected the folder of a run, such as runs/<run_name> or runs/eval/<recipe>"
        )
    logged, results = read_jsonl(folder / "metrics.jsonl"), read_evaluation(folder)
    bad = read_jsonl(folder / "bad_samples.jsonl")
    config = folder / "config.yaml"
    with explained(folder / "results.jsonl"):
        evaluation = evaluation_values(folder, results) if results.results or results.failures else None
    details = evaluation["details"] if evaluation else []
    measured_on = [str(row["protocol"]["data"]) for row in results.results if (row.get("protocol") or {}).get("data")]
    with explained(config):
        sources = read_yaml(config).get("data", {}).get("sources", {})
        trained_on = [str(source["path"]) for source in sources.values()]
    counts, damaged = data_counts(list(dict.fromkeys(trained_on + measured_on)))
    with explained(folder):
        values = {
            "title": folder.resolve().name,
            "status": read_json(folder / "status.json"),
            "notes": [
                *_notes([logged, bad]),
                *results.notes,
                *(note for detail in details for note in detail.notes),
                *damaged,
            ],
            "evaluation": evaluation,
            "last": _last_training_row(logged.rows),
            "charts": training_charts(logged.rows),
            "evaluations": evaluation_charts(logged.rows),
            "counts": counts,
            "bad": Counter(str(row.get("reason", "no reason given")) for row in bad.rows).most_common(),
            "config": config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
        }
    return write_page(folder / "report.html", "run.html", **values)


def training_charts(rows: list[Row]) -> list[Chart]:
    """One chart a column of the training rows."""
    columns = _columns([row for row in rows if row.get("split") == "train"])
    order = [name for name in TRAINING_CHARTS if name in columns] + [n for n in columns if n not in TRAINING_CHARTS]
    return [_chart(TRAINING_CHARTS.get(name, name), {name: columns[name]}) for name in order]


def evaluation_charts(rows: list[Row]) -> list[Chart]:
    """A chart a (split, task) of the evaluators' rows, with a curve a metric; more charts where colours run out."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("split") != "train":
            title = " · ".join(str(row[key]) for key in ("task", "split") if key in row)
            groups.setdefault(title, []).append(row)
    charts = []
    for title, group in groups.items():
        curves = list(_columns(group).items())
        parts = [dict(curves[start : start + len(COLOURS)]) for start in range(0, len(curves), len(COLOURS))]
        names = [title if len(parts) == 1 else f"{title} ({number})" for number in range(1, len(parts) + 1)]
        charts += [_chart(name, part) for name, part in zip(names, parts, strict=True)]
    return charts


def _columns(rows: list[Row]) -> dict[str, Curve]:
    columns: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in NOT_CURVES and isinstance(value, int | float) and isinstance(row.get("step"), int | float):
                columns.setdefault(name, []).append((row["step"], value))
    return dict(columns)


def _chart(title: str, curves: dict[str, Curve]) -> Chart:
    last = "; ".join(f"{name} {curve[-1][1]:.4g} at step {curve[-1][0]:g}" for name, curve in curves.items())
    return Chart(line_chart(title, curves), last)


def _last_training_row(rows: list[Row]) -> list[tuple[str, str]]:
    training = [row for row in rows if row.get("split") == "train"]
    if not training:
        return []
    number = {name: value for name, value in training[-1].items() if isinstance(value, int | float)}
    return [(name, f"{value:.6g}") for name, value in number.items()]


def _notes(files: list[JsonLines]) -> list[str]:
    return [file.note for file in files if file.note]
