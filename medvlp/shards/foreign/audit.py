"""Faults of one tar of others: it, its index and its rows of the table, each against what indexing it again gives."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medvlp.shards.audit import Fault, capped
from medvlp.shards.foreign.form import ForeignForm
from medvlp.shards.foreign.shard import ShardIndex, index_shard
from medvlp.shards.index import index_bytes, open_index

FROM_PIXELS = ("width", "height", "perceptual_hash")
"""Columns that decoding decides."""


def audit_foreign(
    tar_path: Path,
    index_path: Path,
    tar: str,
    split: str,
    form: ForeignForm,
    rows: list[dict[str, Any]] | None,
    tar_changed: bool,
) -> Iterator[Fault]:
    """Faults as (file name, problem, detail).

    tar_changed: its checksum is not the manifest's; then members are compared with the index alone.
    """
    index_name = str(Path(tar).with_suffix(".idx"))
    try:
        entries = open_index(index_path).tolist()
        data = index_path.read_bytes()
    except (OSError, ValueError) as error:
        yield index_name, "wrong_index", f"cannot be opened: {error}"
        return
    if tar_changed:
        yield from _damaged(tar_path, tar, entries)
        return
    indexed = index_shard(tar_path, tar, split, form)
    if rows is not None:  # without those whose image could not be opened, which is not tried here
        _keep(indexed, {row["key"] for row in rows})
    if data != index_bytes(indexed.entries):
        yield index_name, "wrong_index", "it is not what indexing the tar gives; run `medvlp index` again"
    expected = [{name: value for name, value in asdict(row).items() if name not in FROM_PIXELS} for row in indexed.rows]
    present = [{name: row[name] for name in expected[0]} for row in rows] if rows and expected else []
    if rows is not None and present != expected:
        number = next((n for n, pair in enumerate(zip(present, expected, strict=False)) if pair[0] != pair[1]), None)
        detail = (
            f"{len(present)} rows, the tar has {len(expected)} samples" if number is None else f"row {number} differs"
        )
        yield tar, "wrong_table", f"the table is not what indexing the tar gives: {detail}"


def _keep(indexed: ShardIndex, keys: set[str]) -> None:
    """Leave the samples of an index that have one of these keys."""
    positions = [position for position, row in enumerate(indexed.rows) if row.key in keys]
    numbers = {position: number for number, position in enumerate(positions)}
    indexed.rows = [indexed.rows[position] for position in positions]
    indexed.entries = [(numbers[entry[0]], *entry[1:]) for entry in indexed.entries if entry[0] in numbers]


def _damaged(path: Path, tar: str, entries: list[tuple[int, bytes, int, int, int]]) -> Iterator[Fault]:
    damaged = []
    with open(path, "rb", buffering=0) as file:
        for sample, member, offset, size, crc in entries:
            if zlib.crc32(os.pread(file.fileno(), size, offset)) != crc:
                damaged.append(f"{member.decode('ascii', 'replace')} of sample {sample}, {size} bytes at {offset}")
    yield from capped(tar, "checksum_mismatch", damaged)
