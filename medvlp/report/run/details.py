"""Details of one checkpoint on one task: its protocol, and examples from its records."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvlp.report.files import NotARun, Row, explained, read_jsonl
from medvlp.report.run import classification, error_check, questions, retrieval, texts
from medvlp.report.run.galleries import Examples
from medvlp.report.shapes import Shape, checked_rows, problem_of
from medvlp.report.thumbnails import Thumbnails

Fields = Mapping[str, Shape]


@dataclass(frozen=True)
class KindOfRecords:
    """What a page shows of the records of one kind of task.

    fields: what every record has. examples: of records, their protocol, thumbnails, and at most so many in a gallery.
    optional: what some records have besides.
    """

    fields: Fields
    examples: Callable[[list[Row], Row, Thumbnails | None, int | None], Examples]
    optional: Fields = field(default_factory=dict)

    def problem_of(self, row: Row) -> str:
        """What of a record is not as it has to be; empty where all is."""
        return problem_of(row, {**self.fields, **self.optional}, self.optional)


EXAMPLES = {
    "zero_shot": KindOfRecords(classification.RECORD, classification.classification_examples),
    "classification": KindOfRecords(classification.TRAINED_RECORD, classification.classification_examples),
    "probe": KindOfRecords(classification.TRAINED_RECORD, classification.classification_examples),
    "multi_label": KindOfRecords(classification.TRAINED_RECORD, classification.classification_examples),
    "retrieval": KindOfRecords(retrieval.RECORD, retrieval.retrieval_examples),
    "vqa": KindOfRecords(questions.RECORD, questions.question_examples, questions.OPTIONAL),
    "text": KindOfRecords(texts.RECORD, texts.text_examples, texts.OPTIONAL),
    "error_check": KindOfRecords(error_check.RECORD, error_check.error_examples, error_check.OPTIONAL),
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

    @property
    def pictures(self) -> int:
        """Pictures on the page."""
        in_galleries = (
            len(gallery.examples) * (2 if gallery.direction == "text_to_image" else 1)
            for gallery in self.examples.galleries
        )
        return sum(in_galleries) + sum(len(examples) for _, examples in self.examples.questions)


def task_details(
    folder: Path, checkpoint: str, task: str, protocol: dict[str, Any], most: int | None = None
) -> TaskDetails:
    """Read the records that a protocol names, and the thumbnails of those on the page.

    Args:
        most: examples of each gallery; None takes as many as its kind has.

    Raises:
        NotARun: the records are damaged, or lack one of their fields.
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
    checked_rows(path, EXAMPLES[kind].problem_of)
    with explained(path):
        examples = EXAMPLES[kind].examples(records.rows, protocol, None if thumbnails.problem else thumbnails, most)
    return TaskDetails(checkpoint, task, protocol, examples, thumbnails.problem, [records.note] if records.note else [])


def kind_of(records: list[Row], protocol: dict[str, Any]) -> str:
    """The kind that the records carry; those of older evaluations do not, and their protocol does."""
    return str(records[0].get("kind") or protocol.get("kind") if records else "")
