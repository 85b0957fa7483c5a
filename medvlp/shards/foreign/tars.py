"""A tar's members by its headers: name, offset and size, whatever wrote it; and what is wrong with it."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAX_HEADER = 2**24
"""Bytes of an extended header: tarfile allocates what it claims."""
CLUTTER = ("._", ".DS_Store")


@dataclass(frozen=True)
class Member:
    """One file in a tar. offset, size: of its data, in bytes."""

    name: str
    offset: int
    size: int


@dataclass
class TarContents:
    """Regular files in the order of the tar."""

    members: list[Member] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    """Names of links, devices and sparse files, which are not read."""
    broken: str = ""
    """Where reading stopped before the end, and why; what stands behind is not known."""
    clutter: int = 0
    """What systems leave behind (`._a.jpg`, `.DS_Store`)."""


class _Capped(io.BufferedReader):
    """A file that does not read more at once than an extended header may have."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_HEADER:
            raise ValueError(f"a header asks for {size} bytes")
        return super().read(size)


def walk(path: Path) -> TarContents:
    """The members of a tar. Only headers are read; no member is written anywhere. Raises OSError."""
    contents = TarContents()
    size = path.stat().st_size
    with open(path, "rb", buffering=0) as raw, _Capped(raw) as file:
        position = 0
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in _members(archive):
                    position = member.offset_data + (member.size if member.isreg() else 0)
                    _add(contents, member, size)
                position = archive.offset
            contents.broken = _end_fault(file, position, size)
        except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
            cause = str(error) or type(error).__name__
            contents.broken = f"{cause}, near byte {position}, after {len(contents.members)} members"
    return contents


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # it would hold every header
        yield member


def _add(contents: TarContents, member: tarfile.TarInfo, size: int) -> None:
    name = member.name.removeprefix("./")
    if member.size < 0:
        raise ValueError(f"{name!r} claims {member.size} bytes")
    if member.isdir():
        return
    if os.path.basename(name).startswith(CLUTTER):
        contents.clutter += 1
    elif not member.isreg() or member.issparse():
        contents.special.append(name)
    elif member.offset_data + member.size > size:
        raise ValueError(f"{name!r} claims {member.size} bytes, but the file ends at byte {size}")
    else:
        contents.members.append(Member(name, member.offset_data, member.size))


def _end_fault(file: io.BufferedReader, position: int, size: int) -> str:
    """tarfile takes a damaged header, and the end of a file that was cut off, for the end of the archive."""
    file.seek(position)
    block = file.read(tarfile.BLOCKSIZE)
    if not block:
        return f"it ends at byte {size} without the mark of a tar's end"
    return f"the header at byte {position} is damaged" if block.strip(b"\0") else ""
