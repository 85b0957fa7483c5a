"""Fields of a publisher's entries that no reader asked for: counted by name, so that nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from data_prep.draft import Counts

IGNORED = "fields ignored"
MAX_NAMES = 100
"""Distinct names that a unit counts; keys that are data rather than names would be as many as entries."""

MAX_NAME = 60
"""Characters of a name that is counted."""


class Entry(dict[str, Any]):
    """A row or object of the publisher's that remembers which of its fields were asked for.

    Asking is `entry[name]` or `entry.get(name)`; `name in entry` and walking over it are not.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__(content)
        self._asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self._asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As of any mapping; the field counts as read."""
        self._asked.add(name)
        return super().get(name, default)

    def ignored(self) -> tuple[str, ...]:
        """Names of the fields with something in them that nobody asked for, in the publisher's order."""
        return tuple(name for name, value in self.items() if name not in self._asked and says_something(value))


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
        what = f"{IGNORED}: {_printable(name)}"
        if ("read", what) not in counts and sum(known.startswith(IGNORED) for _, known in counts) >= MAX_NAMES:
            what = f"{IGNORED}: (further names)"
        counts["read", what] += 1


def fields_ignored(counts: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """Name → how often, of a source's counts."""
    prefix = f"{IGNORED}: "
    return {what.removeprefix(prefix): number for (_, what), number in counts.items() if what.startswith(prefix)}


def _printable(name: str) -> str:
    shown = "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" else "?" for c in name) or "(no name)"
    return shown if len(shown) <= MAX_NAME else f"{shown[: MAX_NAME - 1]}…"
