"""A run's folder: lines that are whole, files that are whole or absent, and rows that belong to the checkpoint."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medvlp.shards.atomic import write_whole

LOGS = ("metrics.jsonl", "samples.jsonl", "bad_samples.jsonl")
"""A training run's rows, by step."""


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Whole rows of a .jsonl file; a last line that a kill cut short is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def drop_rows_after(path: Path, step: int) -> None:
    """Keep the rows of steps up to `step`: what came later will come again."""
    if path.exists():
        kept = [row for row in read_rows(path) if row["step"] <= step]
        write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept).encode())


def finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: null instead."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }


class Rows:
    """Appends objects to a .jsonl file, a line each, flushed: a kill loses none that was written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, *rows: dict[str, Any]) -> None:
        if rows:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(finite(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


class Status:
    """status.json: running, done, stopped or failed, with step and reason. A first failure's reason stays: when a rank
    fails, the others fail after it, of the silence."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "status.json"
        self.step, self.began = 0, False

    def running(self, step: int, write: bool) -> None:
        """The run has come to a step; rank 0 writes it. From the first call on, a failure is this process's to report."""
        self.step, self.began = step, True
        if write:
            self.write("running", step)

    def write(self, state: str, step: int, reason: str = "") -> None:
        if state == "failed" and self.read().get("state") == "failed":
            return
        self.step = step
        row = {"state": state, "step": step, "reason": reason}
        write_whole(self.path, (json.dumps(row, ensure_ascii=False) + "\n").encode())

    def read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
