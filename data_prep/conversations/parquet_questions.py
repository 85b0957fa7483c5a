"""Question-answering sets whose images stand inside the parquet files of their questions."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


class ParquetQuestionSource(QuestionSource):
    """As QuestionSource, with images from the tables: of rows that name one image, the first row's is taken.

    Images are looked up a row group at a time, and samples stand in the order of first rows, so a unit reads each row
    group at most once.
    """

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        self._first_rows: dict[tuple[str, str], tuple[Path, int]] = {}
        """(split, image) → file and row of its first occurrence."""
        self._starts = lru_cache(maxsize=None)(_group_starts)
        self._images = lru_cache(maxsize=1)(_group_images)

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
            self._first_rows.setdefault((split, row.images[0]), (path, entry["row"]))
            return replace(row, ignored=unread) if unread else row

        entries = enumerate(_entries(path, columns))
        numbered = ((row, {**entry, "row": row, "index": first + row}) for row, entry in entries)
        yield from parse_rows(path, numbered, "img_id", parse_and_place, "row")

    def image(self, split: str, name: str) -> tuple[str, bytes]:
        """The image of the first row that names it."""
        path, row = self._first_rows[split, name]
        location, starts = f"{path.name} row {row}", self._starts(path)
        group = bisect_right(starts, row) - 1
        data = bytes_of(self._images(path, group)[row - starts[group]].as_py())
        if len(data) > MAX_IMAGE_BYTES:
            raise BadRow("image_too_large", f"{location} has {len(data)} bytes, at most {MAX_IMAGE_BYTES} are read")
        return check_format(location, data), data

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
        yield {name: _digest(value) if name == "image" else value for name, value in entry.items()}


def _digest(image: Any) -> str | None:
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


def _group_images(path: Path, group: int) -> pa.ChunkedArray:
    import pyarrow.parquet as pq

    file = open_parquet(path)
    with readable(path, ADVICE):
        columns = file.metadata.row_group(group)
        chunks = [columns.column(position) for position in range(columns.num_columns)]
        stored_bytes = sum(
            chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.startswith("image")
        )
        # A dictionary has at most 2 GiB; a group that says that it has more, as it stands in the file, needs none.
        file = file if stored_bytes < MAX_DICTIONARY_BYTES else pq.ParquetFile(path)
        return file.read_row_group(group, columns=["image"])["image"]
