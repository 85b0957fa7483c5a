"""Tables of records in any of their files: text, JSON lines, JSON (a list, or one object of objects), parquet; and joins."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from data_prep.errors import BadRow, PrepError
from data_prep.readers.clutter import glob
from data_prep.readers.guarded import json_lines, read_json_list, read_json_object, regular_only
from data_prep.readers.tables.cells import is_empty
from data_prep.readers.tables.parquet import open_parquet, parquet_rows
from data_prep.readers.tables.text_tables import Dialect, TextTable
from data_prep.sources.questions.records.mapping import Join, TableForm

SAMPLE_BYTES = 2**16
"""Of a JSON file that tell its form."""

SAMPLE_ROWS = 1000
"""Of a JSON file that tell its columns."""

Row = tuple[int, int, Any]
"""(number for a person, position for `at`, column → value or a BadRow) of a row."""


class RecordTable:
    """A file of records. Raises PrepError if it is none.

    columns: all of them; of JSON those of the first rows. class_names: column → names of its classes, where a parquet file
    says them, as Hugging Face's do.
    """

    def __init__(self, path: Path, form: TableForm, dialect: Dialect) -> None:
        self.path, self.form = path, form
        self.class_names: dict[str, list[str]] = {}
        self._entries: list[tuple[int, Any]] | None = None
        """Of a JSON file that is parsed in one piece, until `rows` has given them."""
        self.kind = path.suffix.lower().removeprefix(".")
        self.unit = "row"
        if self.kind == "parquet":
            schema = open_parquet(path).schema_arrow
            self.columns = list(schema.names)
            self.class_names = _class_names((schema.metadata or {}).get(b"huggingface", b""))
        elif self.kind in ("json", "jsonl", "ndjson"):
            self.kind = _json_form(path, form.keys) if self.kind == "json" else "lines"
            self.unit = "line" if self.kind == "lines" else "entry"
            if self.kind != "lines":
                self._entries = self._read_json()
            rows = self._entries or ((number, entry) for number, _, entry in self._file_rows(()))
            entries = (entry for _, entry in islice(rows, SAMPLE_ROWS))
            self.columns = list(dict.fromkeys(n for entry in entries if isinstance(entry, dict) for n in entry))
        else:
            self.kind, self.unit = "text", "line"
            self.text = TextTable(path, dialect=dialect, columns=form.columns)
            self.columns = self.text.columns
        if form.unfold and self.kind == "parquet":
            raise PrepError(f"{path}: table.unfold is for tables of text and JSON, whose images are files")
        if form.items and self.kind not in ("list", "object", "lines"):
            raise PrepError(f"{path}: table.items is for files of JSON, whose entries hold lists")
        self.columns = [*self.columns, *form.unfold]

    @property
    def is_complete(self) -> bool:
        """Whether the columns are all that any row has."""
        return self.kind in ("parquet", "text")

    def rows(self, columns: Collection[str]) -> Iterator[Row]:
        """Every row, of parquet with these columns alone; unfolded where the mapping says so."""
        for number, position, entry in self._file_rows(columns):
            for part in self._unfolded(entry):
                yield number, position, part

    def _unfolded(self, entry: Any) -> list[Any]:
        unfold = self.form.unfold
        if isinstance(entry, dict) and self.form.items in entry:
            return self._items(entry)
        if not unfold or not isinstance(entry, dict):
            return [entry]
        sources = {column for names in unfold.values() for column in names}
        common = {name: cell for name, cell in entry.items() if name not in sources}
        count = len(next(iter(unfold.values())))
        return [{**common, **{new: entry.get(names[i]) for new, names in unfold.items()}} for i in range(count)]

    def _items(self, entry: dict[str, Any]) -> list[Any]:
        column = self.form.items
        items = entry[column] or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            return [BadRow(f"bad_{column}", f"{column} is {str(items)[:80]!r}, expected a list of objects")]
        return [{**entry, column: item} for item in items or [None]]

    def _file_rows(self, columns: Collection[str]) -> Iterator[Row]:
        if self.kind == "parquet":
            names = [name for name in self.columns if name in columns]
            yield from ((number, number, entry) for number, entry in enumerate(parquet_rows(self.path, names)))
        elif self.kind == "text":
            yield from ((row.line, row.offset, row.entry) for row in self.text.rows())
        elif self.kind == "lines":
            with open(self.path, "rb", opener=regular_only) as file:
                yield from json_lines(file)
        else:
            entries, self._entries = self._entries or self._read_json(), None
            yield from ((number, position, entry) for position, (number, entry) in enumerate(entries))

    def at(self, position: int) -> dict[str, Any]:
        """The entry at a position that `rows` gave, of files that are not parquet."""
        if self.kind in ("list", "object"):
            self._entries = self._entries or self._read_json()
            entry = self._entries[position][1]
        else:
            with open(self.path, "rb", opener=regular_only) as file:
                if self.kind == "text":
                    entry = self.text.at(file, position, 1)
                else:
                    file.seek(position)
                    entry = next(json_lines(file))[2]
        if isinstance(entry, BadRow):
            raise entry
        return dict(entry)

    def _read_json(self) -> list[tuple[int, Any]]:
        if self.kind == "list":
            return read_json_list(self.path)
        if not (keys := self.form.keys):
            raise PrepError(
                f"{self.path} holds an object, expected a list of entries; if each of its fields is an entry, say in the "
                "mapping what the keys are: table: {keys: <name of a column>}"
            )
        page = read_json_object(self.path)
        entries = ({keys: key, **entry} if isinstance(entry, dict) else entry for key, entry in page.items())
        return list(enumerate(entries, start=1))


def _json_form(path: Path, keys: str) -> str:
    """list, object or lines: some publishers call JSON lines .json."""
    with open(path, "rb", opener=regular_only) as file:
        head = file.read(SAMPLE_BYTES)
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return "list"
    first, end, remainder = head.partition(b"\n")
    try:
        json.loads(first.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return "object"
    return "object" if keys and not (end and remainder.strip()) else "lines"


def _class_names(metadata: bytes) -> dict[str, list[str]]:
    """Column → its classes, of what `datasets` writes next to a schema."""
    try:
        features = json.loads(metadata or b"{}")["info"]["features"]
        pairs = [(column, feature.get("names")) for column, feature in features.items() if isinstance(feature, dict)]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return {}
    return {c: names for c, names in pairs if isinstance(names, list) and all(isinstance(n, str) for n in names)}


class JoinedTable:
    """Another table in memory, by key. Raises PrepError if it is not there, or lacks a column."""

    def __init__(self, join: Join, folder: Path, form: TableForm, dialect: Dialect) -> None:
        self.join, self.paths = join, [path for path in glob(folder, join.file, {}) if path.is_file()]
        if not self.paths:
            raise PrepError(f"{folder / join.file} is not there; the mapping takes columns from it (table.join)")
        self.columns: list[str] = []
        self.rows: dict[str, dict[str, Any]] = {}
        self.counts: dict[str, int] = {}
        for path in self.paths:
            table = RecordTable(path, TableForm(keys=form.keys), dialect)
            missing = [name for name in (join.id, *join.columns) if name not in table.columns]
            if missing:
                raise PrepError(
                    f"{path} has the columns {', '.join(table.columns)}; it lacks {', '.join(dict.fromkeys(missing))}"
                )
            names = join.columns or table.columns
            names = [name for name in names if name != join.id]
            self.columns += [name for name in names if name not in self.columns]
            for _, _, entry in table.rows({join.id, *names}):
                self._add(entry, names)

    @property
    def name(self) -> str:
        """The file's."""
        return self.paths[0].name

    def _add(self, entry: Any, names: Sequence[str]) -> None:
        if not isinstance(entry, dict) or is_empty(entry.get(self.join.id)):
            self._count(f"rows of {self.name} that cannot be joined")
            return
        key, cells = str(entry[self.join.id]).strip(), {name: entry.get(name) for name in names}
        row = self.rows.get(key)
        if self.join.is_many:
            row = self.rows.setdefault(key, {})
            for name, cell in cells.items():
                row.setdefault(name, []).append(cell)
        elif row is None:
            self.rows[key] = cells
        else:
            self._count(f"rows of {self.name} with a key that an earlier row has")

    def _count(self, subject: str) -> None:
        self.counts[subject] = self.counts.get(subject, 0) + 1

    def partner(self, key: Any) -> dict[str, Any] | None:
        """The columns of the row with a key."""
        return None if is_empty(key) else self.rows.get(str(key).strip())
