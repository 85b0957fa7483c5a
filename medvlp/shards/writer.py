"""Writing: one tar with its index, and the table of samples next to them. Same input, same bytes."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from medvlp.shards.atomic import whole_file, write_whole
from medvlp.shards.errors import ShardError
from medvlp.shards.index import index_bytes
from medvlp.shards.schema import Sample, to_members

if TYPE_CHECKING:
    import pyarrow as pa

MAX_SAMPLE_BYTES = 2**31 - 2**20
"""A sample is read with one pread, and Linux moves at most 2 GiB in one."""


@dataclass
class Row:
    """One line of `samples.parquet`: what planning, checking and reporting need to know without opening a tar."""

    key: str
    shard: str
    split: str
    group: str
    licence: str
    width: int
    """Pixels of the first image; 0 for volumes and text-only samples."""
    height: int
    caption_length: int
    """Characters."""
    sha256: str
    """Of the first image's encoded bytes; empty without images."""
    perceptual_hash: str
    """64-bit pHash of the first image as 16 hexadecimal digits; empty for volumes and text-only samples."""
    modality: str
    """"unknown" is a value."""


def columns_of(sample: Sample) -> dict[str, Any]:
    """The columns of a sample's row that the sample itself decides."""
    return {
        "key": sample.key,
        "group": str(sample.metadata.get("group", "")),
        "licence": str(sample.metadata.get("licence", "")),
        "caption_length": len(sample.texts.get("caption", "")),
        "sha256": hashlib.sha256(sample.images[min(sample.images)]).hexdigest() if sample.images else "",
        "modality": str(sample.metadata.get("modality", "unknown")),
    }


@dataclass
class FileMark:
    """What identifies a file's content."""

    sha256: str
    size: int
    """Bytes."""


class ShardWriter:
    """Writes `<path>.tar` and `<path>.idx`; both appear, whole, when the `with` block ends without an error.

    A block that writes no sample leaves no files. The tar is plain POSIX (PAX) with every field that could vary (time,
    owner, mode) fixed. After the block, `rows` is the shard's part of the table and `files` has the checksums of both.
    """

    def __init__(self, path: Path, split: str) -> None:
        self.path = path
        self.split = split
        self.rows: list[Row] = []
        self.files: dict[str, FileMark] = {}
        self._index: list[tuple[int, bytes, int, int, int]] = []
        self._keys: set[str] = set()
        self._hash = hashlib.sha256()
        self._size = 0
        self._stack = ExitStack()
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None or not self.rows:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            # Two zero blocks end a tar, and writers fill it to whole records of 20 blocks.
            self._put(bytes(2 * tarfile.BLOCKSIZE))
            self._put(bytes(-self._size % tarfile.RECORDSIZE))
            index = index_bytes(self._index)
            write_whole(self.path.with_suffix(".idx"), index)
        self.files = {
            f"{self.path.name}.tar": FileMark(self._hash.hexdigest(), self._size),
            f"{self.path.name}.idx": FileMark(hashlib.sha256(index).hexdigest(), len(index)),
        }

    def write(self, sample: Sample, width: int = 0, height: int = 0, perceptual_hash: str = "") -> Row:
        """Append a sample; width, height (pixels) and the hash describe its first image. Returns its table row.

        Raises ShardError if the sample breaks the contract, its key repeats, or the disk is full.
        """
        members = to_members(sample)
        pixels: dict[str, Any] = {"width": width, "height": height, "perceptual_hash": perceptual_hash}
        row = Row(shard=f"{self.path.name}.tar", split=self.split, **pixels, **columns_of(sample))
        self.write_members(row, members)
        return row

    def write_members(self, row: Row, members: Mapping[str, bytes]) -> None:
        """Append a sample that is already members, in their order, and its row of the table.

        Raises ShardError if the key repeats, the sample is too large, or the disk is full.
        """
        if row.key in self._keys:
            raise ShardError(f"{self.path}.tar: key {row.key} comes twice; keys are unique in a dataset")
        if sum(map(len, members.values())) > MAX_SAMPLE_BYTES:
            raise ShardError(f"{row.key} has more than {MAX_SAMPLE_BYTES} bytes; split it into several samples")
        for name, data in members.items():
            offset = self._append(f"{row.key}.{name}", data)
            self._index.append((len(self.rows), name.encode("ascii"), offset, len(data), zlib.crc32(data)))
        self._keys.add(row.key)
        self.rows.append(row)

    def _append(self, name: str, data: bytes) -> int:
        """Write one member; returns the offset of its data."""
        self._put(member_header(name, len(data)))
        offset = self._size
        self._put(data)
        self._put(bytes(-len(data) % tarfile.BLOCKSIZE))
        return offset

    def _put(self, data: bytes) -> None:
        if self._file is None:
            self._file = self._stack.enter_context(whole_file(self.path.with_suffix(".tar")))
        self._file.write(data)
        self._hash.update(data)
        self._size += len(data)


def _tarfile_header(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)  # mtime, uid, gid 0 and empty names are its defaults
    header.size, header.mode = size, 0o644
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


_EMPTY = _tarfile_header("", 0)
_EMPTY_SUM = sum(_EMPTY[:124]) + sum(_EMPTY[135:148]) + sum(_EMPTY[156:]) + 8 * ord(" ")
"""The checksum is a sum of bytes, its own eight taken as blanks; size has eleven digits from 124 on."""


def member_header(name: str, size: int) -> bytes:
    """A member's header, as tarfile makes it: that takes a fifth of the time of packing, and only these three differ."""
    if len(name) > tarfile.LENGTH_NAME or size >= 8**11:
        return _tarfile_header(name, size)
    encoded, digits = name.encode("ascii"), b"%011o" % size
    checksum = b"%06o\0 " % (_EMPTY_SUM + sum(encoded) + sum(digits))
    return b"".join((encoded.ljust(100, b"\0"), _EMPTY[100:124], digits, _EMPTY[135:148], checksum, _EMPTY[156:]))


def table_schema() -> pa.Schema:
    """The columns of `samples.parquet`."""
    import pyarrow as pa

    return pa.schema([(f.name, pa.int32() if f.type == "int" else pa.string()) for f in fields(Row)])


def rows_table(rows: list[Row]) -> pa.Table:
    """Rows as an Arrow table with the columns of `samples.parquet`."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {f.name: [getattr(row, f.name) for row in rows] for f in fields(Row)}
    return pa.table(columns, schema=table_schema())


def write_tables(path: Path, tables: Any, schema: pa.Schema | None = None) -> FileMark:
    """Write Arrow tables (an iterable, one row group each) as one parquet file: deterministic, whole or absent.

    schema: of tables other than samples.parquet.
    """
    import pyarrow.parquet as pq

    with whole_file(path) as file, pq.ParquetWriter(file, schema or table_schema(), compression="zstd") as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, table.num_rows))
    return mark_file(path)


def mark_file(path: Path) -> FileMark:
    """Checksum and size of a file on disk."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileMark(digest, file.tell())
