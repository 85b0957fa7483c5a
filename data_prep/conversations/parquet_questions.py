"""Question-answering sets whose images stand inside the parquet files of their questions."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_prep.conversations.questions import QuestionRow, QuestionSource, parse_rows
from data_prep.errors import BadRow, PrepError
from data_prep.readers.guarded import digest_file, readable
from data_prep.readers.image_files import MAX_IMAGE_BYTES, check_format
from data_prep.readers.tables.parquet import ADVICE, open_parquet, parquet_rows
from data_prep.source import Dropped

if TYPE_CHECKING:
    import pyarrow as pa

MAX_DICTIONARY_BYTES = 2**30
"""Of the images in a row group, as they stand in the file, that are read as a dictionary."""


class ImageLocation(NamedTuple):
    """Where an embedded image stands: a row of a file (from 0), a column, and its position where a cell holds several."""

    path: Path
    row: int
    column: str
    position: int = 0


class ParquetQuestionSource(QuestionSource):
    """As QuestionSource, with images from the tables: of rows that name one image, the first row's is taken.

    Images are looked up a row group at a time, and samples stand in the order of first rows, so a unit reads each row
    group at most once.
    """

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        self.locations: dict[tuple[str, str], ImageLocation] = {}
        """(split, image) → its first occurrence."""
        self._starts = lru_cache(maxsize=None)(_group_starts)
        self._columns = lru_cache(maxsize=1)(_no_columns)

    def parquet_rows(
        self, split: str, paths: list[Path], columns: list[str], parse: Callable[[str, dict[str, Any]], QuestionRow]
    ) -> Iterator[QuestionRow | Dropped]:
        """Rows of a split's files. parse gets the columns, "index" (row in the split) and "row" (in the file), from 0.

        columns may have "image"; its value is then the sha256 of the bytes, since nothing needs all images at once.
        """
        first = 0
        for path in paths:
            yield from self._file_rows(split, path, first, columns, parse)
            first += self._starts(path)[-1]

    def _file_rows(
        self,
        split: str,
        path: Path,
        first: int,
        columns: list[str],
        parse: Callable[[str, dict[str, Any]], QuestionRow],
    ) -> Iterator[QuestionRow | Dropped]:
        unread = tuple(name for name in open_parquet(path).schema_arrow.names if name not in (*columns, "image"))

        def parse_and_place(name: str, entry: dict[str, Any]) -> QuestionRow:
            row = parse(name, entry)
            self.locations.setdefault((split, row.images[0]), ImageLocation(path, entry["row"], "image"))
            return replace(row, ignored=unread) if unread else row

        entries = enumerate(_entries(path, columns))
        numbered = ((row, {**entry, "row": row, "index": first + row}) for row, entry in entries)
        yield from parse_rows(path, numbered, "img_id", parse_and_place, "row")

    def image(self, split: str, name: str) -> tuple[str, bytes]:
        """The image of the first row that names it."""
        location = self.locations[split, name]
        data = self.embedded(location)
        return check_format(f"{location.path.name} row {location.row}", data), data

    def embedded(self, location: ImageLocation) -> bytes:
        """The bytes of an image in a parquet file. Raises BadRow: missing_image, image_too_large."""
        starts = self._starts(location.path)
        group = bisect_right(starts, location.row) - 1
        columns = self._columns(location.path, group)
        if location.column not in columns:
            columns[location.column] = _group_images(location.path, group, location.column)
        cell = columns[location.column][location.row - starts[group]].as_py()
        data = bytes_of(cell[location.position] if isinstance(cell, list) else cell)
        if len(data) > MAX_IMAGE_BYTES:
            detail = f"row {location.row} has {len(data)} bytes, at most {MAX_IMAGE_BYTES} are read"
            raise BadRow("image_too_large", f"{location.path.name} {detail}")
        return data

    def fingerprint(self) -> dict[str, str]:
        """The tables by content: images are part of them."""
        return {path.relative_to(self.folder).as_posix(): digest_file(path) for path in self.tables()}


def bytes_of(image: Any) -> bytes:
    """The bytes of a cell: {"bytes": ..., "path": ...}, or bytes. Raises BadRow missing_image."""
    data = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(data, bytes) or not data:
        raise BadRow("missing_image", "the row has no image")
    return data


def _entries(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    names = open_parquet(path).schema_arrow.names
    missing = [column for column in [*columns, "image"] if column not in names]
    if missing:
        raise PrepError(f"{path} has the columns {', '.join(names)}; it lacks {', '.join(dict.fromkeys(missing))}")
    for entry in parquet_rows(path, columns):
        yield {name: image_digest(value) if name == "image" else value for name, value in entry.items()}


def image_digest(image: Any) -> str | None:
    """sha256 of the bytes of a cell; None where it holds none."""
    try:
        return hashlib.sha256(bytes_of(image)).hexdigest()
    except BadRow:
        return None


def _group_starts(path: Path) -> list[int]:
    """First row of each row group, and the number of rows."""
    import pyarrow.parquet as pq

    with readable(path, ADVICE):
        metadata = pq.read_metadata(path)
    return [0, *accumulate(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))]


def _no_columns(path: Path, group: int) -> dict[str, pa.ChunkedArray]:
    """Where the columns of a row group are kept, of one at a time."""
    return {}


def _group_images(path: Path, group: int, column: str) -> pa.ChunkedArray:
    import pyarrow.parquet as pq

    file = open_parquet(path)
    with readable(path, ADVICE):
        columns = file.metadata.row_group(group)
        chunks = [columns.column(position) for position in range(columns.num_columns)]
        stored_bytes = sum(
            chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] == column
        )
        # A dictionary has at most 2 GiB; a group that says that it has more, as it stands in the file, needs none.
        file = file if stored_bytes < MAX_DICTIONARY_BYTES else pq.ParquetFile(path)
        return file.read_row_group(group, columns=[column])[column]
