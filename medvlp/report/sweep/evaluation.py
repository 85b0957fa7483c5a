"""Files of an evaluation, read and checked row by row: a page is made of what strangers may have written."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from medvlp.jsonl import Row, torn_bytes
from medvlp.report.shapes import (
    COUNT,
    NULL,
    NUMBER,
    OBJECT,
    SCALAR,
    TEXT,
    Shape,
    checked_rows,
    list_of,
    mapping_of,
    problem_of,
    row_of,
)

Cell = tuple[str, str, str]
"""What one model scored on one task and split: (checkpoint, task, split)."""

_CELL = {"checkpoint": TEXT, "task": TEXT, "split": TEXT | NULL}
_INTERVAL = {"ci_low": NUMBER | NULL, "ci_high": NUMBER | NULL}
_BIN = {"low": NUMBER, "high": NUMBER, "n": COUNT, "confidence": NUMBER | NULL, "accuracy": NUMBER | NULL}
_OVERLAP = {
    **dict.fromkeys(("samples", "same_bytes", "same_picture", "same_id", "same_group"), COUNT),
    **{name: list_of(TEXT) | NULL for name in ("compared", "unknown")},
}
_HOLDOUT = {"items": COUNT, "unseen": COUNT, "combinations": mapping_of(COUNT), "notes": list_of(TEXT)}
PROTOCOL = {
    "split": TEXT | NULL,
    "kind": TEXT | NULL,
    "records": TEXT | NULL,
    "step": COUNT | NULL,
    "n": COUNT | NULL,
    "samples": COUNT | NULL,
    "excluded": mapping_of(COUNT) | NULL,
    "bad": mapping_of(COUNT) | NULL,
    "exclusions": list_of(TEXT) | NULL,
    "classes": OBJECT | list_of(TEXT) | NULL,
    "in_train": row_of(_OVERLAP, tuple(_OVERLAP)) | TEXT | NULL,
    "held_out": row_of(_HOLDOUT) | NULL,
    "omitted": OBJECT | NULL,
    "reliance": list_of(TEXT) | NULL,
}
"""Fields of a protocol that a page reads. A protocol may lack each."""
RESULT = {
    **_CELL,
    "metric": TEXT,
    "value": NUMBER | NULL,
    **_INTERVAL,
    "n": COUNT,
    "protocol": row_of(PROTOCOL, tuple(PROTOCOL)) | NULL,
}
COMPARISON = {
    **dict.fromkeys(("task", "metric", "a", "b"), TEXT),
    "split": TEXT | NULL,
    "difference": NUMBER | NULL,
    **_INTERVAL,
    **dict.fromkeys(("p", "p_holm", "n", "clusters", "wins", "ties", "losses"), NUMBER | NULL),
    "differing": list_of(TEXT) | NULL,
}
SUBGROUP = {**_CELL, "metric": TEXT, "by": TEXT, "group": SCALAR, "value": NUMBER | NULL, **_INTERVAL, "n": COUNT}
CALIBRATION = {
    **_CELL,
    "bins": list_of(row_of(_BIN, ("confidence", "accuracy"))) | NULL,
    "risk_coverage": list_of(list_of(NUMBER, 2)) | NULL,
}
FAILURE = {**_CELL, "reason": TEXT}
OPTIONAL = ("split", "ci_low", "ci_high", "protocol", "clusters", "wins", "ties", "losses", "bins", "risk_coverage")
"""Fields that a row may lack."""

FILES = {
    "results.jsonl": RESULT,
    "comparisons.jsonl": COMPARISON,
    "subgroups.jsonl": SUBGROUP,
    "calibration.jsonl": CALIBRATION,
    "failures.jsonl": FAILURE,
}


@dataclass(frozen=True)
class Evaluation:
    """The rows of an evaluation folder, checked. A file that is absent has none."""

    results: list[Row] = field(default_factory=list)
    comparisons: list[Row] = field(default_factory=list)
    subgroups: list[Row] = field(default_factory=list)
    calibration: list[Row] = field(default_factory=list)
    failures: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Files that end in the middle of a row."""


def read_evaluation(folder: Path) -> Evaluation:
    """All files of an evaluation.

    Raises:
        NotARun: a row lacks a field or has another shape; the message has the file, the line and the field.
        BrokenLine: a line is not an object.
    """
    rows = {name: checked_rows(folder / name, partial(_problem, fields)) for name, fields in FILES.items()}
    notes = [
        f"The last line of {name} is incomplete, as a killed run leaves it; it is ignored."
        for name in FILES
        if torn_bytes(folder / name)
    ]
    return Evaluation(
        rows["results.jsonl"],
        rows["comparisons.jsonl"],
        rows["subgroups.jsonl"],
        rows["calibration.jsonl"],
        rows["failures.jsonl"],
        notes,
    )


def check_results(folder: Path) -> None:
    """That every row of results.jsonl has the shape of one.

    Raises:
        NotARun: a row has not; the message has the file, the line and the field.
        BrokenLine: a line is not an object.
    """
    checked_rows(folder / "results.jsonl", partial(_problem, RESULT))


def _problem(fields: dict[str, Shape], row: Row) -> str:
    protocol = row.get("protocol")
    inner = problem_of(protocol, PROTOCOL, tuple(PROTOCOL)) if isinstance(protocol, dict) else ""
    return f"in its protocol, {inner}" if inner else problem_of(row, fields, OPTIONAL)


def cell_of(row: Row) -> Cell:
    """The cell of a row of results, subgroups, calibration or failures; an absent split is empty."""
    return row["checkpoint"], row["task"], split_of(row)


def split_of(row: Row) -> str:
    """The split that a row was measured on; empty where neither it nor its protocol says."""
    return str(row.get("split") or (row.get("protocol") or {}).get("split") or "")
