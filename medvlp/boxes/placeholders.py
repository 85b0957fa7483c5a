"""Boxes in conversations: `<box>` in a turn stands for the next of the boxes in the conversation's metadata.

    turns       "Where is the nodule?" → "<box>"; "What is in <box>?" → "A nodule."
    metadata    boxes: [[0.1, 0.25, 0.5, 1.0], ...], one for each `<box>`, in the order of the text
                box_image: which of the sample's images they are in, from 0; 0 where it is not said

A conversation without `boxes` has no placeholders: in it, `<box>` is text. A model is given the boxes in its own form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from medvlp.boxes.canonical import BadBox, Box, boxes_of
from medvlp.boxes.forms import FORMS, BoxStyle, NoPixels, written_boxes
from medvlp.shards import BadSample, Conversation, Turn
from medvlp.shards.vocabulary import BOX_TOKEN

BOXES = "boxes"
"""The key of a conversation's metadata, and the answer type of a question that asks for boxes."""
IN_A_ROW = re.compile(rf"{BOX_TOKEN}(?:[ \t]*,?[ \t]*{BOX_TOKEN})*")
Size = Callable[[int], tuple[int, int]]
"""Image of the sample, from 0 → (height, width) as it is shown. Raises BadSample."""


def box_faults(conversation: Conversation, images: int) -> list[tuple[str, str]]:
    """(problem, detail) of what a conversation says of boxes; none for one that says nothing."""
    metadata = conversation.metadata
    is_asked = metadata.get("answer_type") == BOXES
    if BOXES not in metadata:
        return [("bad_boxes", "answer_type is boxes, and the metadata have no boxes")] if is_asked else []
    try:
        boxes = boxes_of(metadata[BOXES])
    except BadBox as bad:
        return [("bad_boxes", f"{bad.reason}: {bad.detail}")]
    faults = []
    counts = [turn.text.count(BOX_TOKEN) for turn in conversation.turns]
    if sum(counts) != len(boxes):
        faults.append(("box_count", f"{sum(counts)} × {BOX_TOKEN} for {len(boxes)} boxes"))
    position = metadata.get("box_image", 0)
    if type(position) is not int or not 0 <= position < max(images, 1) or not images:
        faults.append(("bad_boxes", f"box_image is {position!r}, of {images} images"))
    return faults


def answer_boxes(conversation: Conversation) -> tuple[Box, ...]:
    """The boxes of the last turn, in shares of the image. Raises BadSample `bad_boxes`, `box_count`."""
    if BOXES not in conversation.metadata:
        raise BadSample("bad_boxes", detail="the metadata have no boxes")
    boxes = _checked(conversation)
    count = conversation.turns[-1].text.count(BOX_TOKEN)
    return tuple(boxes[len(boxes) - count :])


def box_image(metadata: Mapping[str, Any]) -> int:
    """Which of the sample's images the boxes of a conversation are in."""
    return int(metadata.get("box_image", 0))


def with_written_boxes(
    conversation: Conversation, size: Size, style: BoxStyle, with_words: bool = True
) -> Conversation:
    """The conversation with its boxes as text, in a model's form and of what that model sees.

    with_words: a question that asks for boxes says in which form, behind it on a line of its own, if the style has words.

    Raises:
        BadSample: `bad_boxes`, `box_count`, `box_not_seen` (no part of it is in what the model sees), `no_pixels` (the
            form counts pixels of a view whose size is not known), and as `size`.
    """
    if BOXES not in conversation.metadata:
        return conversation
    boxes = _checked(conversation)
    form = FORMS[style.form]
    remaining = iter(boxes)
    view = None
    if boxes:
        height, width = size(box_image(conversation.metadata))
        view = style.geometry.view(width, height)

    def fill(match: re.Match[str]) -> str:
        assert view is not None
        parts = []
        for box in (next(remaining) for _ in range(match[0].count(BOX_TOKEN))):
            part = view.of_image(box)
            if part is None:
                raise BadSample(
                    "box_not_seen", detail=f"box {list(box)} lies outside of what the model sees, {view.window}"
                )
            parts.append(part)
        try:
            return written_boxes(parts, form, view)
        except NoPixels as error:
            raise BadSample("no_pixels", detail=f"form {style.form}: {error}") from None

    turns = [replace(turn, text=IN_A_ROW.sub(fill, turn.text)) for turn in conversation.turns]
    if with_words and style.has_words and conversation.metadata.get("answer_type") == BOXES and len(turns) > 1:
        turns[-2] = Turn(turns[-2].role, f"{turns[-2].text}\n{box_words(style.form)}")
    return replace(conversation, turns=turns)


def box_words(form: str) -> str:
    """What a question says of the form of the boxes that it asks for."""
    return f"Give each box as {FORMS[form].words}."


def _checked(conversation: Conversation) -> list[Box]:
    for reason, detail in box_faults(conversation, images=1 + box_image_or_zero(conversation)):
        raise BadSample(reason, detail=detail)
    return boxes_of(conversation.metadata[BOXES])


def box_image_or_zero(conversation: Conversation) -> int:
    """As `box_image`, of metadata that nobody has checked."""
    position = conversation.metadata.get("box_image", 0)
    return position if type(position) is int else 0
