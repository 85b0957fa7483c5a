"""Cells of tables: nothing, a text, or a list that was written as text."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from data_prep.errors import BadRow
from data_prep.readers.fields import MAX_TEXT, as_text, check_utf8, kind_of, plain
from data_prep.vocabulary.text import NO_VALUE

_QUOTED = re.compile(r"""'[^'\\]*'|"[^"\\]*\"""")
_NUMPY = re.compile(rf"\[\s*(?:{_QUOTED.pattern})(?:\s+(?:{_QUOTED.pattern}))+\s*\]")
"""Texts in an array as numpy writes it: without commas, so that Python would join them to one."""

_DOI = re.compile(r"(?:https?://(?:dx\.)?doi\.org/|doi:)\s*", re.IGNORECASE)


def is_empty(value: Any) -> bool:
    """Whether a cell has nothing in it: null, NaN, or blank."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def text_of_cell(entry: dict[str, Any], column: str) -> str:
    """A cell's text without white space at its ends; "" where it is empty.

    Raises BadRow: bad_<column>, long_<column>, not_utf8.
    """
    value = entry.get(column)
    if is_empty(value):
        return ""
    text = str(value).lower() if isinstance(value, bool) else as_text(value)
    if text is None:
        raise BadRow(f"bad_{suffix(column)}", f"{column} is {kind_of(value)}, expected a text or a number")
    if len(text) > MAX_TEXT:
        raise BadRow(f"long_{suffix(column)}", f"{column} has {len(text)} characters, at most {MAX_TEXT} are read")
    return check_utf8(text, column).strip()


def needed_text(entry: dict[str, Any], column: str) -> str:
    """A cell's text. Raises BadRow as `text_of_cell`, and empty_<column>, missing_<column>."""
    text = text_of_cell(entry, column)
    if not text:
        reason = "empty" if column in entry else "missing"
        raise BadRow(f"{reason}_{suffix(column)}", f"{column} is {reason}")
    return text


def items_of_cell(entry: dict[str, Any], column: str, separator: str = "") -> list[str] | None:
    """The texts of a cell that holds a list; None where it holds none.

    A list is one of JSON lines or parquet; a text that is a list in JSON or Python, as pandas and numpy write it; and,
    where a separator is given, the parts of a text. Items that are empty are dropped.

    Raises BadRow as `text_of_cell`.
    """
    value = entry.get(column)
    if isinstance(value, list):
        items: list[Any] = value
    else:
        text = text_of_cell(entry, column)
        literal = list_in(text)
        if literal is None and not separator:
            return None
        items = text.split(separator) if literal is None else literal
    return [text for item in items if (text := text_of_cell({column: item}, column))]


def list_in(text: str) -> list[Any] | None:
    """The list that a text is, in JSON, as Python writes it (brackets of any kind), or as numpy does; else None.

    Nothing is executed, and a text longer than texts are read is none.
    """
    content = literal_in(text)
    if isinstance(content, set):
        return sorted(map(str, content))
    return list(content) if isinstance(content, list | tuple) else None


def literal_in(text: str) -> Any:
    """The list, tuple, set or mapping that a text is, as JSON, Python or numpy write it; else None. Nothing is executed."""
    text = text.strip()
    if len(text) > MAX_TEXT or text[:1] + text[-1:] not in ("[]", "()", "{}"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _python_literal(text)


def _python_literal(text: str) -> Any:
    if _NUMPY.fullmatch(text):
        return [item[1:-1] for item in _QUOTED.findall(text)]
    for form in (text, re.sub(r"\bnan\b", "None", text)):
        try:
            return ast.literal_eval(form)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):  # as literal_eval documents them
            continue
    return None


def value_of_cell(entry: dict[str, Any], column: str) -> str | list[Any]:
    """What a label is: a list where the cell holds one, else its text, "" where it is empty. Raises BadRow."""
    value = entry.get(column)
    items = value if isinstance(value, list) else list_in(value) if isinstance(value, str) else None
    if items is None:
        return text_of_cell(entry, column)
    values = plain([list(item) if isinstance(item, tuple) else item for item in items])
    return [item for item in values if item != ""]


def prose_of_cell(entry: dict[str, Any], column: str) -> str:
    """A cell's text for readers: "" where it says nothing, the items of a list a line each. Raises BadRow."""
    items = items_of_cell(entry, column)
    parts = [text_of_cell(entry, column)] if items is None else items
    return "\n".join(part for part in parts if part.lower() not in NO_VALUE)


def doi_of(text: str) -> str:
    """A DOI without what addresses put in front."""
    return _DOI.sub("", text, count=1).strip()


def suffix(column: str) -> str:
    """A column's name as reasons of drops have it."""
    return column.lower().replace(" ", "_")
