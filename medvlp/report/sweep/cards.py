"""The card of a number: the protocol of its cell, divided into what all models of the task share and what is the cell's."""

from dataclasses import dataclass
from typing import Any

from medvlp.report.sweep.leaderboard import cell_id, interval
from medvlp.report.sweep.marks import LEGEND, trained_mark
from medvlp.report.sweep.scores import Scores, Task

WORDS_OF_IDENTITY = ("weights", "records", "in_train")
"""Lines that are a cell's own, also where models happen to share them."""

LONGEST_TEXT = 200
"""Characters of a text that is a cell's own."""


@dataclass(frozen=True)
class Card:
    """One cell."""

    name: str
    """Of the element on the page."""
    model: str
    task: Task
    numbers: list[tuple[str, str, str]]
    """Main metrics: (name, value, interval)."""
    trained: str
    """What the mark †, ‡, § or ? says; empty without one."""
    lines: dict[str, Any]
    """What of its protocol is its own."""
    task_card: str
    """Name of the task's card; empty where the lines are all there is."""


@dataclass(frozen=True)
class TaskCard:
    """What the protocols of all models on one task agree on."""

    name: str
    task: Task
    models: int
    lines: dict[str, Any]


def cards(scores: Scores) -> tuple[list[Card], list[TaskCard]]:
    """A card for each cell, and one for each task that several models share lines of."""
    cells, tasks = [], []
    for position, task in enumerate(scores.tasks):
        protocols = {model: scores.protocol(model, task) for model in scores.models}
        present = {model: protocol for model, protocol in protocols.items() if protocol is not None}
        common = shared_lines(list(present.values())) if len(present) > 1 else {}
        name = f"task-{position}" if common else ""
        if common:
            tasks.append(TaskCard(name, task, len(present), common))
        for model, protocol in present.items():
            lines = {key: _clipped(value) for key, value in protocol.items() if key not in common}
            mark = trained_mark(protocol)
            trained = f"{mark} {LEGEND[mark]}" if mark else ""
            cells.append(
                Card(cell_id(scores, model, task), model, task, _numbers(scores, model, task), trained, lines, name)
            )
    return cells, tasks


def shared_lines(protocols: list[dict[str, Any]]) -> dict[str, Any]:
    """Lines of the first protocol that all others have with the same value."""
    first, *siblings = protocols
    return {
        key: value
        for key, value in first.items()
        if key not in WORDS_OF_IDENTITY and all(key in protocol and protocol[key] == value for protocol in siblings)
    }


def _clipped(value: Any) -> Any:
    """A text that is not longer than a card holds; results.jsonl has all of it."""
    if not isinstance(value, str) or len(value) <= LONGEST_TEXT:
        return value
    return f"{value[:LONGEST_TEXT]}… ({len(value)} characters in results.jsonl)"


def _numbers(scores: Scores, model: str, task: Task) -> list[tuple[str, str, str]]:
    numbers = []
    for metric in task.main:
        if (row := scores.row(model, task, metric)) is not None:
            value = "undefined" if row["value"] is None else f"{row['value']:.3f}"
            numbers.append((metric, value, interval(row)))
    return numbers
