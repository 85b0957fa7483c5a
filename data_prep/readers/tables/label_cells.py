"""Labels in the cells of tables: a class, a list of classes, one column a class, weights of classes.

A label that a sample keeps is a text (one class), a list of texts (complete: a class that is not in it is absent), or a
mapping from class to 1 (present), 0 (absent), -1 (uncertain) or null (not stated).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from typing import Any

from data_prep.errors import BadRow
from data_prep.readers.fields import as_text
from data_prep.readers.tables.cells import is_empty, items_of_cell, literal_in, suffix, text_of_cell

PRESENT, ABSENT, UNCERTAIN = 1, 0, -1
UNCERTAINTY = {"keep": UNCERTAIN, "ones": PRESENT, "zeros": ABSENT, "ignore": None}
"""What becomes of a class that its publisher marks as uncertain (-1): it stays so, or is present, absent or not stated. As
CheXpert's policies (Irvin et al. 2019): U-Ones, U-Zeros, U-Ignore."""

STATES = {
    **dict.fromkeys(("1", "true", "yes"), PRESENT),
    **dict.fromkeys(("0", "false", "no"), ABSENT),
    "-1": UNCERTAIN,
}
"""What a cell of a class says, in lower case → its state."""

_LISTS = re.compile(r"[\[{]|\(['\"]")
"""How a list or a mapping begins, or a broken one: a label does not."""


def class_of_cell(entry: dict[str, Any], column: str, names: Mapping[str, str]) -> str:
    """The one class of a cell; "" where it is empty. names: the publisher's word → the class; empty: words are classes.

    Raises BadRow: bad_<column> (a list, or a word that is none of the names), long_<column>, not_utf8.
    """
    return _named(text_of_cell(entry, column), column, names)


def _is_blank(text: str) -> bool:
    """Whether a text in a list states nothing: also `nan`, which pandas writes for an empty cell. (Alone it may be a class.)"""
    return text.strip().lower() in ("", "nan", "<na>")


def classes_of_cell(
    entry: dict[str, Any], column: str, names: Mapping[str, str], separator: str = ""
) -> list[str] | None:
    """The classes of a cell, without repetitions; [] where it lists none, None where it is empty.

    A list is one of JSON lines or parquet, or a text as JSON, Python or numpy write it; other texts are parted at the
    separator, or at `|` where none is named. Raises BadRow as `class_of_cell`.
    """
    if is_empty(entry.get(column)):
        return None
    items = items_of_cell(entry, column)
    if items is None:  # a text, of which `nan` by itself may be a class
        labels = items_of_cell(entry, column, separator or "|") or []
    else:
        labels = [item for item in items if not _is_blank(item)]
        if items and not labels:
            return None
    words = [_named(label.strip(), column, names) for label in labels]
    return list(dict.fromkeys(word for word in words if word))


def states_of_cells(
    entry: dict[str, Any], columns: Mapping[str, str], uncertain: str = "keep"
) -> dict[str, int | None]:
    """Class → 1, 0, -1 or None, of one column a class; {} where all are empty.

    columns: column → class. uncertain: a name of `UNCERTAINTY`. Raises BadRow bad_<column>.
    """
    states: dict[str, int | None] = {}
    for column, name in columns.items():
        state = _state(entry, column)
        states[name] = UNCERTAINTY[uncertain] if state == UNCERTAIN else state
    return states if any(state is not None for state in states.values()) else {}


def one_of_cells(entry: dict[str, Any], columns: Mapping[str, str]) -> str:
    """The class whose column alone is 1. Raises BadRow: bad_<column>, not_one_class."""
    present = [name for column, name in columns.items() if _state(entry, column) == PRESENT]
    if len(present) != 1:
        raise BadRow("not_one_class", f"{len(present)} of the columns {', '.join(columns)} are 1, expected one")
    return present[0]


def weights_of_cell(entry: dict[str, Any], column: str, names: Mapping[str, str]) -> dict[str, float] | None:
    """Class → weight of a cell that holds a mapping, as SCIN writes it ({'Eczema': 0.69}); the heaviest first.

    None where it is empty. Raises BadRow: bad_<column>, long_<column>, not_utf8.
    """
    value = entry.get(column)
    if is_empty(value):
        return None
    content = value if isinstance(value, Mapping) else literal_in(text_of_cell(entry, column))
    if not isinstance(content, Mapping):
        raise BadRow(f"bad_{suffix(column)}", f"{column} is {str(value)[:80]!r}, expected classes with weights")
    weights: dict[str, float] = {}
    for word, weight in content.items():
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not isinstance(word, str) or not is_number or not 0 <= weight <= sys.float_info.max:
            description = (
                "out of range" if isinstance(weight, int) else str(weight)[:40]
            )  # an int may be too long to print
            raise BadRow(f"bad_{suffix(column)}", f"{column}: the weight of {str(word)[:40]!r} is {description}")
        weights[_named(word.strip(), column, names)] = float(weight)
    return dict(sorted(weights.items(), key=lambda pair: -pair[1]))


def present_classes(label: Any, weights: Mapping[str, float] | None = None) -> list[str]:
    """The classes of a label that a caption can speak of; of weighted ones the heaviest."""
    if weights:
        return [name for name, weight in weights.items() if weight == max(weights.values())]
    if isinstance(label, Mapping):
        return [name for name, state in label.items() if state == PRESENT]
    return [label] if isinstance(label, str) else list(label)


def _named(word: str, column: str, names: Mapping[str, str]) -> str:
    if _LISTS.match(word):
        raise BadRow(
            f"bad_{suffix(column)}", f"{column} is {word[:80]!r}: a list that does not close, or lists in a list"
        )
    if names and word and word not in names:
        raise BadRow(f"bad_{suffix(column)}", f"{column} is {word[:80]!r}, expected one of {_listing(names)}")
    return names[word] if names and word else word


def _listing(names: Collection[str]) -> str:
    first = list(names)[:12]
    return ", ".join(first) + (f" and {len(names) - len(first)} more" if len(names) > len(first) else "")


def _state(entry: dict[str, Any], column: str) -> int | None:
    value = entry.get(column)
    if is_empty(value):
        return None
    if isinstance(value, bool):
        return PRESENT if value else ABSENT
    text = (as_text(value) or "").strip().lower()
    text = re.sub(r"(?<=\d)\.0+$", "", text)  # 1.0, -1.0
    if text not in STATES:
        raise BadRow(f"bad_{suffix(column)}", f"{column} is {str(value)[:40]!r}, expected 1, 0, -1 or nothing")
    return STATES[text]
