"""How models write boxes: what their numbers count, in which order, and between which marks.

A form is a family's, by name. Numbers are of what the model sees (`View`), not of the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from medvlp.boxes.canonical import Box
from medvlp.boxes.views import Geometry, View

PIXELS = 0.0
"""The scale of numbers that count pixels of what the model sees."""


class NoPixels(ValueError):
    """A form counts pixels, and nobody knows how many pixels the model's processor makes of an image."""


@dataclass(frozen=True)
class BoxForm:
    """A way to write boxes.

    scale: what the whole width or height counts: 1, 100, 1000, or `PIXELS`.
    template: one box; {0} … {3} are its numbers in the form's order.
    words: the form as a question says it.
    order: xyxy, or yxyx: the vertical first.
    digits: decimals of a number.
    bins: numbers are of cells, from 0 to one less than that; `centred`: a cell means its middle, else where it begins.
    joint: between boxes.
    begin, end: around all boxes of one answer.
    """

    scale: float
    template: str
    words: str
    order: str = "xyxy"
    digits: int = 0
    bins: int = 0
    centred: bool = False
    joint: str = ", "
    begin: str = ""
    end: str = ""

    def numbers(self, box: Box, view: View) -> list[float]:
        """The form's numbers of a box in shares of the view. Raises NoPixels."""
        x0, y0, x1, y1 = box
        if self.bins and self.template.count("{") == 2:  # Kosmos-2: the first and the last cell, row by row
            return [float(cell) for cell in _first_and_last_cell(box, self.bins)]
        sides = [x0, y0, x1, y1]
        if self.bins:
            numbers = [float(min(math.floor(side * self.bins), self.bins - 1)) for side in sides]
        else:
            numbers = [
                round(side * scale, self.digits) for side, scale in zip(sides, scales(self.scale, view), strict=True)
            ]
        return [numbers[i] for i in (1, 0, 3, 2)] if self.order == "yxyx" else numbers

    def written(self, box: Box, view: View) -> str:
        """A box in shares of the view as text. Raises NoPixels."""
        width = 4 if "loc{" in self.template or "patch" in self.template else 0
        texts = [f"{number:.{self.digits}f}".zfill(width) for number in self.numbers(box, view)]
        return self.template.format(*texts)


def scales(scale: float, view: View) -> tuple[float, float, float, float]:
    """What left, top, right and bottom of 1 count. Raises NoPixels."""
    if scale:
        return scale, scale, scale, scale
    if not (view.width and view.height):
        raise NoPixels("the form counts pixels, and the size of what the model sees is not known")
    return float(view.width), float(view.height), float(view.width), float(view.height)


def _first_and_last_cell(box: Box, cells: int) -> tuple[int, int]:
    """Of a grid of `cells` a side, the numbers of the box's upper left and lower right cell (Kosmos-2, Peng 2023)."""
    x0, y0, x1, y1 = box
    x0, y0 = math.floor(x0 * cells), math.floor(y0 * cells)
    x0, y0 = min(x0, cells - 1), min(y0, cells - 1)
    x1, y1 = max(math.ceil(x1 * cells - 1), x0), max(math.ceil(y1 * cells - 1), y0)
    return y0 * cells + x0, y1 * cells + x1


_THOUSAND = "numbers from 0 to 1000"
FORMS = {
    "shares": BoxForm(
        1,
        "[{0}, {1}, {2}, {3}]",
        "[left, top, right, bottom] with numbers from 0 to 1, shares of the image's sides",
        digits=3,
    ),
    "thousandths": BoxForm(1000, "[{0}, {1}, {2}, {3}]", f"[left, top, right, bottom] with {_THOUSAND}"),
    "pixels": BoxForm(PIXELS, "[{0}, {1}, {2}, {3}]", "[left, top, right, bottom] in pixels"),
    "qwen2_vl": BoxForm(
        1000, "<|box_start|>({0},{1}),({2},{3})<|box_end|>", f"(left,top),(right,bottom) with {_THOUSAND}", joint=""
    ),
    "qwen2_5_vl": BoxForm(
        PIXELS,
        '{{"bbox_2d": [{0}, {1}, {2}, {3}]}}',
        'JSON, [{"bbox_2d": [left, top, right, bottom]}] in pixels',
        begin="[",
        end="]",
    ),
    "qwen3_vl": BoxForm(
        1000,
        '{{"bbox_2d": [{0}, {1}, {2}, {3}]}}',
        f'JSON, [{{"bbox_2d": [left, top, right, bottom]}}] with {_THOUSAND}',
        begin="[",
        end="]",
    ),
    "gemini": BoxForm(
        1000,
        '{{"box_2d": [{0}, {1}, {2}, {3}]}}',
        f'JSON, [{{"box_2d": [top, left, bottom, right]}}] with {_THOUSAND}',
        "yxyx",
        begin="[",
        end="]",
    ),
    "internvl": BoxForm(
        1000,
        "[{0}, {1}, {2}, {3}]",
        f"<box>[[left, top, right, bottom]]</box> with {_THOUSAND}",
        begin="<box>[",
        end="]</box>",
    ),
    "paligemma": BoxForm(
        1024,
        "<loc{0}><loc{1}><loc{2}><loc{3}>",
        "four tokens <loc0000> to <loc1023>: top, left, bottom, right",
        "yxyx",
        bins=1024,
        joint=" ; ",
    ),
    "florence2": BoxForm(
        1000,
        "<loc_{0}><loc_{1}><loc_{2}><loc_{3}>",
        "four tokens <loc_0> to <loc_999>: left, top, right, bottom",
        bins=1000,
        centred=True,
        joint="",
    ),
    "kosmos2": BoxForm(
        32,
        "<patch_index_{0}><patch_index_{1}>",
        "two tokens <patch_index_0000> to <patch_index_1023>, the first and the last of 32 × 32 cells",
        bins=32,
        centred=True,
        joint="</delimiter_of_multi_objects/>",
        begin="<object>",
        end="</object>",
    ),
    "minigpt_v2": BoxForm(
        100, "{{<{0}><{1}><{2}><{3}>}}", "{<left><top><right><bottom>} with numbers from 0 to 100", joint="<delim>"
    ),
    "maira2": BoxForm(
        100,
        "<box><x{0}><y{1}><x{2}><y{3}></box>",
        "<box><x0><y0><x99><y99></box>, of 100 columns and rows",
        bins=100,
        centred=True,
        joint="",
    ),
}
"""Form → how it is written. The names are those of the first family that was published with it."""

FORM_OF_FAMILY = {
    "qwen2_vl": "qwen2_vl",
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen3_vl": "qwen3_vl",
    "internvl": "internvl",
    "paligemma": "paligemma",
    "florence2": "florence2",
    "kosmos-2": "kosmos2",
}
"""transformers' model type → the form that its publisher trained it with."""


STYLE_FILE = "medvlp_boxes.json"
"""Of an exported assistant: the file that says how it was taught to write boxes."""


@dataclass(frozen=True)
class BoxStyle:
    """How one model is given boxes, and gives them.

    form: of `FORMS`. geometry: what it sees of an image. has_words: whether a question that asks for boxes says in which form.
    """

    form: str = "shares"
    geometry: Geometry = field(default_factory=Geometry)
    has_words: bool = True

    def metadata(self) -> dict[str, Any]:
        """For `STYLE_FILE`, by the names of the objective's keys. The geometry is the processor's, which is exported too."""
        return {"box_form": self.form, "box_words": self.has_words}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], geometry: Geometry) -> Self:
        """The reverse. Raises ValueError for a form that is not known."""
        form, has_words = metadata.get("box_form", "shares"), metadata.get("box_words", True)
        if form not in FORMS:
            raise ValueError(f"box_form is {str(form)[:80]!r}, expected one of {', '.join(FORMS)}")
        if not isinstance(has_words, bool):
            raise ValueError(f"box_words is {str(has_words)[:80]!r}, expected true or false")
        return cls(form, geometry, has_words)


def written_boxes(boxes: list[Box], form: BoxForm, view: View) -> str:
    """Several boxes, in shares of the view, as one answer; "" for none. Raises NoPixels."""
    if not boxes:
        return ""
    return form.begin + form.joint.join(form.written(box, view) for box in boxes) + form.end


def read_cells(first: int, last: int, cells: int) -> Box:
    """The reverse of `_first_and_last_cell`: from middle to middle, or the whole cells of a box in one row or column."""
    (y0, x0), (y1, x1) = divmod(first, cells), divmod(last, cells)
    if x0 == x1 or y0 == y1:
        return x0 / cells, y0 / cells, (x1 + 1) / cells, (y1 + 1) / cells
    return (x0 + 0.5) / cells, (y0 + 0.5) / cells, (x1 + 0.5) / cells, (y1 + 0.5) / cells
