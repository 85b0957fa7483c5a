"""Tables whose columns the user names: CSV with any usual separator, TSV, JSON lines, parquet."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from data_prep.readers.tables import Dialect, TextTable
from data_prep.sources.base import Dropped, PrepError
from data_prep.sources.captioned_files import NOTHING, SPLIT_NAMES, Row, split_of
from data_prep.sources.files import MAX_TEXT, BadRow, as_text, check_utf8, described, read_json_lines
from data_prep.sources.parquet_rows import open_parquet, parquet_rows

MISSING = frozenset(("", "nan", "none", "null", "na", "n/a", "<na>", "nat", "#n/a"))
"""What stands for no value, in lower case: how pandas and others write it."""

CAPTIONS = re.compile(r"caption(_[0-9]+)?")
"""Texts of a sample that hold its captions."""


def is_missing(text: str) -> bool:
    """Whether a cell says that there is nothing in it."""
    return text.strip().lower() in MISSING


class Table:
    """A table by its ending: .parquet, .jsonl, or text with a header."""

    def __init__(self, path: Path, dialect: Dialect | None = None) -> None:
        self.path = path
        self.columns: list[str]
        self.text: TextTable | None = None
        self.kind = path.suffix.lower()
        if not path.is_file():
            raise PrepError(f"{path} is not a file; expected a table (.csv, .tsv, .jsonl, .parquet)")
        if self.kind == ".parquet":
            self.columns = list(open_parquet(path).schema_arrow.names)
        elif self.kind in (".jsonl", ".ndjson"):
            entries = (entry for _, entry in islice(read_json_lines(path), 1000))
            self.columns = list(dict.fromkeys(n for entry in entries if isinstance(entry, dict) for n in entry))
        else:
            self.text = TextTable(path, dialect=dialect or Dialect())
            self.columns = self.text.columns

    def require(self, roles: dict[str, str]) -> None:
        """Raises PrepError if a column is not there. roles: option → the column that it names."""
        for option, column in roles.items():
            if column and column not in self.columns:
                raise PrepError(
                    f"{self.path} has no column {column!r}; it has {', '.join(map(repr, self.columns)) or 'none'}; "
                    f"say options.{option}=<column>"
                )

    def entries(self, columns: Collection[str]) -> Iterator[tuple[str, Any]]:
        """(row or line, column → value, or a BadRow) of each row, with at least these columns."""
        if self.kind == ".parquet":
            return self._parquet(columns)
        if self.kind in (".jsonl", ".ndjson"):
            return ((f"line {number}", entry) for number, entry in read_json_lines(self.path))
        assert self.text is not None
        return ((f"line {row.line}", row.entry) for row in self.text.rows())

    def _parquet(self, columns: Collection[str]) -> Iterator[tuple[str, Any]]:
        wanted = [column for column in self.columns if column in columns]
        return ((f"row {number}", entry) for number, entry in enumerate(parquet_rows(self.path, wanted)))


@dataclass(frozen=True)
class Roles:
    """Which columns mean what; "" where none does."""

    image: str
    caption: str = ""
    label: str = ""
    label_separator: str = ""
    """Between several labels in a cell."""
    group: str = ""
    key: str = ""
    split: str = ""
    licence: str = ""
    modality: str = ""
    """The last three: a column, or one value for all rows."""
    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def described(self) -> dict[str, Any]:
        """For the manifest."""
        return {**asdict(self), "texts": list(self.texts), "labels": list(self.labels)}


class TableRows:
    """Rows of a table as the roles of its columns say. Raises PrepError if a column is not there."""

    def __init__(self, table: Table, roles: Roles, options: dict[str, str], gaps: Sequence[str]) -> None:
        """options: role → the option's name where it differs. gaps: columns that templates ask for."""
        self.table, self.roles = table, roles
        named = {role: getattr(roles, role) for role in ("image", "caption", "label", "group", "key")}
        self.required = {options.get(role, role): column for role, column in named.items() if column}
        table.require(self.required)
        for option in ("texts", "labels"):
            for column in getattr(roles, option):
                table.require({option: column})
        if roles.split and not self.is_column(roles.split) and roles.split.lower() not in SPLIT_NAMES:
            raise PrepError(
                f"options.split={roles.split} is neither a split ({', '.join(SPLIT_NAMES)}) nor a column of "
                f"{table.path.name}, which has {', '.join(map(repr, table.columns))}"
            )
        taken = [name for name in roles.texts if CAPTIONS.fullmatch(name)]
        taken += [name for name in roles.labels if name == "label_name"]
        if taken:
            raise PrepError(
                f"the column {taken[0]!r} would take the place of what the source itself calls so; name it as "
                "options.caption or options.label, or rename it"
            )
        self.gaps = [column for column in gaps if column in table.columns]

    def is_column(self, value: str) -> bool:
        """Whether a role that can be a column or a constant is a column."""
        return value in self.table.columns

    def rows(self, folder: Path) -> Iterator[tuple[str, Row | Dropped]]:
        """(split, row) of each image at its first row; drops by the image's path, or by file and line.

        Of rows about one image, captions and labels are gathered, and all else is the first row's. Drops: bad_row,
        empty_<column> and missing_<column>, bad_<column>, long_<column>, not_utf8, bad_split, other_split (its image is
        in another split by an earlier row).
        """
        gathered: dict[tuple[str, str], int] = {}
        rows: list[Row | Dropped] = []
        for row in self._parsed(folder):
            place = gathered.get((row.id, row.path)) if isinstance(row, Row) else None
            if isinstance(row, Dropped) or place is None:
                if isinstance(row, Row):
                    gathered[row.id, row.path] = len(rows)
                rows.append(row)
                continue
            rows[place] = merged = _merge(rows[place], row)
            if isinstance(merged, Row) and row.split != merged.split:
                detail = f"it is in {row.split}, an earlier row about its image in {merged.split}"
                rows.append(Dropped(row.path, "other_split", detail))
        return ((row.split if isinstance(row, Row) else "train", row) for row in rows)

    def _parsed(self, folder: Path) -> Iterable[Row | Dropped]:
        wanted = {*self.required.values(), *self.roles.texts, *self.roles.labels, *self.gaps}
        wanted |= {value for value in (self.roles.split, self.roles.licence, self.roles.modality) if value}
        for where, entry in self.table.entries(wanted):
            name = f"{self.table.path.name} {where}"
            try:
                if isinstance(entry, BadRow):
                    raise entry
                if not isinstance(entry, dict):
                    raise BadRow("bad_row", f"the entry is {described(entry)}, expected an object")
                path = relative(needed(entry, self.roles.image), folder)
                name = path
                yield self._row(entry, path)
            except BadRow as bad:
                yield Dropped(name, bad.reason, bad.detail)

    def _row(self, entry: dict[str, Any], path: str) -> Row:
        roles = self.roles
        caption = needed(entry, roles.caption) if roles.caption else ""
        published = self._value(entry, roles.split, "train")
        return Row(
            path=path,
            split=split_of(published),
            published_split=published if self.is_column(roles.split) else "",
            captions=(caption,) if caption else (),
            labels=self._labels(entry),
            values=self._present(entry, self.gaps),
            texts=self._present(entry, roles.texts),
            columns=self._present(entry, roles.labels),
            id=needed(entry, roles.key) if roles.key else "",
            group=needed(entry, roles.group) if roles.group else "",
            licence=self._value(entry, roles.licence, "") if self.is_column(roles.licence) else "",
            modality=self._value(entry, roles.modality, ""),
        )

    def _labels(self, entry: dict[str, Any]) -> tuple[str, ...]:
        column, value = self.roles.label, entry.get(self.roles.label)
        if not column:
            return ()
        if isinstance(value, list):
            cells = [cell for item in value if (cell := cell_of({column: item}, column))]
        elif self.roles.label_separator:
            cells = needed(entry, column).split(self.roles.label_separator)
        else:
            cells = [needed(entry, column)]
        labels = tuple(dict.fromkeys(cell.strip() for cell in cells if not is_missing(cell)))
        if not labels:
            raise BadRow(f"empty_{_suffix(column)}", f"{column} holds no label")
        return labels

    def _value(self, entry: dict[str, Any], role: str, default: str) -> str:
        return (needed(entry, role) if self.is_column(role) else role) or default

    def _present(self, entry: dict[str, Any], columns: Sequence[str]) -> Mapping[str, str]:
        return {column: cell for column in columns if (cell := cell_of(entry, column))} or NOTHING


def _merge(first: Row | Dropped, row: Row) -> Row:
    assert isinstance(first, Row)
    if row.split != first.split:
        return first
    captions = tuple(dict.fromkeys((*first.captions, *row.captions)))
    labels = tuple(dict.fromkeys((*first.labels, *row.labels)))
    return replace(first, captions=captions, labels=labels, count=first.count + 1)


def cell_of(entry: dict[str, Any], column: str) -> str:
    """A cell's text, "" where there is none. Raises BadRow: bad_<column>, long_<column>, not_utf8."""
    value = entry.get(column)
    if value is None or (isinstance(value, float) and value != value):
        return ""
    text = str(value).lower() if isinstance(value, bool) else as_text(value)
    if text is None:
        raise BadRow(f"bad_{_suffix(column)}", f"{column} is {described(value)}, expected a text or a number")
    if len(text) > MAX_TEXT:
        raise BadRow(f"long_{_suffix(column)}", f"{column} has {len(text)} characters, at most {MAX_TEXT} are read")
    text = check_utf8(text, column).strip()
    return "" if is_missing(text) else text


def needed(entry: dict[str, Any], column: str) -> str:
    """A cell's text. Raises BadRow as `cell_of`, and empty_<column>, missing_<column>."""
    text = cell_of(entry, column)
    if not text:
        reason = "empty" if column in entry else "missing"
        raise BadRow(f"{reason}_{_suffix(column)}", f"{column} is {reason}")
    return text


def relative(path: str, folder: Path) -> str:
    """A path as it is below the folder: tables often hold absolute ones. What lies elsewhere stays, and is refused."""
    prefix = f"{folder.absolute().as_posix().rstrip('/')}/"
    path = path.removeprefix(prefix)
    while path.startswith("./"):
        path = path[2:]
    return path


def _suffix(column: str) -> str:
    return column.lower().replace(" ", "_")
