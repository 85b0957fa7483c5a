"""A table that a person names: its ending says whether it is text, JSON, JSON lines or parquet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from data_prep.errors import BadRow, PrepError
from data_prep.readers.guarded import read_json_lines, read_json_list
from data_prep.readers.tables.parquet import open_parquet, parquet_rows
from data_prep.readers.tables.text_tables import Dialect, TextTable


class TableFile:
    """A table by its ending: .parquet, .jsonl, .json (a list of objects), or text with a header."""

    def __init__(self, path: Path, dialect: Dialect | None = None) -> None:
        self.path = path
        self.columns: list[str]
        self.text: TextTable | None = None
        self.kind = path.suffix.lower()
        if not path.is_file():
            raise PrepError(f"{path} is not a file; expected a table (.csv, .tsv, .jsonl, .json, .parquet)")
        if self.kind == ".parquet":
            self.columns = list(open_parquet(path).schema_arrow.names)
        elif self.kind in (".json", ".jsonl", ".ndjson"):
            entries = (entry for _, entry in islice(self._json(), 1000))
            self.columns = list(dict.fromkeys(n for entry in entries if isinstance(entry, dict) for n in entry))
        else:
            self.text = TextTable(path, dialect=dialect or Dialect())
            self.columns = self.text.columns

    def text_form(self) -> dict[str, str]:
        """For the manifest: how the text was read, where it is not UTF-8 or its quotes mean nothing."""
        if self.text is None:
            return {}
        encoding, quotes = self.text.text.encoding, self.text.dialect.quotes
        return {
            **({"encoding": encoding} if encoding != "utf-8" else {}),
            **({"quotes": quotes} if quotes != "double" else {}),
        }

    def require(self, roles: dict[str, str]) -> None:
        """Raises PrepError if a column is not there. roles: option → the column that it names."""
        for option, column in roles.items():
            if column and column not in self.columns:
                advice = {"caption": ", or options.label=<column> for captions that templates make of labels"}
                raise PrepError(
                    f"{self.path} has no column {column!r}; it has {', '.join(map(repr, self.columns)) or 'none'}; "
                    f"say options.{option}=<column>{advice.get(option, '')}"
                )

    def entries(self, columns: Collection[str]) -> Iterator[tuple[str, Any]]:
        """(row or line, column → value, or a BadRow) of each row, with at least these columns."""
        if self.kind == ".parquet":
            return self._parquet(columns)
        if self.kind in (".json", ".jsonl", ".ndjson"):
            unit = "entry" if self.kind == ".json" else "line"
            return ((f"{unit} {number}", entry) for number, entry in self._json())
        assert self.text is not None
        return ((f"line {row.line}", row.entry) for row in self.text.rows())

    def _json(self) -> Iterable[tuple[int, Any]]:
        return read_json_list(self.path) if self.kind == ".json" else read_json_lines(self.path)

    def _parquet(self, columns: Collection[str]) -> Iterator[tuple[str, Any]]:
        names = [column for column in self.columns if column in columns]
        return ((f"row {number}", entry) for number, entry in enumerate(parquet_rows(self.path, names)))

    def image_of(self, bad: BadRow, column: str) -> str:
        """The image of a row that cannot be read, as far as it can be told."""
        return self.text.cell(bad, column) if self.text is not None else ""
