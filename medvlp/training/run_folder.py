"""A run's folder: lines that are whole, files that are whole or absent, and rows that belong to the checkpoint."""

import json
from pathlib import Path
from typing import Any

from medvlp.jsonl import Row, read_rows, torn_bytes, write_rows
from medvlp.shards.atomic import write_whole

LOGS = ("metrics.jsonl", "samples.jsonl", "bad_samples.jsonl", "skipped_steps.jsonl")
"""A training run's rows, by step."""
SELECTED = "selected.json"
"""Source → what its conditions left (`Selected.to_json`); a run without conditions has none."""


def drop_rows_after(folder: Path, step: int) -> None:
    """Of every .jsonl file of a run, keep the rows of steps up to `step`: what came later will come again."""
    for path in sorted(folder.glob("*.jsonl")):
        rows = list(read_rows(path))
        early_rows = [row for row in rows if not is_after(row, step)]
        if len(early_rows) < len(rows) or torn_bytes(path):
            write_rows(path, early_rows)


def is_after(row: Row, step: int) -> bool:
    """Whether a row is of a later step; rows without a step are of none."""
    row_step = row.get("step")
    return isinstance(row_step, int | float) and row_step > step


BEFORE_A_STEP = ("config.yaml", "status.json", "left_out.jsonl", "wandb_id.txt", SELECTED, *LOGS)
"""What a run writes before its first step."""


def is_blank(folder: Path) -> bool:
    """Whether no run in a folder came to anything: it holds at most what one writes before its first step."""
    if not folder.is_dir():
        return not folder.exists()
    names = {*BEFORE_A_STEP, "checkpoints", "tensorboard", "wandb"}
    if any(path.name not in names and not path.name.startswith(".") for path in folder.iterdir()):
        return False
    has_content = any((folder / "checkpoints").glob("*.ckpt")) or any(
        next(read_rows(folder / name), None) for name in LOGS
    )
    return not has_content and not Status(folder).read().get("step")


def clear_blank(folder: Path) -> None:
    """Take away what a run wrote that never came to a step."""
    if is_blank(folder):
        for name in BEFORE_A_STEP:
            (folder / name).unlink(missing_ok=True)


class Status:
    """status.json: running, done, stopped or failed, with step and reason. A first failure's reason stays: when a rank
    fails, the others fail after it, of the silence."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "status.json"
        self.step, self.is_running = 0, False

    def running(self, step: int, write: bool) -> None:
        """The run has come to a step; rank 0 writes it. From the first call on, a failure is this process's to report."""
        self.step, self.is_running = step, True
        if write:
            self.write("running", step)

    def write(self, state: str, step: int, reason: str = "") -> None:
        if state == "failed" and self.read().get("state") == "failed":
            return
        self.step = step
        row = {"state": state, "step": step, "reason": reason}
        write_whole(self.path, (json.dumps(row, ensure_ascii=False) + "\n").encode())

    def read(self) -> dict[str, Any]:
        """What was written last; nothing where that is damaged."""
        try:
            row = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return row if isinstance(row, dict) else {}
