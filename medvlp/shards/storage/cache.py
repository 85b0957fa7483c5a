"""A bounded folder of downloaded files, by their sha256, that processes, ranks and nodes share."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from medvlp.shards.atomic import PARTIAL, refusing, remove_leftovers, whole_file
from medvlp.shards.errors import ShardError
from medvlp.shards.writer import FileMark

FILES = "files"
LOCKS = "locks"
SLOTS = 256
"""Locks that downloads share: two files rarely meet in one, and then the second waits."""
USE_INTERVAL = 30.0
"""Seconds after which a use is noted again; what was used longest ago is removed first."""


@dataclass(frozen=True)
class _Holding:
    last_use: float
    size: int
    path: Path


class FileCache:
    """Files under their sha256: what is there is whole and was compared. Any number of processes may use one folder.

    Args:
        folder: made when the first file comes.
        max_bytes: files whose last use is longest ago are removed before another would go beyond it.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._uses: dict[str, float] = {}
        self._downloads: set[str] = set()

    def path(self, mark: FileMark, suffix: str) -> Path:
        """Where a file is, if it is there."""
        return self.folder / FILES / mark.sha256[:2] / f"{mark.sha256}{suffix}"

    def fetch(self, mark: FileMark, suffix: str, origin: str, write: Callable[[BinaryIO], None]) -> Path:
        """The path of a file, which is downloaded where it is not there; one process does, the others wait for it.

        Args:
            suffix: of the file's name, `.tar`.
            origin: what messages call the file.
            write: downloads it.

        Raises:
            ShardError: it is larger than the cache, the disk is full, or what came is not what the mark says.
        """
        path = self.path(mark, suffix)
        if self._use(path):
            return path
        if mark.size > self.max_bytes:
            raise ShardError(
                f"{origin} has {mark.size} bytes, the cache {self.folder} may hold {self.max_bytes}; raise "
                f"data.remote.max_gb, or set data.remote.read=sample"
            )
        with refusing(path.parent, "nothing was downloaded"):
            path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder / LOCKS / str(int(mark.sha256[:8], 16) % SLOTS)):
            if not self._use(path):
                self._download(path, mark, origin, write)
        return path

    def _download(self, path: Path, mark: FileMark, origin: str, write: Callable[[BinaryIO], None]) -> None:
        if path.name in self._downloads:
            warnings.warn(
                f"{origin} is downloaded again: the cache {self.folder} is too small for the shards in use. Raise "
                f"data.remote.max_gb, or set data.shuffle_block and data.shuffle_window so that fewer are used at once",
                stacklevel=2,
            )
        with ExitStack() as stack:
            with _locked(self.folder / LOCKS / "space"):  # until the new file's size counts
                self._make_space(mark.size)
                file = stack.enter_context(whole_file(path))
                with refusing(path):
                    file.truncate(mark.size)
            write(file)
            if file.tell() != mark.size:
                raise ShardError(f"{origin} has {file.tell()} bytes, its manifest says {mark.size}")
        self._downloads.add(path.name)

    def _make_space(self, size: int) -> None:
        remove_leftovers(self.folder / FILES)
        holdings = sorted(self._holdings(), key=lambda holding: (holding.last_use, holding.path))
        excess = sum(holding.size for holding in holdings) + size - self.max_bytes
        for holding in holdings:
            if excess <= 0:
                return
            if not holding.path.name.endswith(PARTIAL):  # another process is at it
                holding.path.unlink(missing_ok=True)
                excess -= holding.size

    def _holdings(self) -> Iterator[_Holding]:
        for path in (self.folder / FILES).glob("*/*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                yield _Holding(status.st_mtime, status.st_size, path)

    def _use(self, path: Path) -> bool:
        """Whether a file is there; its use is noted in its time of change."""
        moment = time.monotonic()
        try:
            if moment - self._uses.get(path.name, -USE_INTERVAL) >= USE_INTERVAL:
                os.utime(path)
                self._uses[path.name] = moment
            return path.exists()
        except FileNotFoundError:
            return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time. Where the file system has no locks, several: a file is then downloaded more than once."""
    with refusing(path, "nothing was downloaded"):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)  # the system lets go when the process ends
        yield
    finally:
        os.close(handle)


class ComparedFile:
    """A file that is being downloaded, with the sha256 of what came so far."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, block: bytes) -> None:
        """Append."""
        self.file.write(block)
        self.digest.update(block)

    def restart(self) -> None:
        """Begin again."""
        self.file.seek(0)
        self.digest = hashlib.sha256()
