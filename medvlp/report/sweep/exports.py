"""Leaderboards and results as files for papers, wikis and spreadsheets: leaderboard.md, leaderboard.tex, results.csv."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from medvlp.report.latex import PACKAGES, latex, tabular
from medvlp.report.markdown import one_line, plain, table
from medvlp.report.sweep.leaderboard import Column, Leaderboard, Number
from medvlp.report.sweep.marks import BEST, LEGEND, Comparisons, standings, trained_mark
from medvlp.report.sweep.scores import Scores, Task
from medvlp.shards.atomic import write_whole

USE = "Research use only; not for clinical use."
COLUMNS = 4
"""Numbers with intervals side by side in a table for a page of paper."""
CSV_COLUMNS = (
    *("checkpoint", "task", "split", "kind", "metric", "value", "ci_low", "ci_high", "n"),
    *("standing", "difference_from_best", "p_holm", "in_train", "weights", "split_hash", "use"),
)
HASH = 64
"""Characters of a hash; what an identity has after it is in results.jsonl."""
IN_TRAIN = {"†": "some", "‡": "all", "§": "groups", "?": "unknown", "": ""}


def write_exports(folder: Path, scores: Scores, comparisons: Comparisons, boards: list[Leaderboard]) -> list[Path]:
    """Write the three files and return their paths."""
    texts = {
        "leaderboard.md": markdown(scores, boards),
        "leaderboard.tex": latex_tables(scores, boards),
        "results.csv": results_csv(scores, comparisons),
    }
    for name, text in texts.items():
        write_whole(folder / name, text.encode("utf-8", "backslashreplace"))
    return [folder / name for name in texts]


def signs_of(boards: list[Leaderboard]) -> list[tuple[str, str]]:
    """The signs that stand in leaderboards, each with what it says."""
    numbers = [number for board in boards for line in board.lines for number in line.numbers]
    signs = {sign for number in numbers for sign in number.signs}
    return [(sign, words) for sign, words in LEGEND.items() if sign in signs]


def _parts(board: Leaderboard) -> Iterator[tuple[list[Column], slice]]:
    """Columns that fit side by side; the columns of a task stay together where they can."""
    start = 0
    while start < len(board.columns):
        end = min(start + COLUMNS, len(board.columns))
        while end < len(board.columns) and end > start + 1 and board.columns[end].task == board.columns[end - 1].task:
            end -= 1
        if board.columns[end - 1].task == board.columns[start].task:
            end = min(start + COLUMNS, len(board.columns))
        yield board.columns[start:end], slice(start, end)
        start = end


def _text(number: Number, escape: Callable[[object], str], bold: str) -> str:
    """`0.796 [0.714, 0.867] ★†`, the best one bold."""
    if not number.value:
        return escape("failed") if number.is_failure else "–"
    value = bold.format(escape(number.value)) if number.standing == BEST else escape(number.value)
    interval = f" {escape(f'[{number.interval}]')}" if number.interval else ""
    return value + interval + (f" {escape(number.signs)}" if number.signs else "")


def markdown(scores: Scores, boards: list[Leaderboard]) -> str:
    """The leaderboards as Markdown."""
    lines = ["# Leaderboard", "", f"Fractions, with 95% intervals in brackets. {USE}"]
    for board in boards:
        lines += ["", f"## {plain(board.title)}"]
        for columns, part in _parts(board):
            head = ["model", *(f"{plain(c.task.name)}: {plain(c.label)} (n = {c.n})" for c in columns)]
            rows = [
                [plain(scores.names[line.model]), *(_text(number, plain, "**{}**") for number in line.numbers[part])]
                for line in board.lines
            ]
            lines += ["", *table(head, rows, range(1, len(head)))]
    if signs := signs_of(boards):
        lines += ["", *(f"- {plain(sign)} {plain(words)}" for sign, words in signs)]
    if failures := scores.evaluation.failures:
        lines += ["", "## Failed", ""]
        lines += [f"- {plain(row['checkpoint'])} on {plain(row['task'])}: {plain(row['reason'])}" for row in failures]
    different = [(name, text) for text, name in scores.names.items() if name != text]
    if different:
        lines += ["", "## Models", "", *(f"- {plain(name)}: {plain(text)}" for name, text in different)]
    return "\n".join(lines) + "\n"


def latex_tables(scores: Scores, boards: list[Leaderboard]) -> str:
    """The leaderboards as tables of LaTeX with booktabs, for `\\input`."""
    lines = [f"% {USE} The document needs {PACKAGES}; names outside of Latin letters need XeLaTeX or LuaLaTeX."]
    signs = "; ".join(f"{latex(sign)} {latex(words)}" for sign, words in signs_of(boards))
    legend = "Fractions, with 95\\% intervals in brackets" + (f"; {signs}" if signs else "")
    for board in boards:
        for columns, part in _parts(board):
            body = [
                [latex(scores.names[line.model]), *(_text(n, latex, r"\textbf{{{}}}") for n in line.numbers[part])]
                for line in board.lines
            ]
            lines += [
                "",
                r"\begin{table}",
                r"\centering\small",
                rf"\caption{{{latex(board.title)}. {legend}. {USE}}}",
                *tabular("l" + "r" * len(columns), _head(columns), body),
                r"\end{table}",
            ]
    return "\n".join(lines) + "\n"


def _head(columns: list[Column]) -> list[str]:
    spans: dict[Task, int] = {}
    for column in columns:
        spans[column.task] = spans.get(column.task, 0) + 1
    tasks = [rf"\multicolumn{{{count}}}{{c}}{{{latex(task.name)}}}" for task, count in spans.items()]
    labels = [f"{latex(column.label)} ($n = {latex(column.n)}$)" for column in columns]
    return [" & ".join(["", *tasks]) + r" \\", " & ".join(["model", *labels]) + r" \\"]


def results_csv(scores: Scores, comparisons: Comparisons) -> str:
    """All rows of results.jsonl by task, metric and model, with what the page says of each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for task in scores.tasks:
        for metric in task.metrics:
            writer.writerows(_csv_rows(scores, comparisons, task, metric))
    return text.getvalue()


def _csv_rows(scores: Scores, comparisons: Comparisons, task: Task, metric: str) -> Iterator[list[str]]:
    is_compared = comparisons.has(task, metric)
    standing = standings(scores, comparisons, task, metric) if is_compared else {}
    best = next((model for model in scores.ranked(task, metric) if standing.get(model) == BEST), "")
    for model in scores.models:
        if (row := scores.row(model, task, metric)) is None:
            continue
        protocol = scores.protocol(model, task) or {}
        pair = comparisons.pair(task, metric, best, model) if best and model != best else None
        difference = -pair.difference if pair and pair.difference is not None else None
        yield [
            *map(_safe, (model, task.task, task.split, task.kind, metric)),
            *(_exact(row.get(name)) for name in ("value", "ci_low", "ci_high", "n")),
            standing.get(model, ""),
            *map(_exact, (difference, pair.p if pair else None)),
            IN_TRAIN[trained_mark(protocol, metric)],
            *(_safe(str(protocol.get(name) or "")[:HASH]) for name in ("weights", "split_hash")),
            USE,
        ]


def _exact(number: float | None) -> str:
    return "" if number is None else repr(number)


def _safe(value: Any) -> str:
    """A text that no spreadsheet takes for a formula: an apostrophe stands before what would be one."""
    text = one_line(str(value))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
