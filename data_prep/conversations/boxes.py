"""Questions for the boxes that a publisher drew: one for each label of an image, answered with all of its boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from data_prep.conversations.agreement import UNION, Agreement
from data_prep.errors import BadRow
from medvlp.boxes.canonical import BadBox, Box, published_box
from medvlp.data.images.decode import orientation_of_file, size_of
from medvlp.shards import BadSample, Conversation, Turn
from medvlp.shards.vocabulary import BOX_TOKEN, IMAGE_TOKEN

QUESTION = "Where is the {label}?"


@dataclass(frozen=True)
class PublishedBox:
    """A box as it was published.

    label: what is in it. numbers: four, in the order of `layout` (of `medvlp.boxes.canonical.LAYOUTS`).
    width, height: of the picture in which they count, in their unit; 0: the image's own pixels.
    is_encoded: they count in the picture as it is encoded, before EXIF turns it; else as it is shown.
    reader: who drew it, where several did.
    """

    label: str
    numbers: tuple[float, ...]
    layout: str = "xyxy"
    width: float = 0.0
    height: float = 0.0
    is_encoded: bool = False
    reader: str = ""


@dataclass
class BoxQuestions:
    """What becomes of an image's boxes.

    conversations: one for each label. faults: why others have none. cuts: boxes cut at the picture's edge. lonely: boxes of too
    few readers. unsettled: labels without a box that readers agree on.
    """

    conversations: list[Conversation] = field(default_factory=list)
    faults: list[BadRow] = field(default_factory=list)
    cuts: int = 0
    lonely: int = 0
    unsettled: int = 0

    def counts(self) -> dict[str, int]:
        """For the ledger."""
        return {
            "boxes cut at the edge of their picture": self.cuts,
            "boxes that too few readers drew": self.lonely,
            "labels without a box that readers agree on": self.unsettled,
        }


def box_of_image(published: PublishedBox, image: bytes) -> tuple[Box, bool]:
    """(a box in the form of shards, whether it was cut at the picture's edge).

    Raises BadRow: box_not_numbers, box_negative_size, box_empty, box_outside_image, undecodable_image.
    """
    try:
        orientation = orientation_of_file(image) if published.is_encoded else 1
        height, width = size_of(image)
        if orientation >= 5:
            width, height = height, width
        extent = published.width or width, published.height or height
        return published_box(published.numbers, published.layout, *extent, orientation)
    except (BadBox, BadSample) as bad:
        raise BadRow(bad.reason, f"{published.label}: {bad.detail}") from None


def box_questions(
    published: Sequence[PublishedBox],
    images: Sequence[bytes],
    question: str = QUESTION,
    language: str = "",
    agreement: Agreement | None = None,
) -> BoxQuestions:
    """A question for each label of an image.

    A label of which one box cannot be used is not asked for: the answer would lack it. Equal boxes count once. agreement: of
    several readers; without it, all of their boxes are right.
    """
    questions = BoxQuestions()
    for label in dict.fromkeys(box.label for box in published):
        try:
            if len(images) != 1:
                raise BadRow("not_one_image", f"{label}: boxes of a sample with {len(images)} images")
            if BOX_TOKEN in label or IMAGE_TOKEN in label:
                raise BadRow("placeholder_count", f"{label!r} holds a placeholder")
            pairs = [(box_of_image(box, images[0]), box.reader) for box in published if box.label == label]
        except BadRow as bad:
            questions.faults.append(bad)
            continue
        questions.cuts += sum(was_cut for (_, was_cut), _ in pairs)
        boxes, lonely = (agreement or UNION).agreed([(box, reader) for (box, _), reader in pairs])
        questions.lonely += lonely
        if not boxes:
            questions.unsettled += 1
            continue
        turns = [
            Turn("user", f"{IMAGE_TOKEN}\n{question.replace('{label}', label)}"),
            Turn("assistant", " ".join([BOX_TOKEN] * len(boxes))),
        ]
        metadata = {
            "answer_type": "boxes",
            "boxes": [list(box) for box in boxes],
            "question_type": "boxes",
            "label": label,
        }
        questions.conversations.append(
            Conversation(turns, f"boxes of {label}", {**metadata, **({"language": language} if language else {})})
        )
    return questions
