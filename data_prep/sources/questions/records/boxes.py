"""Boxes of records: what a mapping's key `boxes` says, and the boxes that it makes of an entry.

    boxes: {columns: [x, y, width, height], layout: xywh, scale: pixels, size: [1024, 1024], label: class}

A column each, or `column`, whose cell holds one box or a list of them. `scale` is what the whole side counts: pixels, 1, 100 or
1000. `size` is of the picture in which pixels count, numbers or columns, where the image is another size now. `label` is a
column, or one text for all rows. `readers: {column: rad_id, iou: 0.5, least: 2}` is of boxes that several people drew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from data_prep.conversations.agreement import Agreement
from data_prep.conversations.boxes import QUESTION, PublishedBox
from data_prep.errors import BadRow
from data_prep.readers.checked_yaml import CheckedFile
from data_prep.readers.fields import says_something
from data_prep.readers.tables.cells import list_in
from medvlp.boxes.canonical import LAYOUTS

SCALES = {"pixels": 0.0, "1": 1.0, "100": 100.0, "1000": 1000.0}
FRAMES = ("shown", "encoded")


@dataclass(frozen=True)
class BoxesTerm:
    """Where boxes are. frame: shown (upright), or encoded: before EXIF turns the image."""

    label: str
    columns: tuple[str, ...] = ()
    column: str = ""
    layout: str = "xyxy"
    scale: str = "pixels"
    size: tuple[str, ...] = ()
    question: str = QUESTION
    frame: str = FRAMES[0]
    readers: str = ""
    """The column of who drew it."""
    agreement: Agreement | None = None

    def terms(self) -> list[str]:
        """Terms that name columns; label and size may be constants."""
        return [*self.columns, *(term for term in (self.column, self.readers) if term)]


def boxes_term(file: CheckedFile, value: Any) -> BoxesTerm | None:
    """The key `boxes` of a file. Raises PrepError."""
    if value is None:
        return None
    keys = ("label", "columns", "column", "layout", "scale", "size", "question", "frame")
    page = file.mapping(value, "boxes", (*keys, "readers"))
    keywords: dict[str, Any] = {"label": "", **_readers(file, page.get("readers"))}
    for name in (name for name in keys if name in page):
        read = file.texts if name in ("columns", "size") else file.text
        keywords[name] = read(page[name], f"boxes.{name}")
    term = BoxesTerm(**keywords)
    if not term.label:
        file.fail("boxes.label", "is missing", "name the column of what is in a box, or one word for all")
    if bool(term.column) == bool(term.columns) or (term.columns and len(term.columns) != 4):
        file.fail(
            "boxes", "has not one of column and four columns", "give column: bbox, or columns: [x, y, width, height]"
        )
    if len(term.size) not in (0, 2):
        file.fail("boxes.size", f"is {list(term.size)}", "expected width and height, as numbers or columns")
    choices = {"layout": LAYOUTS, "scale": tuple(SCALES), "frame": FRAMES}
    for name, names in choices.items():
        if getattr(term, name) not in names:
            file.fail(f"boxes.{name}", f"is {getattr(term, name)!r}", f"expected one of {', '.join(names)}")
    if "{label}" not in term.question:
        file.fail("boxes.question", f"is {term.question!r}", "it has to say {label}")
    return term


def _readers(file: CheckedFile, value: Any) -> dict[str, Any]:
    """The key `boxes.readers`. Raises PrepError."""
    if value is None:
        return {}
    page = file.mapping(value, "boxes.readers", ("column", "iou", "least"))
    column, iou, least = page.get("column"), page.get("iou", Agreement.iou), page.get("least", Agreement.least)
    if not isinstance(column, str) or not column:
        file.fail("boxes.readers.column", "is missing", "name the column of who drew a box")
    if not isinstance(iou, float) or not 0 < iou <= 1:
        file.fail("boxes.readers.iou", f"is {iou!r}", "expected a number from 0.1 to 1.0")
    if type(least) is not int or least < 1:
        file.fail("boxes.readers.least", f"is {least!r}", "expected how many readers have to agree, 1 or more")
    return {"readers": column, "agreement": Agreement(iou, least)}


def boxes_of_entry(term: BoxesTerm, entry: Any) -> Iterator[PublishedBox]:
    """The boxes of a `RecordEntry`; none where their cells are empty. Numbers that are none become NaN, refused by name later.

    Raises BadRow: bad_boxes (a cell in no form that is known), empty_, missing_<label>.
    """
    if term.columns:
        cells = [entry.value(column) for column in term.columns]
        values = [cells] if any(says_something(cell) for cell in cells) else []
    else:
        cell = entry.value(term.column)
        cell = list_in(cell) if isinstance(cell, str) and cell.strip() else cell
        if not says_something(cell):
            return
        if not isinstance(cell, list):
            raise BadRow("bad_boxes", f"{term.column} is {str(cell)[:80]!r}, expected a list of numbers, or of boxes")
        values = cell if isinstance(cell[0], list) else [cell]
    if not values:
        return
    label = entry.constant(term.label)
    if not label:
        raise BadRow("empty_label", f"{term.label} is empty, and there are boxes")
    reader = entry.text(term.readers) if term.readers else ""
    extent = SCALES[term.scale]
    width, height = (_number(entry.constant(side)) for side in term.size) if term.size else (extent, extent)
    if term.size and not (width > 0 and height > 0):
        raise BadRow("bad_size", f"the picture of the boxes is {width:g} × {height:g}")
    for value in values:
        numbers = tuple(_number(side) for side in value) if isinstance(value, list) else ()
        yield PublishedBox(label, numbers, term.layout, width, height, term.frame == "encoded", reader)


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan
