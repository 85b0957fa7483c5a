"""Parts of a page about a task's records: examples under headings, and tables of counts and means."""

from dataclasses import dataclass, field

from markupsafe import Markup

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
class BoxPicture:
    """A thumbnail with boxes. skipped: boxes of which no part lies in the image."""

    svg: Markup
    skipped: int = 0


@dataclass(frozen=True)
class QuestionExample:
    """A question next to its answers. `controls`: (image-blind control, the answer there)."""

    thumbnail: Thumbnail
    question: str
    prediction: str
    target: str
    options: list[tuple[str, str]]
    controls: list[tuple[str, str]]
    boxes: BoxPicture | None = None
    """In place of the thumbnail."""
    words: list[tuple[str, str]] = field(default_factory=list)
    """(heading, text) of what else is said of the answer."""
    folded: list[tuple[str, list[str]]] = field(default_factory=list)
    """(heading, texts) behind a heading that opens: the examples of its prompt, the samples of a vote."""
    heading: str = "Question"
    """Over the question."""


@dataclass(frozen=True)
class Examples:
    """All that a page shows of one checkpoint's records of one task; each kind of task fills what it has."""

    confusion: Confusion | None = None
    types: TypeTable | None = None
    galleries: list[Gallery] = field(default_factory=list)
    questions: list[tuple[str, list[QuestionExample]]] = field(default_factory=list)
    """(heading, questions)."""


def clipped_text(text: str, characters: int) -> str:
    """A text of at most so many characters; of a longer one the beginning, and dots."""
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
