"""Boxes drawn on a thumbnail as one SVG: the expected ones, and those of the answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from medvlp.boxes.canonical import clipped
from medvlp.report.files import Row
from medvlp.report.run.galleries import BoxPicture
from medvlp.report.shapes import COUNT, NULL, NUMBER, list_of
from medvlp.report.thumbnails import Thumbnail

EXPECTED, ANSWERED = "expected", "answered"
RECORD = {
    "boxes": list_of(list_of(NUMBER, 4)),
    "predicted_boxes": list_of(list_of(NUMBER, 4)) | NULL,
    "box_image": COUNT,
}
"""What a record of a question for boxes has besides."""


@dataclass(frozen=True)
class _Drawn:
    """The boxes of one side. paths: SVG. skipped: boxes of which no part lies in the image."""

    paths: list[str]
    skipped: int


def is_boxed(record: Row) -> bool:
    """Whether a record is of a question for boxes."""
    return "boxes" in record


def box_picture(record: Row, thumbnail: Thumbnail) -> BoxPicture | None:
    """The boxes of a record on its image; None where there is no image, or the question is for something else.

    Of a box that leaves the image, the part in it is drawn.
    """
    if not is_boxed(record) or not thumbnail.image:
        return None
    width, height = thumbnail.width, thumbnail.height
    answered = record.get("predicted_boxes") or []
    sides = {
        EXPECTED: _drawn(record["boxes"], EXPECTED, width, height),
        ANSWERED: _drawn(answered, ANSWERED, width, height),
    }
    label = Markup.escape(f"{thumbnail.key}: {len(record['boxes'])} expected boxes, {len(answered)} answered")
    image = f'<image href="{Markup.escape(thumbnail.image)}" width="{width}" height="{height}"></image>'
    drawing = "".join(path for side in sides.values() for path in side.paths)
    svg = f'<svg class="boxes" role="img" aria-label="{label}" viewBox="0 0 {width} {height}">{image}{drawing}</svg>'
    return BoxPicture(Markup(svg), sum(side.skipped for side in sides.values()))


def box_words(record: Row) -> list[tuple[str, str]]:
    """(heading, text) of what the numbers say: the IoU, or why no box could be read."""
    if not is_boxed(record):
        return []
    if record.get("predicted_boxes") is None:
        rule = (record.get("extraction") or {}).get("rule")
        return [("Read as", f"no answer: {rule}" if isinstance(rule, str) and rule else "no answer")]
    iou = record["scores"].get("box_iou")
    return [] if iou is None else [("IoU", f"{iou:.2f}")]


def _drawn(boxes: Sequence[Sequence[float]], side: str, width: int, height: int) -> _Drawn:
    """Each box twice: a dark line below, so that its colour is seen on bright and on dark images."""
    parts = [clipped(box) for box in boxes]
    rectangles = [_rectangle(part, width, height) for part in parts if part is not None]
    paths = [f'<path class="{name}" d="{d}"></path>' for d in rectangles for name in (f"{side} below", side)]
    return _Drawn(paths, sum(part is None for part in parts))


def _rectangle(box: Sequence[float], width: int, height: int) -> str:
    x0, y0, x1, y1 = box
    return f"M{x0 * width:.1f} {y0 * height:.1f}H{x1 * width:.1f}V{y1 * height:.1f}H{x0 * width:.1f}Z"
