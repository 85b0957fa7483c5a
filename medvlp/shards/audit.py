"""One shard under the lens: the tar's own headers, the index, the table and the samples have to tell one story."""

from __future__ import annotations

import os
import tarfile
import zlib
from pathlib import Path
from typing import Any

from medvlp.shards.errors import BadSample, ShardError
from medvlp.shards.index import index_bytes, open_index
from medvlp.shards.schema import Sample, from_members, to_members
from medvlp.shards.writer import columns_of, member_header

FAULTS_SPELT_OUT = 5
"""Faults of one kind that are spelt out for a file; the rest are counted."""

Fault = tuple[str, str, str]
"""(file name, problem, detail)"""
Entry = tuple[int, str, int, int, int]
"""A row of the index: (sample, member, offset, size, crc32)."""
MemberSpans = dict[str, tuple[int, int]]
"""Member name → (offset, size)."""


def audit_shard(
    path: Path,
    index_path: Path,
    samples: int,
    rows: list[dict[str, Any]] | None,
    tar_changed: bool,
    index_changed: bool,
    name: str,
) -> list[Fault]:
    """Faults of one shard. `rows` are its rows of the table, None if that cannot be read.

    name: of the tar in the manifest, which is another one in a cache.

    tar_changed, index_changed: the file's checksum is not the manifest's. They decide who is believed when the tar
    and the index disagree.
    """
    tar, index_name = name, str(Path(name).with_suffix(".idx"))
    members, broken, foreign = _walk(path)
    faults: list[Fault] = []
    try:
        raw = open_index(index_path).tolist()
        index = [(s, n.decode("ascii", "replace"), o, z, c) for s, n, o, z, c in raw]
        if not index_changed and index_path.read_bytes() != index_bytes(raw):
            faults.append(
                (index_name, "not_as_written", "its header, or what stands behind its rows, is not the writer's")
            )
    except (OSError, ValueError, EOFError) as error:
        return [(index_name, "wrong_index", f"cannot be opened: {error}")]
    # Who is who: the table's keys if they are usable, else the names in the tar.
    keys = [row["key"] for row in rows] if rows is not None and len(rows) == samples else _keys_in(members)
    if len(keys) != samples:
        faults.append((tar, "wrong_count", f"{len(keys)} samples, the manifest says {samples}"))

    with open(path, "rb") as file:
        handle = file.fileno()
        lost = {_full(keys, sample, member) for sample, member, *_ in index} - members.keys()
        # Behind a broken header nothing is known to be lost: the index still says where to look.
        damaged, torn = _damaged(index, keys, members, set() if broken else lost, handle)
        if torn:
            end = os.fstat(handle).st_size
            faults.append(
                (tar, "truncated_shard", f"{len(torn)} members, from {torn[0]} on, lie behind its end ({end})")
            )
        elif broken:
            faults.append((tar, "broken_tar", broken))
        else:
            faults += capped(
                tar, "missing_member", [f"{name} is in the index, but not in the tar" for name in sorted(lost)]
            )
        faults += capped(tar, "unexpected_member", _unexpected(index, keys, members))
        if not tar_changed:
            faults += capped(tar, "not_as_written", foreign)
        if tar_changed:
            details = [f"{name}, {size} bytes at {begin}, fails its CRC-32" for name, (begin, size) in damaged.items()]
            faults += capped(tar, "checksum_mismatch", details)
        if index_changed or not tar_changed:
            index_faults = _index_disagrees(index, keys, samples, members)
            if not tar_changed:  # the tar is as written, so it is the index that errs
                index_faults += [f"the CRC-32 of {name} is not its data's" for name in damaged]
            faults += capped(index_name, "wrong_index", index_faults)
        faults += _samples(tar, keys, rows, members, handle, set(damaged) | set(torn) | lost)
    return faults


def _walk(path: Path) -> tuple[MemberSpans, str, list[str]]:
    """Member name → (offset, size) as the headers say, what stopped the walk, if anything did, and headers that the writer
    does not write: links, devices, members with owners, times or modes."""
    members: MemberSpans = {}
    foreign: list[str] = []
    position = 0
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar, open(path, "rb") as file:
            for member in tar:
                end = member.offset_data + member.size
                if not position <= member.offset_data <= end <= size:
                    broken = f"{member.name!r} claims {member.size} bytes, but the file ends at byte {size}"
                    return members, broken, foreign
                header = os.pread(file.fileno(), member.offset_data - member.offset, member.offset)
                if not member.name.isascii() or header != member_header(member.name, member.size):
                    foreign.append(
                        f"{member.name!r}: its header has a type, owner, time or mode that the writer never gives"
                    )
                if member.name in members:
                    foreign.append(f"{member.name!r} comes twice")
                if os.pread(file.fileno(), -end % tarfile.BLOCKSIZE, end).strip(b"\0"):
                    foreign.append(f"{member.name!r}: bytes stand between its end and the next member")
                members[member.name] = (member.offset_data, member.size)
                position = end
    except (tarfile.TarError, OSError, MemoryError, OverflowError, ValueError) as error:
        # Some of these have no message: a header that claims 2^60 bytes ends in a bare MemoryError.
        cause = str(error) or type(error).__name__
        return members, f"{cause}, near byte {position}, after {len(members)} members", foreign
    # tarfile takes a bad header after the first member for the end of the archive: look at what follows.
    with open(path, "rb") as file:
        blocks = file.seek(-(-position // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        follows = file.read(tarfile.BLOCKSIZE)
        broken = ""
        if not follows:
            broken = f"the file ends at byte {size} without the mark of a tar's end, after {len(members)} members"
        elif follows.strip(b"\0"):
            header_start = file.tell() - len(follows)
            broken = f"the header at byte {header_start} is not one; readers stop there, after {len(members)} members"
        padded_size = -(-(blocks + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
        if not broken and (size != padded_size or file.read(tarfile.RECORDSIZE).strip(b"\0")):
            foreign.append(f"behind its end, at byte {blocks}, stands what no reader sees")
    return members, broken, foreign


def _keys_in(members: MemberSpans) -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] for name in members))


def _full(keys: list[str], sample: int, member: str) -> str:
    return f"{keys[sample]}.{member}" if sample < len(keys) else f"(sample {sample}).{member}"


def _unexpected(index: list[Entry], keys: list[str], members: MemberSpans) -> list[str]:
    index_names = {_full(keys, sample, member) for sample, member, *_ in index}
    return [f"{name} is in the tar, but not in the index" for name in members if name not in index_names]


def _index_disagrees(index: list[Entry], keys: list[str], samples: int, members: MemberSpans) -> list[str]:
    faults = []
    order = [sample for sample, *_ in index]
    if sorted(set(order)) != list(range(samples)) or order != sorted(order):
        faults.append(f"its samples are not 0 to {samples - 1} in order")
    for number, (sample, member, offset, size, _) in enumerate(index):
        name = _full(keys, sample, member)
        begin, length = members.get(name, (offset, size))
        if (begin, length) != (offset, size):
            faults.append(
                f"row {number}: {name} is at byte {offset}, {size} long; the tar has it at {begin}, {length} long"
            )
    return faults


def _damaged(
    index: list[Entry], keys: list[str], members: MemberSpans, lost: set[str], handle: int
) -> tuple[MemberSpans, list[str]]:
    """Members whose data fail the CRC-32 of the index, and the names of those that the end of the file cuts."""
    damaged: MemberSpans = {}
    torn: list[str] = []
    end = os.fstat(handle).st_size
    for sample, member, offset, size, crc in index:
        name = _full(keys, sample, member)
        # Where the headers know the member, its place is theirs: a wrong place in the index is a fault of its own.
        begin, length = members.get(name, (offset, size))
        if name in lost:
            continue
        if begin + length > end:
            torn.append(name)
        elif zlib.crc32(os.pread(handle, length, begin)) != crc:
            damaged[name] = (begin, length)
    return damaged, torn


def _samples(
    tar: str,
    keys: list[str],
    rows: list[dict[str, Any]] | None,
    members: MemberSpans,
    handle: int,
    known_bad: set[str],
) -> list[Fault]:
    """Faults that only the samples' contents show; members that are damaged or lost have been named already."""
    members_of_key: dict[str, MemberSpans] = {}
    for name, span in members.items():
        key, _, member = name.partition(".")
        members_of_key.setdefault(key, {})[member] = span
    bad_keys = {name.partition(".")[0] for name in known_bad}
    by_reason: dict[tuple[str, str], list[str]] = {}
    for position, key in enumerate(keys):
        if key in bad_keys or key not in members_of_key:
            continue
        row = rows[position] if rows is not None and position < len(rows) else None
        members_of_it = {m: os.pread(handle, size, begin) for m, (begin, size) in members_of_key[key].items()}
        try:
            sample = from_members(key, members_of_it)
        except BadSample as bad:
            by_reason.setdefault((tar, bad.reason), []).append(bad.detail)
            continue
        if difference := _unlike_written(sample, members_of_it):
            by_reason.setdefault((tar, "not_as_written"), []).append(f"{key}: {difference}")
        if row is None or row["key"] != key:
            continue
        for column, value in columns_of(sample).items():
            if row[column] != value:
                detail = (
                    f"{key}: the table's {column} is {_shortened(row[column])}, the sample's is {_shortened(value)}"
                )
                by_reason.setdefault(("samples.parquet", "wrong_table"), []).append(detail)
    faults = []
    for (file, reason), details in by_reason.items():
        faults += capped(file, reason, details)
    strangers = sorted(members_of_key.keys() - set(keys))
    return faults + capped(
        "samples.parquet", "wrong_table", [f"{key} is in {tar}, but has no row" for key in strangers]
    )


def _unlike_written(sample: Sample, members: dict[str, bytes]) -> str:
    """How a sample's members differ from what the writer makes of the sample; "" if they do not."""
    try:
        expected_members = to_members(sample)
    except ShardError as error:
        return str(error)
    if list(expected_members) != list(members):
        return f"its members are {', '.join(members)}; the writer makes {', '.join(expected_members)}, in this order"
    if expected_members["json"] != members["json"]:
        return "its JSON says the same in another form (order of fields, blanks, empty or unknown fields)"
    return ""


def _shortened(value: Any) -> str:
    text = str(value)
    return (f"{text[:12]}…" if len(text) == 64 else repr(text[:60])) if isinstance(value, str) else text


def capped(file: str, problem: str, details: list[str]) -> list[Fault]:
    """Faults of one kind of a file: the first are spelt out, the others counted."""
    faults = [(file, problem, detail) for detail in details[:FAULTS_SPELT_OUT]]
    if len(details) > FAULTS_SPELT_OUT:
        faults.append((file, problem, f"and {len(details) - FAULTS_SPELT_OUT} more of this kind"))
    return faults
