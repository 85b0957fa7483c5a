"""Files of an evaluation: `results.jsonl`, a row a (checkpoint, task, split, metric); `samples/*.jsonl`, a record an item."""

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvlp.eval.task import TaskResult
from medvlp.jsonl import read_rows, write_rows
from medvlp.shards import ShardError


def results_rows(checkpoint: str, result: TaskResult) -> list[dict[str, Any]]:
    """The rows of results.jsonl: fractions, and null where a value or a bound is not defined."""
    return [
        {
            "checkpoint": checkpoint,
            "task": result.task,
            "metric": metric.name,
            "value": _defined(metric.value),
            "ci_low": _defined(metric.ci_low),
            "ci_high": _defined(metric.ci_high),
            "n": metric.n,
            "protocol": result.protocol,
        }
        for metric in result.metrics
    ]


def write_result(folder: Path, checkpoint: str, result: TaskResult) -> list[dict[str, Any]]:
    """Add one result to `results.jsonl` and write its records, each with its kind, to `samples/`; returns the rows.

    Rows of the same checkpoint, task and split are replaced, so a repeated evaluation does not count twice. Two
    checkpoints of one base name do not collide: the records' file, named in the protocol as `records`, carries a hash
    of the path.
    """
    split = result.protocol["split"]
    parts = (split, *Path(checkpoint).with_suffix("").parts[-3:])
    stem = "-".join(re.sub(r"[^A-Za-z0-9_.-]+", "-", part) for part in parts)
    digest = hashlib.sha256(checkpoint.encode()).hexdigest()[:8]
    records = Path("samples") / f"{result.task}--{stem.strip('-')[-80:]}-{digest}.jsonl"
    rows = results_rows(checkpoint, result)
    for row in rows:
        row["protocol"] = {**result.protocol, "records": records.as_posix()}
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    write_rows(folder / records, [record | {"kind": result.kind} for record in result.records])
    results = folder / "results.jsonl"
    replaced = (checkpoint, result.task, split)
    write_rows(results, [row for row in read_rows(results) if _scored(row, results) != replaced], rows)
    return rows


def _scored(row: Mapping[str, Any], path: Path) -> tuple[str, str, str]:
    """The (checkpoint, task, split) of a row of results.jsonl."""
    try:
        return row["checkpoint"], row["task"], row["protocol"]["split"]
    except (KeyError, TypeError) as error:
        raise ShardError(
            f"{path} has a row that is not a result ({type(error).__name__}: {error}); remove the row, or give another output"
        ) from None


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
