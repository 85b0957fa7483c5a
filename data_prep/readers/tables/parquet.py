"""Rows of parquet files, in bounded memory: a kilobyte of parquet can stand for a terabyte of texts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.readers.guarded import readable

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ADVICE = "download the publisher's file again"
SMALL_GROUP_BYTES = 256 * 2**20
"""Of a row group without compression, of which many rows may be decoded together whatever their cells are."""

ROWS_AT_ONCE = 1024
FEW_ROWS = 16
"""At once of larger groups, because nothing bounds how long a cell is before it is decoded."""


def open_parquet(path: Path) -> pq.ParquetFile:
    """The file, whose texts and bytes come as dictionaries: a value that a million rows share is in memory once.

    Raises PrepError if it is none.
    """
    import pyarrow.parquet as pq

    with readable(path, ADVICE):
        metadata = pq.read_metadata(path)
        columns = [metadata.schema.column(position) for position in range(len(metadata.schema))]
        dictionary_columns = [
            c.path for c in columns if c.physical_type == "BYTE_ARRAY" and c.logical_type.type != "DECIMAL"
        ]
        return pq.ParquetFile(path, metadata=metadata, read_dictionary=dictionary_columns)


def parquet_rows(path: Path, columns: Collection[str]) -> Iterator[dict[str, Any]]:
    """Column → value of each row. Raises PrepError if the file cannot be read."""
    file = open_parquet(path)
    # Group by group: Arrow cannot join the dictionaries of several where they are inside lists or structs.
    for group in range(file.num_row_groups):
        small = file.metadata.row_group(group).total_byte_size <= SMALL_GROUP_BYTES
        rows = ROWS_AT_ONCE if small else FEW_ROWS
        batches = file.iter_batches(rows, row_groups=[group], columns=list(columns))
        while values := _next_batch(path, batches):
            for row in zip(*values.values(), strict=True):
                yield dict(zip(values, row, strict=True))


def _next_batch(path: Path, batches: Iterator[pa.RecordBatch]) -> dict[str, list[Any]]:
    with readable(path, ADVICE):
        batch = next(batches, None)
        return {} if batch is None else {name: values_of(batch[name]) for name in batch.schema.names}


def values_of(array: pa.Array) -> list[Any]:
    """As Arrow's to_pylist, but what is one value in a dictionary is one object, however many rows have it."""
    import pyarrow.types as kinds

    if kinds.is_dictionary(array.type):
        dictionary, indices = array.dictionary, array.indices.to_pylist()
        values = {index: dictionary[index].as_py() for index in set(indices) if index is not None}
        return [values.get(index) for index in indices]
    if kinds.is_list(array.type):
        items = iter(values_of(array.flatten()))
        lengths = array.value_lengths().to_pylist()
        return [None if length is None else list(islice(items, length)) for length in lengths]
    if kinds.is_struct(array.type):
        names = [field.name for field in array.type]
        fields = zip(*(values_of(array.field(name)) for name in names), strict=True)
        valid = array.is_valid().to_pylist()
        return [
            dict(zip(names, row, strict=True)) if is_valid else None
            for is_valid, row in zip(valid, fields, strict=True)
        ]
    return list(array.to_pylist())
