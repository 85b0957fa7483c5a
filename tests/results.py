"""A folder of results, as an evaluation of one model on one task leaves it."""

import hashlib
from pathlib import Path

from medvlp.eval.results import metric_rows, replace_rows, write_records
from medvlp.eval.task import TaskResult


def write_result(folder: Path, checkpoint: str, result: TaskResult) -> list[dict]:
    """Write a result's rows and records; returns the rows."""
    split = result.protocol["split"]
    records = write_records(folder, result, split, hashlib.sha256(checkpoint.encode()).hexdigest())
    rows = [
        {"checkpoint": checkpoint, "task": result.task, **row, "protocol": {**result.protocol, "records": records}}
        for row in metric_rows(result)
    ]
    replace_rows(folder / "results.jsonl", {(checkpoint, result.task, split)}, rows)
    return rows
