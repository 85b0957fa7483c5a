"""The letters that stand on or beside the panels, read by OCR: a second witness to which panel is which.

Read with RapidOCR (PP-OCRv4; its models come in the package), on one thread, so that every process reads the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from data_prep.panels.gutters import Box

CORNER = 0.25
"""Share of a panel's width and height from a corner within which a letter is the panel's, and marks no structure."""

NEAR = 0.15
"""Share of a panel's width and height by which its letter may stand outside."""

_LETTER = re.compile(r"[(\[]?([A-Za-z])[)\].:,]?")


@dataclass(frozen=True)
class Letter:
    """A single letter found in a figure, and the middle of its box in pixels."""

    letter: str
    x: float
    y: float


def read_letters(image_HW3: np.ndarray) -> list[Letter]:
    """The single letters in a figure, with or without brackets. image: uint8, BGR or RGB. About 0.7 s a figure on a CPU."""
    found, _ = _reader()(image_HW3, use_cls=False)
    letters = []
    for corners, text, _ in found or []:
        match = _LETTER.fullmatch(text.strip())
        if match:
            x, y = np.mean(corners, axis=0)
            letters.append(Letter(match[1], float(x), float(y)))
    return letters


@lru_cache(maxsize=1)
def _reader() -> Any:
    from rapidocr_onnxruntime import RapidOCR

    return RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)


def order_by_letters(boxes: list[Box], labels: list[str], letters: list[Letter]) -> list[Box] | None:
    """The boxes in the order of the labels, as far as letters say; in the order given where there are none.

    A letter counts if it is one of the labels and stands in the corner of a panel or close outside it; a panel with two
    of them, and a letter on two panels, count for nothing. All letters in place confirm the order; all but one or all
    read, in another order, set it; anything else contradicts it: None.
    """
    known = {label.upper(): number for number, label in enumerate(labels)}
    owned = [(letter.letter.upper(), _owner(letter, boxes)) for letter in letters]
    claims = {(known[letter], at) for letter, at in owned if letter in known and at is not None}
    sure = {label: at for label, at in claims if sum(label == other[0] or at == other[1] for other in claims) == 1}
    if all(label == at for label, at in sure.items()):
        return boxes
    if len(sure) < len(boxes) - 1:
        return None
    everything = set(range(len(boxes)))
    for label in everything - set(sure):
        sure[label] = (everything - set(sure.values())).pop()
    return [boxes[sure[label]] for label in range(len(boxes))]


def _owner(letter: Letter, boxes: list[Box]) -> int | None:
    """The panel in a corner of which a letter stands, or the nearest one close to which it stands outside."""
    away: list[float] = []
    for x0, y0, x1, y1 in boxes:
        across, down = (letter.x - x0) / (x1 - x0), (letter.y - y0) / (y1 - y0)
        if 0 <= across <= 1 and 0 <= down <= 1:
            in_corner = min(across, 1 - across) <= CORNER and min(down, 1 - down) <= CORNER
            return len(away) if in_corner else None
        away.append(max(-across, across - 1, -down, down - 1))
    nearest = min(away)
    return away.index(nearest) if nearest <= NEAR else None
