"""Results as tables: the same cells for terminals and pages."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from rich.console import Console
from rich.table import Table
from rich.text import Text

from medvlp.report.dataset.leakage import Leakage
from medvlp.report.files import Row


@dataclass(frozen=True)
class ResultLine:
    """One (task, metric) over all checkpoints."""

    task: str
    """With the split, where there are several: see `task_names`."""
    metric: str
    n: str
    excluded: str
    """Items that the scores are not over; empty where there are none."""
    cells: list[str]
    """For each checkpoint the value with its interval; empty where the checkpoint has none."""


def checkpoint_names(rows: Sequence[Row]) -> dict[str, str]:
    """Checkpoint → `<run>/<file>` without the folder that all runs share; the whole path where that is ambiguous."""
    paths = list(dict.fromkeys(str(row["checkpoint"]) for row in rows))
    short = {}
    for path in paths:
        parts = [part for part in PurePath(path).parts if part != "checkpoints"]
        short[path] = "/".join(parts[-2:]).removesuffix(".ckpt")
    names = list(short.values())
    return {path: name if names.count(name) == 1 else path for path, name in short.items()}


def split_of(row: Row) -> str:
    """The split that a row was measured on; empty where its protocol does not say."""
    return str((row.get("protocol") or {}).get("split", ""))


def task_names(rows: Sequence[Row]) -> dict[tuple[str, str], str]:
    """(task, split) → the task, with the split where it is not the only one."""
    pairs = dict.fromkeys((row["task"], split_of(row)) for row in rows)
    has_splits = len({split for _, split in pairs}) > 1
    return {(task, split): f"{task} · {split}" if has_splits and split else task for task, split in pairs}


def cell(row: Row) -> str:
    """`0.412 [0.380, 0.445]`: a fraction and its 95% interval."""
    if row["value"] is None:
        return "undefined"
    if row.get("ci_low") is None or row.get("ci_high") is None:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"


def result_lines(rows: Sequence[Row]) -> list[ResultLine]:
    """Lines in the order of the rows; n is a range where checkpoints were measured on different numbers of items."""
    checkpoints, tasks = list(checkpoint_names(rows)), task_names(rows)
    lines: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        lines.setdefault((tasks[row["task"], split_of(row)], row["metric"]), {})[str(row["checkpoint"])] = row
    all_lines = []
    for (task, metric), by_checkpoint in lines.items():
        n = _range([row["n"] for row in by_checkpoint.values()])
        excluded = _range([excluded_items(row) for row in by_checkpoint.values()])
        cells = [cell(by_checkpoint[name]) if name in by_checkpoint else "" for name in checkpoints]
        all_lines.append(ResultLine(task, metric, n, "" if excluded == "0" else excluded, cells))
    return all_lines


def _range(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least}–{most}"


def excluded_items(row: Row) -> int:
    """Items that a row's score leaves out: excluded, or unreadable."""
    protocol = row.get("protocol") or {}
    return sum(count for name in ("excluded", "bad") for count in (protocol.get(name) or {}).values())


def exclusion_lines(rows: Sequence[Row]) -> list[str]:
    """Items that the scores are not over and why, a line a task and reason, as the protocols say it."""
    tasks = task_names(rows)
    lines = []
    for row in rows:
        protocol = row.get("protocol") or {}
        older = [
            f"{count} {reason}" for name in ("excluded", "bad") for reason, count in (protocol.get(name) or {}).items()
        ]
        lines += [f"{tasks[row['task'], split_of(row)]}: {sentence}" for sentence in protocol.get("exclusions", older)]
    return list(dict.fromkeys(lines))


def leakage_notes(rows: Sequence[Row]) -> list[str]:
    """Overlap of each split with training data, a line a task and checkpoint, as the protocols count it."""
    tasks, checkpoints = task_names(rows), checkpoint_names(rows)
    lines = []
    for row in rows:
        counts = (row.get("protocol") or {}).get("in_train")
        if not isinstance(counts, dict):
            continue
        name = f"{tasks[row['task'], split_of(row)]}, {checkpoints[str(row['checkpoint'])]}: "
        leakage = Leakage(split_of(row), *(int(counts[key]) for key in ("samples", "same_bytes", "same_picture")))
        if counts.get("compared"):
            lines.append(name + leakage.sentence)
        lines += [f"{name}not compared with {folder}" for folder in counts.get("unknown", [])]
    return list(dict.fromkeys(lines))


def results_table(rows: Sequence[Row]) -> str:
    """Rows of results.jsonl for a terminal: a line a (task, metric), a column a checkpoint."""
    table = Table(title="fractions with 95% intervals; research use only", title_justify="left")
    table.add_column("task", overflow="fold")
    table.add_column("metric", overflow="fold")
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
    # Without a terminal Rich would take 80 columns and fold every cell of a log.
    console = Console(width=None if sys.stdout.isatty() else 160)
    with console.capture() as capture:
        console.print(table)
    text = [capture.get().rstrip("\n")]
    for title, lines in (("not in these scores:", exclusion_lines(rows)), ("in train:", leakage_notes(rows))):
        text += [title, *(f"  {line}" for line in lines)] if lines else []
    return "\n".join(text)
