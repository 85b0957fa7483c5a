"""A box as shards hold it: [left, top, right, bottom] as shares of the width and the height of the image as it is shown.

"As it is shown" is upright, turned as EXIF says. Shares do not change when an image is resized or encoded again; `cropped`
moves a box with what cuts an image, `turned` with what turns it. Edges lie between pixels: the box of all pixels is
[0, 0, 1, 1], that of the first pixel of four [0, 0, 0.25, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Box = tuple[float, float, float, float]
"""left, top, right, bottom."""

LAYOUTS = ("xyxy", "xywh", "cxcywh", "yxyx")
"""How publishers order a box's four numbers: corners (left, top, right, bottom), corner and size, centre and size (YOLO), and
corners with the vertical first."""
BEYOND = 0.01
"""Share of a side by which a published box may leave its picture: rounding. It is cut there; more is another picture's box."""


class BadBox(ValueError):
    """A box that is none. reason: a short snake_case word to count by."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def box_of(value: Any) -> Box:
    """A box of a shard, checked.

    Raises:
        BadBox: `box_not_numbers`, `box_negative_size`, `box_empty`, `box_outside_image`.
    """
    box = corners(four_numbers(value), "xyxy")
    if min(box) < 0 or max(box) > 1:
        raise BadBox(
            "box_outside_image", f"{_shown(value)} has sides beyond 0 to 1, shares of the image's width and height"
        )
    return box


def boxes_of(value: Any) -> list[Box]:
    """A list of boxes, checked. Raises BadBox as `box_of`, and `box_not_numbers` for what is no list."""
    if not isinstance(value, list):
        raise BadBox("box_not_numbers", f"boxes are {_shown(value)}, expected a list of [left, top, right, bottom]")
    return [box_of(item) for item in value]


def four_numbers(value: Any) -> tuple[float, float, float, float]:
    """Four finite numbers. Raises BadBox `box_not_numbers`."""
    is_list = isinstance(value, list | tuple) and len(value) == 4
    if not is_list or not all(type(side) in (int, float) and math.isfinite(side) for side in value):
        raise BadBox("box_not_numbers", f"a box is {_shown(value)}, expected four finite numbers")
    first, second, third, fourth = map(float, value)
    return first, second, third, fourth


def corners(numbers: Sequence[float], layout: str) -> Box:
    """left, top, right, bottom of four numbers in one of `LAYOUTS`, in their own unit.

    Raises:
        BadBox: `box_negative_size` (right of left, below of top), `box_empty` (no area).
    """
    a, b, c, d = numbers
    box = {
        "xyxy": (a, b, c, d),
        "xywh": (a, b, a + c, b + d),
        "cxcywh": (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
        "yxyx": (b, a, d, c),
    }[layout]
    x0, y0, x1, y1 = box
    if x1 < x0 or y1 < y0:
        raise BadBox("box_negative_size", f"{_shown(list(numbers))} as {layout} ends before it begins")
    if x1 == x0 or y1 == y0:
        raise BadBox("box_empty", f"{_shown(list(numbers))} as {layout} has no area")
    return box


def published_box(
    numbers: Sequence[float], layout: str, width: float, height: float, orientation: int = 1
) -> tuple[Box, bool]:
    """(the box of a publisher's four numbers, whether it was cut where it left its picture by up to `BEYOND`).

    Args:
        width, height: of the picture in which the numbers count, in their unit: its pixels, or 1, or 100.
        orientation: EXIF's, where the numbers are of the picture as it is encoded, and it is turned to be shown.
    Raises:
        BadBox: as `box_of`.
    """
    x0, y0, x1, y1 = corners(four_numbers(list(numbers)), layout)
    box = x0 / width, y0 / height, x1 / width, y1 / height
    part = clipped(box)
    if part is None or max(abs(a - b) for a, b in zip(box, part, strict=True)) > BEYOND:
        raise BadBox("box_outside_image", f"{_shown(list(numbers))} as {layout} is not within {width:g} × {height:g}")
    return turned(part, orientation), part != box


def clipped(box: Sequence[float]) -> Box | None:
    """What of a box lies in the image; None where nothing does."""
    return clipped_to(box, (0.0, 0.0, 1.0, 1.0))


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes."""
    common = clipped_to(first, second)
    if common is None:
        return 0.0
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (common, first, second)]
    return areas[0] / (areas[1] + areas[2] - areas[0])


def clipped_to(box: Sequence[float], frame: Sequence[float]) -> Box | None:
    """What of a box lies in another; None where nothing does."""
    x0, y0 = (max(a, b) for a, b in zip(box[:2], frame[:2], strict=True))
    x1, y1 = (min(a, b) for a, b in zip(box[2:], frame[2:], strict=True))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def cropped(box: Box, window: Box) -> Box | None:
    """What of a box is in a part of its image, as shares of that part; None where nothing is.

    window: the part, as shares of the image; it may reach beyond it, as padding does.
    """
    return clipped(within(box, window))


def within(box: Sequence[float], window: Sequence[float]) -> Box:
    """A box in shares of a window of its image, whether or not it lies there."""
    width, height = window[2] - window[0], window[3] - window[1]
    x0, x1 = ((side - window[0]) / width for side in box[::2])
    y0, y1 = ((side - window[1]) / height for side in box[1::2])
    return x0, y0, x1, y1


def beyond(box: Sequence[float], window: Sequence[float]) -> Box:
    """The reverse of `within`: a box in shares of a window → in shares of the image."""
    width, height = window[2] - window[0], window[3] - window[1]
    x0, x1 = (side * width + window[0] for side in box[::2])
    y0, y1 = (side * height + window[1] for side in box[1::2])
    return x0, y0, x1, y1


def turned(box: Box, orientation: int) -> Box:
    """A box of a picture as it is encoded → of the picture as EXIF's orientation (1 to 8) shows it."""
    x0, y0, x1, y1 = box
    if orientation in (5, 6, 7, 8):  # rows become columns
        x0, y0, x1, y1 = y0, x0, y1, x1
    if orientation in (2, 3, 6, 7):
        x0, x1 = 1 - x1, 1 - x0
    if orientation in (3, 4, 7, 8):
        y0, y1 = 1 - y1, 1 - y0
    return x0, y0, x1, y1


def _shown(value: Any) -> str:
    return str(value)[:80]
