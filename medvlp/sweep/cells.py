"""Cells on disk: `cells/<id>.json`, whole or absent, with the records that it names; and the files joined from them."""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medvlp.eval.results import metric_rows, replace_rows, scored, write_records
from medvlp.eval.statistics.result_files import RESULTS
from medvlp.eval.task import TaskResult
from medvlp.jsonl import Row, encode_row, read_rows
from medvlp.report.shapes import COUNT, NULL, NUMBER, OBJECT, TEXT, list_of, mapping_of, problem_of, row_of
from medvlp.shards.atomic import write_whole
from medvlp.sweep.plan import Cell

CELLS = "cells"
COMPARISONS = ".comparisons.json"
"""Finished comparisons of models, by what they are computed from."""
SUBGROUPS, CALIBRATION, FAILURES = "subgroups.jsonl", "calibration.jsonl", "failures.jsonl"

_METRIC = row_of({"metric": TEXT, "n": COUNT, **dict.fromkeys(("value", "ci_low", "ci_high"), NUMBER | NULL)})
CONTENT = {
    **dict.fromkeys(("id", "checkpoint", "task", "split"), TEXT),
    "parts": row_of({"task": OBJECT}),
    "metrics": list_of(_METRIC),
    "protocol": row_of({"records": TEXT, "n": COUNT, "excluded": mapping_of(COUNT)}, optional=("n", "excluded")),
    "files": mapping_of(TEXT),
    **dict.fromkeys(("subgroups", "calibration"), list_of(OBJECT)),
}
"""Fields of a cell's file."""


@dataclass(frozen=True)
class CellStatistics:
    """What is computed of a cell's records when it ends, besides the task's own metrics.

    metrics: rows of results.jsonl, without what all rows of a cell have in common. subgroups, calibration: rows of the files
    of these names, likewise.
    """

    metrics: list[Row] = field(default_factory=list)
    subgroups: list[Row] = field(default_factory=list)
    calibration: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class CellFolder:
    """The cells of an output folder."""

    folder: Path

    def read(self, id: str) -> Row | None:
        """A cell's content; None where there is none, or its files are not as they were written."""
        try:
            content = json.loads((self.folder / CELLS / f"{id}.json").read_bytes())
            if problem_of(content, CONTENT) or content["id"] != id:
                return None
            if content["protocol"]["records"] not in content["files"]:
                return None
            for name, digest in content["files"].items():
                path = self.folder / name
                if not path.resolve().is_relative_to(self.folder.resolve()) or sha256_of(path) != digest:
                    return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return dict(content)

    def write(self, cell: Cell, result: TaskResult, statistics: CellStatistics) -> Row:
        """Keep a cell: its records first, so that what its file names is there. Returns its content.

        Raises:
            ShardError: the disk refuses.
        """
        records = write_records(self.folder, result, cell.task.split, cell.id)
        content = {
            "id": cell.id,
            "checkpoint": cell.model.name,
            "task": result.task,
            "split": cell.task.split,
            "parts": cell.parts,
            "metrics": metric_rows(result) + statistics.metrics,
            "protocol": result.protocol | {"records": records},
            "subgroups": statistics.subgroups,
            "calibration": statistics.calibration,
            "files": {records: sha256_of(self.folder / records)},
        }
        (self.folder / CELLS).mkdir(exist_ok=True)
        data = encode_row(content)
        write_whole(self.folder / CELLS / f"{cell.id}.json", data)
        return dict(json.loads(data))  # as another process will read it: numbers that JSON does not have are null

    def check_joined(self) -> None:
        """See that rows can be put behind those of earlier commands, before anything is measured. Raises ShardError."""
        for name in (RESULTS, SUBGROUPS, CALIBRATION):
            for row in read_rows(self.folder / name):
                scored(row, self.folder / name)

    def join(self, cells: Sequence[Cell], contents: dict[str, Row]) -> list[Row]:
        """Write results.jsonl and the files next to it: rows of other commands in their order, then those of the cells that
        are finished, in the order of the sweep; of one that is not judged yet, those of its answers. Returns the rows of
        results.jsonl that are this sweep's."""
        measured = [cell if cell.id in contents or cell.answering is None else cell.answering for cell in cells]
        finished = [(cell, contents[cell.id]) for cell in measured if cell.id in contents]
        keys = {cell.key for cell in cells}
        rows = [row for cell, content in finished for row in results_rows(cell, content)]
        replace_rows(self.folder / RESULTS, keys, rows)
        for path, name in ((self.folder / SUBGROUPS, "subgroups"), (self.folder / CALIBRATION, "calibration")):
            joined_rows = [_named(cell) | row | _named(cell) for cell, content in finished for row in content[name]]
            if joined_rows or path.exists():
                replace_rows(path, keys, joined_rows)
        return rows

    def write_failures(self, failures: Iterable[tuple[Cell, str]]) -> None:
        """failures.jsonl: cells of this command that failed, with the reason; absent where there are none."""
        rows = [_named(cell) | {"reason": reason} for cell, reason in failures]
        if rows:
            replace_rows(self.folder / FAILURES, None, rows)
        else:
            (self.folder / FAILURES).unlink(missing_ok=True)


def _named(cell: Cell) -> Row:
    return dict(zip(("checkpoint", "task", "split"), cell.key, strict=True))


def results_rows(cell: Cell, content: Row) -> list[Row]:
    """The rows of results.jsonl of a cell, under the name that its model has in this command."""
    protocol = content["protocol"] | cell.model.origin | {"split": cell.task.split}
    model_and_task = {"checkpoint": cell.model.name, "task": cell.task.name}  # first, and whatever a row says
    return [model_and_task | row | model_and_task | {"protocol": protocol} for row in content["metrics"]]


def main_row(rows: Collection[Row]) -> Row:
    """The row that a cell is told by: the first metric that is its own and no control's, subgroup's or part's."""
    return next((row for row in rows if "/" not in row["metric"] and row["value"] is not None), next(iter(rows)))


def summary(content: Row) -> str:
    """The main metric of a cell with its interval, for a line: acc1 0.712 [0.650, 0.770] of 156."""
    if not content["metrics"]:
        return "no metric"
    row = main_row(content["metrics"])
    value, low, high = (row[name] for name in ("value", "ci_low", "ci_high"))
    interval = f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
    text = "undefined" if value is None else f"{value:.3f}"
    return f"{row['metric']} {text}{interval} of {row['n']}"


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
