"""Results in a terminal: all numbers of a few checkpoints, or the leaderboards of many models."""

import sys
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from medvlp.jsonl import Row
from medvlp.report.sweep.evaluation import Evaluation
from medvlp.report.sweep.leaderboard import Leaderboard, leaderboards
from medvlp.report.sweep.marks import LEGEND, Comparisons
from medvlp.report.sweep.scores import Scores, checkpoint_names
from medvlp.report.sweep.tables import exclusion_lines, leakage_notes, mark_lines, reliance_lines, result_lines

FEW = 4
"""Models whose numbers all stand side by side; of more, leaderboards."""
LOG_WIDTH = 160
"""Columns where there is no terminal: Rich would take 80, and fold every cell of a log."""
NAME_WIDTH, NUMBER_WIDTH = 30, 13
"""Columns for a model's name, and for a number with its marks."""
METRIC_WIDTH = 26
"""Columns for a metric's name, so that most stand on one line."""


def results_table(rows: Sequence[Row], comparisons: Sequence[Row] = (), failures: Sequence[Row] = ()) -> str:
    """Rows of results.jsonl, comparisons.jsonl and failures.jsonl for a terminal."""
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    if len(checkpoint_names(rows)) <= FEW:
        tables: Iterator[Table | Text] = iter([_all_results(rows)])
    else:
        scores = Scores(Evaluation(list(rows), list(comparisons), failures=list(failures)))
        tables = _boards(scores, Comparisons(comparisons), console.width)
    with console.capture() as capture:
        for table in tables:
            console.print(table)
    text = [capture.get().rstrip("\n")]
    if len(checkpoint_names(rows)) <= FEW:
        text += mark_lines(rows)
    notes = {
        "not in these scores:": exclusion_lines(rows),
        "in train:": leakage_notes(rows),
        "images:": reliance_lines(rows),
    }
    for title, lines in notes.items():
        text += [title, *(f"  {line}" for line in lines)] if lines else []
    return "\n".join(text)


def _all_results(rows: Sequence[Row]) -> Table:
    """A line a (task, metric), a column a checkpoint."""
    table = Table(title="fractions with 95% intervals; research use only", title_justify="left")
    table.add_column("task", overflow="fold")
    longest = max((len(str(row["metric"])) for row in rows), default=0)
    table.add_column("metric", overflow="fold", min_width=min(longest, METRIC_WIDTH))
    table.add_column("n", justify="right")
    table.add_column("excluded", justify="right")
    for name in checkpoint_names(rows).values():
        table.add_column(Text(name), overflow="fold")
    previous = ""
    for line in result_lines(rows):
        # Text: a bracket in a name or an interval is not markup.
        table.add_row(
            *map(Text, (line.task if line.task != previous else "", line.metric, line.n, line.excluded, *line.cells))
        )
        previous = line.task
    return table


def _boards(scores: Scores, comparisons: Comparisons, width: int) -> Iterator[Table | Text]:
    """A line a model, a column a main metric; several tables where the columns do not fit side by side."""
    columns = max(1, (width - NAME_WIDTH - 4) // (NUMBER_WIDTH + 3))
    signs: dict[str, None] = {}
    for board in leaderboards(scores, comparisons):
        for start in range(0, len(board.columns), columns):
            yield _board(scores, board, start, min(start + columns, len(board.columns)))
        signs |= dict.fromkeys(sign for line in board.lines for number in line.numbers for sign in number.signs)
    yield Text("; ".join(f"{sign} {words}" for sign, words in LEGEND.items() if sign in signs))
    yield Text("all metrics, with 95% intervals: results.csv, report.html")


def _board(scores: Scores, board: Leaderboard, start: int, end: int) -> Table:
    table = Table(title=f"{board.title}: main metrics, fractions; research use only", title_justify="left")
    table.add_column("model", overflow="fold", min_width=NAME_WIDTH // 2)
    for column in board.columns[start:end]:
        head = Text(f"{column.task.name}\n{column.label}\nn = {column.n}")
        table.add_column(head, justify="left", overflow="fold", max_width=NUMBER_WIDTH)
    for line in board.lines:
        numbers = line.numbers[start:end]
        cells = [
            f"{number.value} {number.signs}".rstrip() if number.value else ("failed" if number.is_failure else "–")
            for number in numbers
        ]
        table.add_row(Text(scores.names[line.model]), *map(Text, cells))
    return table
