"""Parts of a page about a task's records: examples under headings, and tables of counts and means."""

from dataclasses import dataclass, field

from medvlp.report.thumbnails import Thumbnail


@dataclass(frozen=True)
class Example:
    """A query next to its target and its prediction. Thumbnails carry both, the image and the caption."""

    query: Thumbnail
    target: Thumbnail | None
    prediction: Thumbnail | None
    verdict: str


@dataclass(frozen=True)
class Gallery:
    """Examples under a heading."""

    title: str
    direction: str
    """Which halves of the thumbnails matter: image_to_text, text_to_image, or empty for a classification."""
    examples: list[Example]


@dataclass(frozen=True)
class Confusion:
    """Counts of a classification: a row a true class, a column a prediction."""

    columns: list[str]
    rows: list[tuple[str, list[int], int, str]]
    """(true class, counts in the order of columns, total, recall as text)."""


@dataclass(frozen=True)
class TypeTable:
    """Mean scores of the questions of each type."""

    columns: list[str]
    rows: list[tuple[str, str, int, list[str]]]
    """(answer type or question type, its name, questions, a mean for each column; "–" where no question has one)."""
    skipped: int
    """Question types beyond the first of the table."""


@dataclass(frozen=True)
class QuestionExample:
    """A question next to its answers. `controls`: (image-blind control, the answer there)."""

    thumbnail: Thumbnail
    question: str
    prediction: str
    target: str
    options: list[tuple[str, str]]
    controls: list[tuple[str, str]]


@dataclass(frozen=True)
class Examples:
    """All that a page shows of one checkpoint's records of one task; each kind of task fills what it has."""

    confusion: Confusion | None = None
    types: TypeTable | None = None
    galleries: list[Gallery] = field(default_factory=list)
    questions: list[tuple[str, list[QuestionExample]]] = field(default_factory=list)
    """(heading, questions)."""
