"""Errors of an input: of the whole of it (PrepError), or of one row (BadRow)."""

from __future__ import annotations

from medvlp.errors import UserError


class PrepError(UserError):
    """The person's input cannot be prepared; the message says what was found, what was expected and how to fix it."""


class NotAFile(PrepError):
    """A folder, a pipe, a device or nothing that can be opened is where a file should be."""


class BadRow(Exception):
    """A row that cannot become (part of) a sample; the reader makes a Dropped of it, with the row's name."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.cells: list[str] = []
        """Of a table's row, as far as they can be told."""
