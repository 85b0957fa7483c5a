"""Tables as text (CSV, TSV and their like): one reader, with strict quotes, line numbers and encodings that are told.

A row is read at once, or again by its place in the file, so that tables too large for memory can be gone through twice.
What is wrong with one row is that row's fault (`BadRow`), and reading goes on with the next line.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from data_prep.errors import BadRow, PrepError
from data_prep.readers.fields import IGNORED, MAX_TEXT
from data_prep.readers.guarded import MAX_LINE_BYTES, regular_only
from data_prep.readers.tables.encodings import Lines, TooLong, check_encoding, detect

SEPARATORS = ("\t", ",", ";", "|")
QUOTES: dict[str, dict[str, Any]] = {
    "double": {},
    "backslash": {"escapechar": "\\", "doublequote": False},
    "none": {"quoting": csv.QUOTE_NONE},
}
"""options.quotes → how the csv module is told."""

SEPARATOR_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}
UNNAMED = "Unnamed: {}"
"""What a column without a name is called, by its position from 0: as pandas calls it."""

csv.field_size_limit(MAX_LINE_BYTES)
# The module's own limit, 131,072 characters, ends the whole table; text_of makes a drop of the one row.


class Dialect(NamedTuple):
    """How a person says that a table is written; "" where the reader is to tell."""

    encoding: str = ""
    separator: str = ""
    quotes: str = "double"
    """double: a cell may stand in quotes, those inside it twice; backslash: or behind one, as Spark and MySQL write it;
    none: a quote is a character as any other."""
    options: tuple[str, ...] = ("encoding", "separator", "quotes")
    """Those of the three that the source has, for messages that name them."""


def dialect_of(encoding: str, separator: str, quotes: str) -> Dialect:
    """The dialect that options name. Raises PrepError."""
    separator = SEPARATOR_NAMES.get(separator, separator)
    if len(separator) > 1 or separator in ('"', "\n", "\r", " "):
        raise PrepError(f"options.separator={separator!r} cannot stand between cells; give one of , ; | or tab")
    if quotes not in QUOTES:
        raise PrepError(f"options.quotes={quotes} is not one of {', '.join(QUOTES)}")
    return Dialect(check_encoding(encoding), separator, quotes)


class TextRow(NamedTuple):
    """A row of a table."""

    line: int
    """Where it begins, from 1, as an editor counts; the header is the first."""
    offset: int
    """Bytes in front of it."""
    entry: Any
    """Column → text, or a BadRow."""


class TextTable:
    """A table with a header, whose separator is the one that splits the header most.

    Raises PrepError if the file is no text, or its header lacks one of the required columns.

    dialect: None for sources of which nobody can say it. columns: of a table without a header, in order.
    """

    def __init__(
        self, path: Path, required: Sequence[str] = (), dialect: Dialect | None = None, columns: Sequence[str] = ()
    ) -> None:
        self.path = path
        self.dialect = dialect or Dialect(options=())
        self.columns: list[str] = []
        with self.open() as file:
            self.text = detect(path, file, self.dialect.encoding)
            lines = Lines(self.text, file, self.text.start)
            self.separator, offset, line = self._separator(lines)
            lines = Lines(self.text, file, offset, line)
            self.columns = list(columns) or self._header(lines)
            self._start = (offset, line) if columns else (lines.offset, lines.line)
        if missing := [column for column in required if column not in self.columns]:
            raise PrepError(f"{path} has the columns {', '.join(self.columns)}; it lacks {', '.join(missing)}")

    def open(self) -> BinaryIO:
        """The file, for `at`. Raises NotAFile."""
        return open(self.path, "rb", opener=regular_only)

    def rows(self) -> Iterator[TextRow]:
        """Every row that has something in it.

        An entry is a BadRow where the row has another number of cells than the header (bad_row), a quote that does not
        close or swallows rows (open_quote), one that closes inside a cell (bad_quotes), or a line beyond all measure
        (line_too_long). Bytes that are not of the encoding come as lone surrogates, which `text_of` refuses.

        Raises PrepError at the end if most lines with characters beyond ASCII are not of the encoding.
        """
        with self.open() as file:
            lines = Lines(self.text, file, *self._start)
            for line, offset, cells in self._records(lines):
                yield TextRow(line, offset, cells if isinstance(cells, BadRow) else self._entry(cells))
            self.text.check(self.path, lines.line, lines.foreign, lines.undecodable, "encoding" in self.dialect.options)

    def at(self, file: BinaryIO, offset: int, line: int) -> Any:
        """The entry of a row at an offset and a line that `rows` gave."""
        _, _, cells = next(self._records(Lines(self.text, file, offset, line)))
        return cells if isinstance(cells, BadRow) else self._entry(cells)

    def unread(self, columns: Collection[str]) -> dict[str, int]:
        """{"fields ignored: <column>": rows that have something in it}, of the columns that are not among some."""
        counts: Counter[str] = Counter()
        names = [column for column in self.columns if column not in columns]
        for row in self.rows() if names else ():
            if not isinstance(row.entry, BadRow):
                counts.update(f"{IGNORED}: {name}" for name in names if row.entry[name].strip())
        return dict(counts)

    def cell(self, entry: Any, column: str) -> str:
        """What a row says in a column, as far as it can be told of a BadRow; "" where it cannot."""
        cells = entry.cells if isinstance(entry, BadRow) else entry.values()
        return next((cell for name, cell in zip(self.columns, cells, strict=False) if name == column), "").strip()

    def _separator(self, lines: Lines) -> tuple[str, int, int]:
        """(separator, offset and line of the header)."""
        first = ""
        while not first.strip():
            line, offset = lines.begin()
            try:
                first = next(lines)
            except (StopIteration, TooLong):
                break
        if declaration := re.fullmatch(r"\s*sep=([^\"\w\s]|\t)\s*", first):  # Excel's own way to say it
            return self.dialect.separator or declaration[1], lines.offset, lines.line
        # The most columns win; of equals, the first in the list.
        widths = {separator: len(_plain_cells(first, separator)) for separator in SEPARATORS}
        return self.dialect.separator or max(SEPARATORS, key=lambda separator: widths[separator]), offset, line

    def _header(self, lines: Lines) -> list[str]:
        line, _, cells = next(self._records(lines), (1, 0, list[str]()))
        if isinstance(cells, BadRow):
            raise PrepError(f"{self.path} line {line}, the header: {cells.detail}")
        columns = [cell.strip() or UNNAMED.format(position) for position, cell in enumerate(cells)]
        if lines.undecodable:
            raise self.text.refusal(self.path, "the header is", "encoding" in self.dialect.options)
        if repeated := sorted({name for name in columns if columns.count(name) > 1}):
            raise PrepError(f"{self.path}: the header has {', '.join(map(repr, repeated))} more than once; rename one")
        return columns

    def _entry(self, cells: list[str]) -> Any:
        columns = self.columns
        if len(cells) != len(columns):
            # Spreadsheets end lines with separators that stand for nothing, in the header alone or in rows alone.
            if not all(map(is_unnamed, columns[len(cells) :])) or any(cells[len(columns) :]):
                bad = BadRow("bad_row", f"{len(cells)} fields, expected {len(columns)}{self._advice(len(cells))}")
                bad.cells = cells
                return bad
            cells = [*cells, *[""] * len(columns)][: len(columns)]
        return dict(zip(columns, cells, strict=True))

    def _advice(self, cells: int) -> str:
        if self.dialect.quotes == "none":
            return ""
        name = {"\t": "a tab", ",": "a comma"}.get(self.separator, repr(self.separator))
        if cells > len(self.columns):
            return f"; a cell with {name} in it has to stand in quotes"
        return "; if the row before goes on here, its cell with the line break has to stand in quotes"

    def _records(self, lines: Lines) -> Iterator[tuple[int, int, list[str] | BadRow]]:
        """(line, offset, cells) of each record; after one that cannot be read, from its second line on."""
        quotes = QUOTES[self.dialect.quotes]
        reader = csv.reader(lines, delimiter=self.separator, strict=True, skipinitialspace=True, **quotes)
        while True:
            line, offset = lines.begin()
            cells: list[str] | BadRow
            try:
                cells = next(reader)
            except StopIteration:
                return
            except TooLong:
                cells = (
                    self._fault(lines.texts, line, f"within {MAX_LINE_BYTES} bytes") if lines.texts[1:] else _too_long()
                )
            except csv.Error as error:
                cells = self._error(str(error), lines.texts, line)
            else:
                if lines.texts[1:] and (number := self._swallowed(lines.texts, cells)):
                    bound = f"before line {line + number}, which looks like a row of its own"
                    cells = self._fault(lines.texts[:number], line, bound)
                elif not any(map(str.strip, cells)):
                    continue
            if isinstance(cells, BadRow):
                cells.cells = _plain_cells(lines.texts[0], self.separator)
                lines.rewind()
            yield line, offset, cells

    def _error(self, message: str, texts: list[str], line: int) -> BadRow:
        """A row that the csv module refuses, in words for a person."""
        if message.startswith("new-line character"):
            return BadRow("bad_row", "a carriage return stands inside the line; a cell with one has to stand in quotes")
        if message.startswith("field larger"):
            return _too_long()
        return self._fault(texts, line, "before the table ends")

    def _fault(self, texts: list[str], line: int, bound: str) -> BadRow:
        """What is wrong with the quotes of a record, where, and how to write them. It quotes nothing of the row."""
        text = "".join(texts)
        position, number, end = _faulty_cell(text, self.separator)
        first = line + text.count("\n", 0, position)
        column = f"column {self.columns[number]!r}" if number < len(self.columns) else f"cell {number + 1}"
        advice = "write quotes inside a cell twice, and the cell in quotes"
        if "quotes" in self.dialect.options:
            is_escaped = '\\"' in text and self.dialect.quotes != "backslash"
            advice += ", or say options.quotes=backslash, as the table has them behind one" if is_escaped else ""
            advice += "" if is_escaped else ", or say options.quotes=none if the table quotes nothing"
        if end is None:
            return BadRow(
                "open_quote",
                f"the quote that opens in line {first}, {column}, does not close {bound}; close it; {advice}",
            )
        last = line + text.count("\n", 0, end)
        if last > first:
            detail = f"the quote that opens in line {first}, {column}, closes inside a cell of line {last}; {advice}"
            return BadRow("open_quote", detail)
        return BadRow("bad_quotes", f"line {first}, {column}: text follows the quote that closes the cell; {advice}")

    def _swallowed(self, texts: list[str], cells: list[str]) -> int:
        """Which line of a record (from 1) looks like a row of its own: as many cells, one of them of the same make."""
        patterns = [_make(cell) for cell in cells]
        rows = [number for number, text in enumerate(texts) if self._looks_whole(text, patterns)]
        # What follows a first cell that goes over several lines is a whole row but for that cell.
        is_sure = "\n" not in cells[0] or 0 in rows
        return next((number for number in rows if number and (is_sure or '"' not in texts[number])), 0)

    def _looks_whole(self, text: str, patterns: list[str]) -> bool:
        cell_patterns = [_make(cell.strip(' "\r\n')) for cell in text.split(self.separator)]
        return len(cell_patterns) == len(patterns) and any(
            a and a == b for a, b in zip(cell_patterns, patterns, strict=True)
        )


def _plain_cells(text: str, separator: str) -> list[str]:
    """What can be told of the cells of a line, right or wrong."""
    try:
        return next(csv.reader([text[:MAX_TEXT]], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return text[:MAX_TEXT].split(separator)


def _too_long() -> BadRow:
    return BadRow("line_too_long", f"the line has more than {MAX_LINE_BYTES} bytes")


def is_unnamed(column: str) -> bool:
    """Whether a column has no name of its own."""
    return re.fullmatch(r"Unnamed: \d+", column) is not None


def _make(cell: str) -> str:
    """What ids and file names of a table have in common: the ending, or the punctuation between their parts; else ""."""
    cell = cell.strip()
    if " " in cell or len(cell) > 300 or not re.search(r"[A-Za-z]", cell):
        return ""
    if ending := re.search(r"[^.]\.([A-Za-z][A-Za-z0-9]{1,4})$", cell):
        return f".{ending[1].lower()}"
    punctuation = re.sub(r"[A-Za-z0-9]+", "x", cell)
    return punctuation if re.search(r"[/_]", punctuation) and re.search(r"\d", cell) else ""


def _faulty_cell(text: str, separator: str) -> tuple[int, int, int | None]:
    """(position, number from 0) of the first cell of a record that quotes make wrong, and where its quote closes."""
    escaped = re.escape(separator)
    quoted, bare = r'"[^"]*(?:""[^"]*)*"', rf'[^"{escaped}\r\n ][^{escaped}\r\n]*'
    cell, quoted_cell = re.compile(rf" *(?:{quoted}|{bare}|){escaped}"), re.compile(rf" *{quoted}")
    position = number = 0
    while match := cell.match(text, position):
        position, number = match.end(), number + 1
    closing = quoted_cell.match(text, position)
    return position, number, None if closing is None or not text[closing.end() :].strip("\r\n") else closing.end()
