"""Files of an evaluation: `results.jsonl`, a row a (checkpoint, task, split, metric); `samples/*.jsonl`, a record an item."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from medvlp.eval.bootstrap import MetricValue
from medvlp.eval.task import TaskResult
from medvlp.jsonl import finite, read_rows, write_rows
from medvlp.shards import ShardError


def metric_rows(result: TaskResult) -> list[dict[str, Any]]:
    """A row a metric of a result, as `value_rows`."""
    return value_rows(result.metrics)


def value_rows(values: Sequence[MetricValue]) -> list[dict[str, Any]]:
    """A row a metric, without model, task and protocol: fractions, and null where a value or a bound is not defined."""
    return [
        {
            "metric": metric.name,
            "value": finite(metric.value),
            "ci_low": finite(metric.ci_low),
            "ci_high": finite(metric.ci_high),
            "n": metric.n,
        }
        for metric in values
    ]


def write_records(folder: Path, result: TaskResult, split: str, id: str) -> str:
    """Write a result's records, each with its kind, to `samples/`; returns the file's name in the folder.

    id: of the content that the records come from: another model, split or setting has a file of its own.

    Raises:
        ShardError: the disk refuses.
    """
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{result.task}--{split}")[-100:]
    records = f"samples/{stem}--{id[:16]}.jsonl"
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    write_rows(folder / records, [record | {"kind": result.kind} for record in result.records])
    return records


def replace_rows(path: Path, keys: Collection[tuple[str, str, str]] | None, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put rows behind those of a .jsonl file that are not about these (checkpoint, task, split); None replaces them all.

    Raises:
        ShardError: a row of the file is not a result, or the disk refuses.
    """
    earlier = [] if keys is None else [row for row in read_rows(path) if scored(row, path) not in keys]
    write_rows(path, earlier, rows)


def scored(row: Mapping[str, Any], path: Path) -> tuple[str, str, str]:
    """The (checkpoint, task, split) of a row: of results.jsonl by its protocol, of the files next to it by the row.

    Raises:
        ShardError: it is not a result.
    """
    try:
        key = row["checkpoint"], row["task"], row["split"] if "split" in row else row["protocol"]["split"]
        if not all(isinstance(name, str) for name in key):
            raise TypeError("checkpoint, task and split have to be strings")
    except (KeyError, TypeError) as error:
        raise ShardError(
            f"{path} has a row that is not a result ({type(error).__name__}: {error}); remove the row, or give another output"
        ) from None
    return key
