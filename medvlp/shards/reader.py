"""Reading: a split as a random-access sequence of samples. One sample is one `pread`."""

from __future__ import annotations

import os
import zlib
from bisect import bisect_right
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medvlp.shards.errors import BadSample, ShardError
from medvlp.shards.foreign.form import form_of
from medvlp.shards.index import open_index
from medvlp.shards.manifest import MANIFEST, SAMPLES, read_manifest
from medvlp.shards.schema import Sample
from medvlp.shards.storage.files import open_files
from medvlp.shards.storage.keys import LARGE, mapped_keys
from medvlp.shards.storage.opened import IndexRow, OpenShard, spans_of
from medvlp.shards.storage.settings import RemoteSettings
from medvlp.shards.writer import columns_of, mark_file

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MAX_OPEN_SHARDS = 128
"""Shards kept open in a process: two descriptors each, well below the customary limit of 1,024."""

HASHED_BYTES = 2**26
"""A table up to this size is compared with its sha256 before it is believed; of a larger one, the size."""


class ShardDataset:
    """The samples of one split, by position.

    Raises ShardError if the folder is not a finished split. Cheap to pickle (worker processes open files for
    themselves) and safe to fork: `pread` has no position that processes could share.

    Args:
        folder: of the manifest.
        tars: folder or URL of the tars, where they are not there.
        remote: how files behind URLs are read.
    """

    def __init__(self, folder: str | Path, tars: str = "", remote: RemoteSettings | None = None) -> None:
        self.folder = Path(folder)
        self.manifest, self.manifest_hash = read_manifest(self.folder)
        self.files = open_files(self.folder, tars, remote)
        self.form = form_of(self.manifest)
        self._text_members = {name.encode() for name in self.form.text_members}
        self._shards = list(self.manifest.shards)
        self._ends = list(accumulate(self.manifest.shards.values()))
        self._open: dict[int, OpenShard] = {}
        self._compared: set[int] = set()  # shards whose index this process has compared, with one of their images

    def __len__(self) -> int:
        return self.manifest.samples

    @property
    def shards_hash(self) -> str:
        """As `manifest_hash`; views of the data set have another of that, and the same of this."""
        return self.manifest_hash

    def __repr__(self) -> str:
        return f"ShardDataset({str(self.folder)!r}, {len(self)} samples in {len(self._shards)} shards)"

    def __getstate__(self) -> dict[str, Any]:
        # Keys go too: a worker opens its own on first use, cheaper than sending them through a pipe.
        state = {name: value for name, value in self.__dict__.items() if name not in ("_keys", "_table")}
        return {**state, "_open": {}}

    def locate(self, i: int) -> tuple[str, int]:
        """The shard's file name and the sample's position in it."""
        shard, row = self._locate(i)
        return self._shards[shard], row

    def local_file(self, name: str) -> Path:
        """A file of the split on this disk: `samples.parquet`, an index. Raises FileNotFoundError, ShardError."""
        if name not in self.manifest.files:  # of another writer, or none: where it would be
            return self.folder / name
        return self.files.local(name, self.manifest.files[name])

    def _locate(self, i: int) -> tuple[int, int]:
        if not 0 <= i < self.manifest.samples:
            raise IndexError(f"sample {i} of {self.folder}, which has 0 to {self.manifest.samples - 1}")
        shard = bisect_right(self._ends, i)
        return shard, i - (self._ends[shard - 1] if shard else 0)

    @cached_property
    def _keys(self) -> pa.Array:
        mark = self.manifest.files.get(SAMPLES)
        if self.manifest.samples < LARGE or mark is None:
            return self._arrow_column("key")
        # Each loader worker would hold them all: 2 GiB at 24 million samples.
        return mapped_keys(mark.sha256, self.manifest.samples, lambda: self._arrow_column("key"))

    @property
    def keys(self) -> list[str]:
        """All keys, in order, as a new list (at millions of samples prefer `key(i)`)."""
        return self._keys.to_pylist()

    def key(self, i: int) -> str:
        """The key of sample i."""
        self._locate(i)
        return self._keys[i].as_py()

    def column(self, name: str) -> list[Any]:
        """A column of samples.parquet as a list, in the samples' order."""
        return self._arrow_column(name).to_pylist()

    def _arrow_column(self, name: str) -> pa.Array:
        import pyarrow as pa

        path = self.folder / SAMPLES
        table = self._table
        column_names = table.schema_arrow.names
        if name not in column_names:
            raise ShardError(f"{path} has no column {name!r}; it has {', '.join(column_names)}")
        try:
            column = table.read(columns=[name]).column(0)
        except (OSError, pa.ArrowException) as error:
            raise ShardError(f"{path} cannot be read ({error}); restore it, or prepare the split again") from error
        if len(column) != self.manifest.samples:
            raise ShardError(f"{path} has {len(column)} rows, its manifest says {self.manifest.samples} samples")
        if pa.types.is_string(column.type):
            column = column.cast(pa.large_string())  # one array may pass 2 GiB
        return column.combine_chunks()

    @cached_property
    def _table(self) -> pq.ParquetFile:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table_mark = self.manifest.files.get(SAMPLES)
        path = self.local_file(SAMPLES)
        try:
            size = path.stat().st_size
            if table_mark and (size != table_mark.size or (size <= HASHED_BYTES and mark_file(path) != table_mark)):
                raise ShardError(
                    f"{path} is not the table that {MANIFEST} was written for (its sha256 or size differs); "
                    f"`medvlp verify {self.folder}` says more. Restore it, or prepare the split again"
                )
            return pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise ShardError(f"{path} cannot be read ({error}); restore it, or prepare the split again") from error

    @cached_property
    def _group_ends(self) -> list[int]:
        metadata = self._table.metadata
        return list(accumulate(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)))

    def read(self, i: int) -> Sample:
        """Sample i. Raises IndexError if there is none, BadSample if what is on disk is not what was written."""
        return self._read(i)

    def read_text(self, i: int) -> Sample:
        """Sample i without its images, whose bytes are not read: `images` is empty.

        Raises IndexError if there is none, BadSample if what was read is not what was written.
        """
        return self._read(i, ())

    def read_images(self, i: int, names: Sequence[str]) -> Sample:
        """Sample i with these of its images alone. Raises as `read_text`."""
        if self._locate(i)[0] in self._compared:
            return self._read(i, names)
        sample = self._read(i)
        return replace(sample, images={name: sample.images[name] for name in sample.images if name in names})

    def image_names(self, i: int) -> list[str]:
        """Names of sample i's images, from the shard's index. Raises IndexError if there is none, BadSample."""
        return [_name(row[1]) for row in self._index_rows(i)[2] if row[1] not in self._text_members]

    def _index_rows(self, i: int) -> tuple[int, OpenShard, list[IndexRow]]:
        shard, row = self._locate(i)
        key = self._keys[i].as_py()
        open_shard = self._open.get(shard) or self._open_shard(shard, key)
        rows = open_shard.index[open_shard.starts[row] : open_shard.starts[row + 1]].tolist()
        if not rows:
            raise BadSample("broken_index", self._shards[shard], key, f"the index has no rows for sample {row}")
        return shard, open_shard, rows

    def _read(self, i: int, names: Sequence[str] | None = None) -> Sample:
        """names: of the images that are read; None: all."""
        shard, open_shard, rows = self._index_rows(i)
        key = self._keys[i].as_py()
        unread = []
        if names is not None:  # of our own, images stand first
            unread = [name for row in rows if row[1] not in self._text_members and (name := _name(row[1])) not in names]
            rows = [row for row in rows if _name(row[1]) not in unread] or rows
        members: dict[str, bytes] = {}
        for span in spans_of(rows):
            members |= self._members(shard, open_shard, span, key)
        try:
            sample = self.form.sample(key, members | dict.fromkeys(unread, b""))
            if names is not None:
                return replace(sample, images={name: sample.images[name] for name in sample.images if name in names})
            if shard not in self._compared:
                self._compare_image(i, sample)
                self._compared.add(shard)
            return sample
        except BadSample as bad:
            raise BadSample(bad.reason, self._shards[shard], key, bad.detail) from None

    def _members(self, shard: int, open_shard: OpenShard, rows: list[IndexRow], key: str) -> dict[str, bytes]:
        """Members that stand together, by one read; a few more where a network gave other bytes."""
        attempts = open_shard.tar.attempts
        while True:
            attempts -= 1
            try:
                return self._members_once(shard, open_shard, rows, key)
            except BadSample as bad:
                if bad.reason != "checksum_mismatch" or attempts <= 0:
                    raise

    def _members_once(self, shard: int, open_shard: OpenShard, rows: list[IndexRow], key: str) -> dict[str, bytes]:
        begin = rows[0][2]
        end = rows[-1][2] + rows[-1][3]
        # Before reading: the size that is asked for is allocated, whether or not the file has so much.
        shard_size = self.manifest.files[self._shards[shard]].size
        if not begin <= end <= shard_size:
            detail = f"its bytes would be {begin} to {end} of the {shard_size} that were written"
            raise BadSample("broken_index", self._shards[shard], key, detail)
        if end > open_shard.tar.size:
            detail = f"its bytes are {begin} to {end}, the file ends at {open_shard.tar.size}"
            raise BadSample("truncated_shard", self._shards[shard], key, detail)
        try:
            data = open_shard.tar.pread(end - begin, begin)
        except (OSError, MemoryError, OverflowError) as error:
            detail = f"bytes {begin} to {end} cannot be read: {error}"
            raise BadSample("broken_index", self._shards[shard], key, detail) from error
        members: dict[str, bytes] = {}
        for _, name, offset, size, crc in rows:
            member = data[offset - begin : offset - begin + size]
            if zlib.crc32(member) != crc:
                raise BadSample(
                    "checksum_mismatch",
                    self._shards[shard],
                    key,
                    f"{key}.{_name(name)} at byte {offset} is not what was written",
                )
            members[_name(name)] = member
        return members

    def _compare_image(self, i: int, sample: Sample) -> None:
        """An image of every shard, the first that a process reads, against its sha256 in the table.

        A CRC-32 can be made to fit other bytes; a sha256 cannot. Of the table, one group of rows is read.
        """
        import pyarrow as pa

        group = bisect_right(self._group_ends, i)
        row = i - (self._group_ends[group - 1] if group else 0)
        try:
            column = self._table.read_row_group(group, columns=["sha256"], use_threads=False).column(0)
            table_sha256 = column[row].as_py()
        except (OSError, IndexError, pa.ArrowException) as error:
            path = self.folder / SAMPLES
            raise ShardError(f"{path} cannot be read ({error}); restore it, or prepare the split again") from error
        if table_sha256 != columns_of(sample)["sha256"]:
            raise BadSample("checksum_mismatch", key=sample.key, detail="its image is not the one that the table names")

    def _open_shard(self, shard: int, key: str) -> OpenShard:
        name = self._shards[shard]
        try:
            samples, is_new = self.manifest.shards[name], shard not in self._compared
            open_shard = OpenShard(self.files, name, samples, self.manifest.files, is_new)
        except FileNotFoundError as error:
            raise BadSample("missing_shard", name, key, f"{error.filename} is not there") from None
        except (OSError, ValueError, EOFError, IndexError) as error:
            index = Path(name).with_suffix(".idx")
            raise BadSample("broken_index", name, key, f"{index} cannot be used: {error}") from None
        if len(self._open) >= MAX_OPEN_SHARDS:
            self._open.pop(next(iter(self._open)), None)  # the one opened longest ago
        self._open[shard] = open_shard
        return open_shard


def _name(member: bytes) -> str:
    return member.decode("ascii", "replace")


def read_members(tar: Path, rows: Sequence[int], names: Container[str] | None = None) -> Iterator[dict[str, bytes]]:
    """Samples of one shard by position, as member name → bytes, checked by CRC; the shard needs no manifest yet.

    names: of the members that are read; None: all.

    Raises ShardError where the shard or its index is not what was written.
    """
    try:
        index = open_index(tar.with_suffix(".idx"))
        with open(tar, "rb") as file:
            for row in rows:
                first, end = np.searchsorted(index["sample"], (row, row + 1)).tolist()
                members = {}
                for _, name, offset, size, crc in index[first:end].tolist():
                    if names is not None and name.decode("ascii", "replace") not in names:
                        continue
                    data = os.pread(file.fileno(), size, offset)
                    if zlib.crc32(data) != crc:
                        raise ValueError(f"{name.decode('ascii', 'replace')} of sample {row} is not what was written")
                    members[name.decode("ascii")] = data
                if not members:
                    raise ValueError(f"its index has no sample {row}")
                yield members
    except (OSError, ValueError) as error:
        raise ShardError(f"{tar} cannot be read: {error}; delete it, and prepare again") from None
