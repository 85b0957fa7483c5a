"""Fields of a publisher's entries: their values as texts, and a count of those that nothing reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from data_prep.draft import Counts
from data_prep.errors import BadRow

IGNORED = "fields ignored"
MAX_NAMES = 100
"""Distinct names that a unit counts; keys that are data rather than names would be as many as entries."""

MAX_NAME = 60
"""Characters of a name that is counted."""

MAX_TEXT = 100_000
"""Characters of a text; the longest captions in the literature have about 5,000. More is a fault of the file."""


class Entry(dict[str, Any]):
    """A row or object of the publisher's that remembers which of its fields were asked for.

    Asking is `entry[name]` or `entry.get(name)`; `name in entry` and walking over it are not.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__(content)
        self._read_names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self._read_names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As of any mapping; the field counts as read."""
        self._read_names.add(name)
        return super().get(name, default)

    def put_back(self, name: str) -> None:
        """The field counts as one that nobody asked for: its value could not be used."""
        self._read_names.discard(name)

    def plain(self, name: str) -> Any:
        """What a sample can hold of a field, as the function `plain` says; put back where that is nothing."""
        value = self.get(name)
        result = plain(value)
        if says_something(value) and not says_something(result):
            self.put_back(name)
        return result

    def ignored(self) -> tuple[str, ...]:
        """Names of the fields with something in them that nobody asked for, in the publisher's order."""
        return tuple(name for name, value in self.items() if name not in self._read_names and says_something(value))


def says_something(value: Any) -> bool:
    """Whether a field holds anything: not null, NaN, blank, or an empty list or object."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, list | dict | tuple):
        return bool(value)
    return value is not None and value == value  # NaN differs from itself


def count_ignored(counts: Counts, names: Iterable[str]) -> None:
    """Count fields of one entry under ("read", "fields ignored: <name>")."""
    for name in names:
        counted = f"{IGNORED}: {_printable(name)}"
        if ("read", counted) not in counts and sum(key.startswith(IGNORED) for _, key in counts) >= MAX_NAMES:
            counted = f"{IGNORED}: (further names)"
        counts["read", counted] += 1


def fields_ignored(counts: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """Name → how often, of a source's counts."""
    prefix = f"{IGNORED}: "
    return {
        counted.removeprefix(prefix): number for (_, counted), number in counts.items() if counted.startswith(prefix)
    }


def _printable(name: str) -> str:
    text = "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" else "?" for c in name) or "(no name)"
    return text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 1]}…"


def text_of(entry: dict[str, Any], key: str) -> str:
    """A text of an entry, without white space at its ends; numbers become text, since publishers mix both.

    Raises BadRow: missing_<key>, empty_<key>, bad_<key>, long_<key>, not_utf8, where <key> is in lower case, blanks as
    underscores.
    """
    suffix = key.lower().replace(" ", "_")
    value = entry.get(key)
    if value is None:
        raise BadRow(f"missing_{suffix}", f"{key} is {'null' if key in entry else 'missing'}")
    text = as_text(value)
    if text is None:
        raise BadRow(f"bad_{suffix}", f"{key} is {kind_of(value)}, expected a text or a number")
    if len(text) > MAX_TEXT:
        raise BadRow(f"long_{suffix}", f"{key} has {len(text)} characters, at most {MAX_TEXT} are read")
    if not check_utf8(text, key).strip():
        raise BadRow(f"empty_{suffix}", f"{key} is empty")
    return text.strip()


def as_text(value: Any) -> str | None:
    """A text as it is, a finite number as text, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else str(value)


def plain(value: Any) -> Any:
    """A text, number or truth value that a sample can hold, lists without their other items; None for the rest.

    For what goes along with a sample (labels, citations): its faults should not cost the sample.
    """
    if isinstance(value, list):
        return [item for item in map(plain, value) if item is not None and not isinstance(item, list)]
    if isinstance(value, str):
        encodable = len(value) <= MAX_TEXT and not any("\ud800" <= c <= "\udfff" for c in value)
        return value.strip() if encodable else None
    return value if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)) else None


def kind_of(value: Any) -> str:
    """What a wrong value is, for an error: its type, or itself where it is a number that is none."""
    return str(value) if isinstance(value, float) else f"a {type(value).__name__}"


def check_utf8(text: str, location: str) -> str:
    """The text. Raises BadRow not_utf8 for lone surrogates, which escapes in JSON and undecodable bytes leave."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - 0xDC00
        if not 0x80 <= byte <= 0xFF:
            raise BadRow("not_utf8", f"{location} cannot be written as UTF-8 (character {error.start})") from None
        meant = bytes([byte]).decode("cp1252", "replace")
        raise BadRow(
            "not_utf8", f"{location}: byte 0x{byte:02x} is not UTF-8, in cp1252 {meant!r}; save the file as UTF-8"
        ) from None
    return text


def short_texts(entry: Any) -> tuple[str, ...]:
    """Texts of an entry, or of the cells of a row that cannot be read, that could name a file."""
    values = entry.values() if isinstance(entry, dict) else entry.cells if isinstance(entry, BadRow) else ()
    texts = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return tuple(text for text in texts if isinstance(text, str) and len(text) <= 300)
