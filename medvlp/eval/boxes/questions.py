"""Questions about boxes as a model is asked them: boxes in its own form, and what its answer is read by."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from medvlp.boxes.canonical import Box
from medvlp.boxes.forms import FORMS, BoxStyle
from medvlp.boxes.placeholders import BOXES, answer_boxes, box_image, with_written_boxes
from medvlp.boxes.views import View
from medvlp.data.images.decode import size_of
from medvlp.shards import BadSample, Conversation, Sample


@dataclass(frozen=True)
class BoxTarget:
    """The right boxes, as shares of the image, and how an answer is read.

    form: of `medvlp.boxes.forms.FORMS`. view: what the model sees of the image. image: which of the sample's, from 0.
    """

    boxes: tuple[Box, ...]
    form: str
    view: View
    image: int = 0


def style_of(model: Any, form: str = "") -> BoxStyle:
    """How a model writes boxes; one that does not say: as shares of the image. form: the task's, instead of the model's own."""
    style: BoxStyle = getattr(model, "box_style", None) or BoxStyle()
    return replace(style, form=form) if form else style


def image_size(sample: Sample, position: int) -> tuple[int, int]:
    """(height, width) of an image of the sample, counted from 0 in the order of their names. Raises BadSample."""
    names = sorted(sample.images)
    if position >= len(names) or names[position].endswith("nii.gz"):
        raise BadSample("bad_boxes", key=sample.key, detail=f"boxes in image {position}; there are {names}")
    return size_of(sample.images[names[position]])


def in_form(
    conversation: Conversation, sample: Sample, style: BoxStyle, with_words: bool
) -> tuple[Conversation, BoxTarget | None]:
    """(the conversation with its boxes in a model's form, what is right where it asks for boxes).

    Raises:
        BadSample: as `with_written_boxes`.
    """
    if BOXES not in conversation.metadata and conversation.metadata.get("answer_type") != BOXES:
        return conversation, None

    def size(position: int) -> tuple[int, int]:
        return image_size(sample, position)

    target = None
    if conversation.metadata.get("answer_type") == BOXES:
        boxes = answer_boxes(conversation)
        position = box_image(conversation.metadata)
        height, width = size(position)
        target = BoxTarget(boxes, style.form, style.geometry.view(width, height), position)
    return with_written_boxes(conversation, size, style, with_words), target


def box_protocol(questions: Sequence[Any]) -> dict[str, Any]:
    """What a protocol says of questions for boxes (those with `boxes`); nothing where there are none."""
    targets = [question.boxes for question in questions if question.boxes]
    if not targets:
        return {}
    return {
        "box_form": targets[0].form,
        "box_words": FORMS[targets[0].form].words,
        "box_frame": "IoU is of shares of the whole image; what the model does not see of it counts as missed",
        "boxes_per_question": {str(n): count for n, count in sorted(Counter(len(t.boxes) for t in targets).items())},
    }
