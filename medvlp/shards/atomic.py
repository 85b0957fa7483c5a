"""Files that are whole or absent: written under another name, synced, then renamed into it."""

from __future__ import annotations

import fcntl
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from medvlp.shards.errors import ShardError

if TYPE_CHECKING:
    from typing_extensions import Buffer  # in collections.abc from Python 3.12

PARTIAL = ".partial"
"""Suffix of a file that is still being written. A leftover means that its writer was killed; it is safe to delete."""


class _TemporaryFile(io.BufferedWriter):
    """A file whose failing writes say so as ours: an OSError from the block's own work must stay what it is."""

    def __init__(self, path: Path, temporary: Path) -> None:
        self.target = path
        with refusing(path):
            super().__init__(io.FileIO(temporary, "w"))
            with suppress(OSError):  # a file system without locks
                fcntl.flock(self.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)  # the system lets go when the process ends

    def write(self, data: Buffer, /) -> int:
        with refusing(self.target):
            return super().write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write that appears at `path` only when the block ends well.

    Raises ShardError if the disk refuses (full, quota, no permission); nothing is left behind then.
    """
    # Not the process's number: machines that share the folder give out the same ones.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}{PARTIAL}")
    file = _TemporaryFile(path, temporary)
    try:
        yield cast(BinaryIO, file)
        with refusing(path):
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # closing tries once more to write what did not fit
            file.close()
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def refusing(path: Path, outcome: str = "nothing of it was kept") -> Iterator[None]:
    """What the disk refuses in the block becomes a ShardError that names the file."""
    try:
        yield
    except OSError as error:
        raise ShardError(f"cannot write {path}: {error.strerror or error}; {outcome}") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader finds the old file or the new one, never a part."""
    with whole_file(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """`write_whole` of text in UTF-8. File names that are not UTF-8 come as lone surrogates, which become escapes."""
    write_whole(path, text.encode("utf-8", "backslashreplace"))


def remove_leftovers(folder: Path) -> list[Path]:
    """Take away what writers that were killed left in a folder and below it; returns what was removed."""
    return [path for path in sorted(folder.rglob(f".*{PARTIAL}")) if _removed(path)]


def _removed(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # its writer lives
    except OSError:
        pass
    path.unlink(missing_ok=True)
    return True


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut: a rename is an entry of the folder, not of the file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
