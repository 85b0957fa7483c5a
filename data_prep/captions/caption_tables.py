"""Tables whose columns the user names: CSV with any usual separator, TSV, JSON, JSON lines, parquet."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_prep.captions.captioned_files import NOTHING, CaptionedFile, split_of
from data_prep.captions.table_options import WORK, TableOptions
from data_prep.draft import Counts
from data_prep.errors import BadRow, PrepError
from data_prep.readers.fields import count_ignored, kind_of, says_something
from data_prep.readers.tables.cells import (
    doi_of,
    items_of_cell,
    list_in,
    needed_text,
    prose_of_cell,
    suffix,
    text_of_cell,
    value_of_cell,
)
from data_prep.readers.tables.label_cells import classes_of_cell
from data_prep.readers.tables.table_files import TableFile
from data_prep.readers.unlisted_images import printable
from data_prep.source import Dropped
from data_prep.vocabulary.splits import SPLIT_NAMES
from data_prep.vocabulary.text import CAPTIONS, NO_VALUE, says_nothing


class CaptionTable:
    """Rows of a table as the roles of its columns say. Raises PrepError if a column is not there."""

    def __init__(self, table: TableFile, roles: TableOptions, gaps: Sequence[str]) -> None:
        """gaps: columns that templates ask for."""
        self.table, self.roles = table, roles
        self.counts: Counts = Counter()
        """("read", what) → how often, of the rows so far: columns that nothing reads, cells that are empty."""
        self.images: set[str] = set()
        """Images of all rows so far, of those that cannot be used too."""
        columns = {role: getattr(roles, role) for role in ("caption", "label", "group", "key")} | roles.work()
        columns = {roles.image_option: roles.image_column, **columns}
        self.required = {option: column for option, column in columns.items() if column}
        table.require(self.required)
        for option in ("texts", "labels"):
            for column in getattr(roles, option):
                table.require({option: column})
        if roles.split and not self.is_column(roles.split) and roles.split.lower() not in SPLIT_NAMES:
            raise PrepError(
                f"options.split={roles.split} is neither a split ({', '.join(SPLIT_NAMES)}) nor a column of "
                f"{table.path.name}, which has {', '.join(map(repr, table.columns))}"
            )
        reserved = [name for name in roles.texts if CAPTIONS.fullmatch(name)]
        reserved += [name for name in roles.labels if name == "label_name"]
        if reserved:
            raise PrepError(
                f"the column {reserved[0]!r} would take the place of what the source itself calls so; name it as "
                "options.caption or options.label, or rename it"
            )
        self.gaps = [column for column in gaps if column in table.columns]

    def is_column(self, value: str) -> bool:
        """Whether a role that can be a column or a constant is a column."""
        return value != "" and value in self.table.columns

    @property
    def input_counts(self) -> dict[str, int]:
        """What was passed by or is unknown over the whole table → how often."""
        encoding = self.table.text_form().get("encoding")
        encoding_counts = {f"tables read as {encoding.upper()}": 1} if encoding else {}
        return {**encoding_counts, **{counted: number for (_, counted), number in self.counts.items()}}

    def rows(self, folder: Path) -> Iterator[tuple[str, CaptionedFile | Dropped]]:
        """(split, row) of each image at its first row; drops by the image's path, or by file and line.

        Of rows about one image, captions and labels are gathered, and all else is the first row's. Drops: bad_row,
        open_quote, bad_quotes, empty_<column>, missing_<column>, bad_<column>, long_<column>, wordless_<column>,
        not_utf8, bad_split, other_split (its image is in another split by an earlier row).
        """
        positions: dict[tuple[str, str], int] = {}
        rows: list[CaptionedFile | Dropped] = []
        self.counts = Counter()
        for row in self._parsed(folder):
            position = positions.get((row.id, row.path)) if isinstance(row, CaptionedFile) else None
            if isinstance(row, Dropped) or position is None:
                if isinstance(row, CaptionedFile):
                    positions[row.id, row.path] = len(rows)
                rows.append(row)
                continue
            rows[position] = merged = _merge(rows[position], row)
            if isinstance(merged, CaptionedFile) and row.split != merged.split:
                detail = f"it is in {row.split}, an earlier row about its image in {merged.split}"
                rows.append(Dropped(row.path, "other_split", detail))
        return ((row.split if isinstance(row, CaptionedFile) else "train", row) for row in rows)

    def _parsed(self, folder: Path) -> Iterable[CaptionedFile | Dropped]:
        roles = self.roles
        columns = {*self.required.values(), *roles.texts, *roles.labels, *self.gaps}
        columns |= {value for value in (roles.split, roles.licence, roles.modality) if value}
        rows = 0
        for location, entry in self.table.entries(columns):
            rows += 1
            name = f"{self.table.path.name} {location}"
            try:
                if isinstance(entry, BadRow):
                    self.images.add(relative(self.table.image_of(entry, roles.image_column), folder))
                    raise entry
                if not isinstance(entry, dict):
                    raise BadRow("bad_row", f"the entry is {kind_of(entry)}, expected an object")
                if unread := [column for column in entry.keys() - columns if says_something(entry[column])]:
                    count_ignored(self.counts, unread)
                name = path = relative(_path_of(entry, roles.image_column), folder)
                self.images.add(path)
                yield self._row(entry, path)
            except BadRow as bad:
                yield self._dropped(name, entry, bad, folder)
        if self.table.kind == ".parquet":  # of which only what is wanted is read
            for column in self.table.columns:
                self.counts.update({("read", f"fields ignored: {column}"): rows} if column not in columns else {})

    def _dropped(self, name: str, entry: Any, bad: BadRow, folder: Path) -> Dropped:
        detail, labels = bad.detail, tuple[str, ...]()
        if isinstance(entry, dict):
            image = entry.get(self.roles.image_column)
            if isinstance(image, str):
                self.images.add(relative(printable(image), folder))
            with suppress(BadRow):
                labels = self._labels(entry)
        if bad.reason == "not_utf8" and self.table.text is not None:
            detail += ", or say options.encoding=<what it was saved in>"
        return Dropped(name, bad.reason, detail, labels={"label_name": list(labels)} if labels else {})

    def _row(self, entry: dict[str, Any], path: str) -> CaptionedFile:
        roles = self.roles
        captions, labels = self._captions(entry), self._labels(entry)
        for label in labels:
            if label.lower() in NO_VALUE:
                self.counts["read", f"rows labelled {label!r}: a class, and not a missing value"] += 1
        published = needed_text(entry, roles.split) if self.is_column(roles.split) else roles.split or "train"
        return CaptionedFile(
            path=path,
            split=split_of(published),
            published_split=published if self.is_column(roles.split) else "",
            captions=captions,
            labels=labels,
            values=_present({column: prose_of_cell(entry, column).replace("\n", ", ") for column in self.gaps}),
            texts=_present({column: prose_of_cell(entry, column) for column in roles.texts}),
            columns=_present({column: self._label(entry, column) for column in roles.labels}),
            id=self._optional(entry, "key", "the path is the key"),
            group=self._optional(entry, "group", "each image is a group of its own"),
            licence=self._optional(entry, "licence", "the licence is unknown"),
            modality=self._optional(entry, "modality", "the modality is unknown"),
            work=_present({WORK[role]: self._said(entry, role) for role in roles.work()}),
        )

    def _said(self, entry: dict[str, Any], role: str) -> str:
        text = prose_of_cell(entry, getattr(self.roles, role)).replace("\n", "; ")
        return doi_of(text) if role == "doi" else text

    def _captions(self, entry: dict[str, Any]) -> tuple[str, ...]:
        column = self.roles.caption
        if not column:
            return ()
        captions = items_of_cell(entry, column)
        captions = [needed_text(entry, column)] if captions is None else captions
        texts = tuple(dict.fromkeys(caption for caption in captions if not says_nothing(caption)))
        if not texts:
            reason = "empty" if all(caption.lower() in NO_VALUE for caption in captions) else "wordless"
            raise BadRow(f"{reason}_{suffix(column)}", f"{column} has no words in it: {', '.join(captions)[:40]!r}")
        return texts

    def _labels(self, entry: dict[str, Any]) -> tuple[str, ...]:
        """Only an empty cell is no label: None, NA and nan are names of classes."""
        column = self.roles.label
        if not column:
            return ()
        labels = classes_of_cell(entry, column, {}, self.roles.label_separator)
        if labels is None:
            needed_text(entry, column)
        if not labels:
            raise BadRow(f"empty_{suffix(column)}", f"{column} holds no label")
        return tuple(labels)

    def _label(self, entry: dict[str, Any], column: str) -> str | list[Any]:
        """A label's text or list; items that are neither texts nor numbers are left out, and counted."""
        label, value = value_of_cell(entry, column), entry.get(column)
        items = list_in(value) if isinstance(value, str) else value
        if isinstance(items, list) and (lost := sum(map(says_something, items)) - len(label)) > 0:
            self.counts["read", f"items of {column} that are neither texts nor numbers"] += lost
        return label

    def _optional(self, entry: dict[str, Any], role: str, without: str) -> str:
        """A column's text, or the one value for all rows; an empty cell is counted."""
        column = getattr(self.roles, role)
        if not self.is_column(column):
            return column if role == "modality" else ""
        text = text_of_cell(entry, column)
        if role != "key" and text.lower() in NO_VALUE:
            text = ""
        if not text:
            self.counts["read", f"rows without {column}: {without}"] += 1
        return text


def _path_of(entry: dict[str, Any], column: str) -> str:
    path = needed_text(entry, column)
    if path.lower() in NO_VALUE:
        raise BadRow(f"empty_{suffix(column)}", f"{column} is {path[:40]!r}, which names no file")
    return path


def _merge(first: CaptionedFile | Dropped, row: CaptionedFile) -> CaptionedFile:
    assert isinstance(first, CaptionedFile)
    if row.split != first.split:
        return first
    captions = tuple(dict.fromkeys((*first.captions, *row.captions)))
    labels = tuple(dict.fromkeys((*first.labels, *row.labels)))
    return replace(first, captions=captions, labels=labels, count=first.count + 1)


def _present(cells: dict[str, Any]) -> Mapping[str, Any]:
    return {column: cell for column, cell in cells.items() if cell not in ("", [])} or NOTHING


def relative(path: str, folder: Path) -> str:
    """A path as it is below the folder: tables often hold absolute ones, or those of Windows.

    What lies elsewhere stays, and is refused.
    """
    path = path.replace("\\", "/")
    if path.startswith("/"):
        path = next((path.removeprefix(base) for base in _spellings(folder) if path.startswith(base)), path)
    while path.startswith("./"):
        path = path[2:]
    return path


@lru_cache(maxsize=64)
def _spellings(folder: Path) -> list[str]:
    """How absolute paths may begin that lead below a folder."""
    bases = (str(folder.absolute()), os.path.abspath(folder), os.path.realpath(folder))
    return [f"{base.rstrip('/')}/" for base in bases]
