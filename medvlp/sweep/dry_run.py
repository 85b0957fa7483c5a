"""A dry run: the cells of a sweep, which are finished, what of the others is stored, what is missing. It loads no weights."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medvlp.config import EvalConfig
from medvlp.eval.store.folder import IMAGES, StoreFolder
from medvlp.eval.store.responses import FOLDER as RESPONSES
from medvlp.eval.store.root import is_store
from medvlp.jsonl import Row
from medvlp.sweep.cells import summary
from medvlp.sweep.measure import reason
from medvlp.sweep.plan import Cell, SweepPlan
from medvlp.training.checkpoints import load_checkpoint


def tell_dry_run(plan: SweepPlan, contents: dict[str, Row], config: EvalConfig) -> int:
    """Print a line a cell, and what is missing; returns 1 where something is, else 0.

    contents: id → content of the finished cells.
    """
    store = Stored(config)
    counts = {"finished": 0, "to measure": 0, "missing": 0}
    for cell in plan.cells:
        if cell.problem is not None:
            state, note = "missing", reason(cell.problem).splitlines()[0]
        elif cell.id in contents:
            state, note = "finished", summary(contents[cell.id])
        else:
            state, note = "to measure", store.note(cell)
        counts[state] += 1
        print(f"{state:<11} {cell.model.name}: {cell.task.name} ({cell.task.split})" + (f"  {note}" if note else ""))
    print(f"{len(plan.cells)} cells: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    problems = {id(cell.problem): cell.problem for cell in plan.cells if cell.problem is not None}
    for problem in problems.values():
        print(f"\nmissing: {reason(problem)}")
    return 1 if problems else 0


class Stored:
    """What earlier evaluations have left in the store that a configuration names."""

    def __init__(self, config: EvalConfig) -> None:
        root = config.cache.folder
        exists = is_store(root)
        entries = StoreFolder(root, config.cache.max_bytes).entries() if exists and config.cache.max_bytes else []
        self.encoded = {
            (encoder, str(entry.parts["data"])): int(entry.notes.get("images", 0))
            for entry in entries
            if entry.parts.get("kind") == IMAGES
            for encoder in (str(entry.parts["encoder"]), str(entry.parts["encoder"]).partition(":")[0])
        }
        self.answers = list(_logs(root / RESPONSES)) if exists else []

    def note(self, cell: Cell) -> str:
        """What of a cell need not be computed again, in words; empty if nothing is known to be."""
        assert cell.task.task is not None
        identities = set(_identities(cell))
        data = cell.task.task.dataset.manifest_hash
        images = [self.encoded[identity, data] for identity in identities if (identity, data) in self.encoded]
        answers = sum(count for values, count in self.answers if identities & values)
        notes = [f"embeddings of {images[0]} images are stored"] if images else []
        return ", ".join(notes + [f"{answers} answers of the model are stored"] * bool(answers))


def _identities(cell: Cell) -> Iterator[str]:
    """Names under which a store may know a model."""
    yield cell.model.identity
    if cell.model.model_name.scheme == "checkpoint":
        yield str(load_checkpoint(cell.model.model_name.target)["medvlp"]["weights_sha256"])


def _logs(folder: Path) -> Iterator[tuple[set[str], int]]:
    """For each log of responses the strings of its first row, which says whose they are, and how many there are."""
    for path in sorted(folder.glob("*.jsonl")):
        with open(path, "rb") as file:
            first = next(file, b"")
            try:
                values = set(_strings(json.loads(first)))
            except (ValueError, RecursionError):
                continue
            yield values, sum(1 for _ in file)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
