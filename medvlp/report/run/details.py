"""Details of one checkpoint on one task: its protocol, and examples from its records."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvlp.report.files import NotARun, Row, read_jsonl
from medvlp.report.run.classification import classification_examples
from medvlp.report.run.galleries import Examples
from medvlp.report.run.questions import question_examples
from medvlp.report.run.retrieval import retrieval_examples
from medvlp.report.thumbnails import Thumbnails

EXAMPLES: dict[str, Callable[[list[Row], Row, Thumbnails | None], Examples]] = {
    "zero_shot": classification_examples,
    "retrieval": retrieval_examples,
    "vqa": question_examples,
}
"""Kind of a record → what a page shows of such records; of a kind that is not here, the table and the protocol alone."""


@dataclass(frozen=True)
class TaskDetails:
    """Everything that the page says of one checkpoint on one task, apart from its row in the table."""

    checkpoint: str
    task: str
    protocol: dict[str, Any]
    examples: Examples = field(default_factory=Examples)
    images_missing: str = ""
    notes: list[str] = field(default_factory=list)


def task_details(folder: Path, checkpoint: str, task: str, protocol: dict[str, Any]) -> TaskDetails:
    """Read the records that a protocol names, and the thumbnails of those on the page.

    Raises:
        NotARun: the records are damaged.
        KeyError: a record lacks one of its fields.
    """
    if not protocol.get("records"):
        return TaskDetails(checkpoint, task, protocol)
    path = folder / protocol["records"]
    if not path.resolve().is_relative_to(folder.resolve()):
        raise NotARun(f"{folder}: the records of {task} are said to be at {path}, outside of the folder")
    if not path.is_file():
        missing = f"{protocol['records']} is missing: no examples of {task}."
        return TaskDetails(checkpoint, task, protocol, notes=[missing])
    records = read_jsonl(path)
    kind = kind_of(records.rows, protocol)
    if kind not in EXAMPLES:
        return TaskDetails(checkpoint, task, protocol, notes=[records.note] if records.note else [])
    thumbnails = Thumbnails(str(protocol.get("data", "")), str(protocol.get("split_hash", "")), protocol.get("text"))
    examples = EXAMPLES[kind](records.rows, protocol, None if thumbnails.problem else thumbnails)
    return TaskDetails(checkpoint, task, protocol, examples, thumbnails.problem, [records.note] if records.note else [])


def kind_of(records: list[Row], protocol: dict[str, Any]) -> str:
    """The kind that the records carry; those of older evaluations do not, and their protocol does."""
    return str(records[0].get("kind") or protocol.get("kind") if records else "")
