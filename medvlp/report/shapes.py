"""Shapes of values in files that strangers may have written, and the error that names file, line and field."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlp.jsonl import Row, numbered_rows
from medvlp.report.files import NotARun


@dataclass(frozen=True)
class Shape:
    """What a value has to be, in words and as a test."""

    words: str
    accepts: Callable[[Any], bool]

    def __or__(self, second: "Shape") -> "Shape":
        return Shape(f"{self.words} or {second.words}", lambda value: self.accepts(value) or second.accepts(value))


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(float(value))
    except OverflowError:
        return False


def list_of(shape: Shape, length: int | None = None) -> Shape:
    """A list whose items all have one shape."""

    def accepts(value: Any) -> bool:
        return isinstance(value, list) and length in (None, len(value)) and all(map(shape.accepts, value))

    return Shape(f"a list of {shape.words}", accepts)


def mapping_of(shape: Shape) -> Shape:
    """An object whose values all have one shape."""
    return Shape(
        f"an object of {shape.words}", lambda value: isinstance(value, dict) and all(map(shape.accepts, value.values()))
    )


def row_of(fields: Mapping[str, Shape], optional: Collection[str] = ()) -> Shape:
    """An object with these fields, and any others."""

    def accepts(value: Any) -> bool:
        return isinstance(value, dict) and not problem_of(value, fields, optional)

    return Shape("an object", accepts)


NULL = Shape("null", lambda value: value is None)
TEXT = Shape("a string", lambda value: isinstance(value, str))
NUMBER = Shape("a finite number", _is_number)
COUNT = Shape(
    "a whole number that is not negative",
    lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63,
)
SCALAR = Shape(
    "a string, a number, true, false or null", lambda value: value is None or isinstance(value, str | int | float)
)
OBJECT = Shape("an object", lambda value: isinstance(value, dict))


def problem_of(row: Mapping[str, Any], fields: Mapping[str, Shape], optional: Collection[str] = ()) -> str:
    """What of a row is not as it has to be; empty where all is."""
    for name, shape in fields.items():
        if name not in row:
            if name in optional:
                continue
            return f"it has no {name!r}"
        if not shape.accepts(row[name]):
            text = repr(row[name])
            return f"{name} is {text if len(text) <= 60 else text[:57] + '…'}, expected {shape.words}"
    return ""


def checked_rows(path: Path, shape: Callable[[Row], str]) -> list[Row]:
    """The rows of a .jsonl file; none of an absent one.

    Args:
        shape: what of a row is not as it has to be; empty where all is.

    Raises:
        NotARun: a row is of another shape; the message has the file, the line and the field.
        BrokenLine: a line is not an object.
    """
    rows = []
    for number, row in numbered_rows(path):
        if problem := shape(row):
            raise NotARun(f"{path}, line {number} is not as medvlp writes it: {problem}; restore it, or make it again")
        rows.append(row)
    return rows
