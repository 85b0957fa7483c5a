"""Paired comparisons as tables: a line a pair, and how often each model wins, ties and loses against each other."""

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from medvlp.jsonl import Row
from medvlp.report.sweep.marks import LEGEND, LEVEL, WinsTiesLosses, wins_ties_losses


def comparison_table(rows: Sequence[Row], names: Mapping[str, str], marks: Mapping[tuple[str, str, str], str]) -> str:
    """Rows of comparisons.jsonl for a terminal, with what makes a pair incomparable, and the matrix of three models or more.

    Args:
        names: model → what the table calls it.
        marks: (model, task, split) → †, ‡, § or ? for what the model was trained on.
    """
    table = Table(title="paired differences with 95% intervals; research use only", title_justify="left")
    for name in ("task", "metric", "A", "B"):
        table.add_column(name, overflow="fold")
    for name in ("A − B", "p", "p (Holm)", "n", "A better / equal / worse"):
        table.add_column(name, justify="right", overflow="fold")
    notes: dict[str, None] = {}
    previous = ""
    for row in rows:
        task = row["task"] + (f" · {row['split']}" if row["split"] else "")
        a, b = (names[row[side]] + marks.get((row[side], row["task"], row["split"]), "") for side in ("a", "b"))
        cells = [task if task != previous else "", row["metric"], a, b, *_numbers(row)]
        table.add_row(*map(Text, cells))
        previous = task
        for sentence in row["differing"]:
            notes[f"{task}, {names[row['a']]} and {names[row['b']]}: {sentence}"] = None
    tables = [table]
    matrix = wins_ties_losses(rows)
    if len(matrix) > 2:
        tables.append(_matrix_table(matrix, names))
    console = Console(width=None if sys.stdout.isatty() else 160)
    with console.capture() as capture:
        for each_table in tables:
            console.print(each_table)
    text = [capture.get().rstrip("\n")]
    text += [f"{mark} {LEGEND[mark]}" for mark in LEGEND if mark in marks.values()]
    text += ["differences of protocol cards:", *(f"  {note}" for note in notes)] if notes else []
    return "\n".join(text)


def _numbers(row: Row) -> list[str]:
    if row["difference"] is None:
        return ["not comparable", "", "", "", ""]
    bounds = "" if row["ci_low"] is None else f" [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]"
    p, p_holm = ("" if row[name] is None else _p(row[name]) for name in ("p", "p_holm"))
    is_different = row["p_holm"] is not None and row["p_holm"] < LEVEL
    items = "" if row["wins"] is None else f"{row['wins']} / {row['ties']} / {row['losses']}"
    return [f"{row['difference']:+.3f}{bounds}", p, f"{p_holm}{' *' if is_different else ''}", str(row["n"]), items]


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _matrix_table(matrix: WinsTiesLosses, names: Mapping[str, str]) -> Table:
    title = f"better / not distinguishable / worse at p (Holm) < {LEVEL:g}, over tasks and metrics: row against column"
    table = Table(title=title, title_justify="left")
    table.add_column("model", overflow="fold")
    for model in matrix:
        table.add_column(Text(names[model]), justify="right", overflow="fold")
    for model, rivals in matrix.items():
        counts = [" / ".join(map(str, rivals[rival])) if rival in rivals else "" for rival in matrix]
        table.add_row(Text(names[model]), *map(Text, counts))
    return table
