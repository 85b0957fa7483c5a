"""The files of one split, wherever they are: the one thing that the reader asks for bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Protocol

from medvlp.shards.errors import ShardError
from medvlp.shards.storage.cache import ComparedFile, FileCache
from medvlp.shards.storage.location import read_location
from medvlp.shards.storage.settings import SAMPLE, RemoteSettings
from medvlp.shards.storage.transport import Transport
from medvlp.shards.storage.urls import check_url, is_url, join_url
from medvlp.shards.writer import FileMark

EVICTED = 5
"""Times in a row that other processes may remove a file between its download and its first read."""


class ShardBytes(Protocol):
    """The bytes of one tar."""

    size: int
    attempts: int
    """Reads of a sample whose checksum is wrong before it is called damaged."""

    def pread(self, length: int, offset: int) -> bytes:
        """At most `length` bytes from `offset` on. Raises OSError (local), ShardError (remote)."""


class SplitFiles(Protocol):
    """The files that a manifest names."""

    def local(self, name: str, mark: FileMark) -> Path:
        """A whole file on this disk. Raises FileNotFoundError, ShardError."""

    def open(self, name: str, mark: FileMark) -> ShardBytes:
        """A tar to read samples from. Raises FileNotFoundError, ShardError."""


class LocalShard:
    """A tar on this disk, open until the last user lets go of it."""

    attempts = 1

    def __init__(self, path: Path) -> None:
        self.handle = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self.handle).st_size

    def pread(self, length: int, offset: int) -> bytes:
        return os.pread(self.handle, length, offset)

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)


class LocalFiles:
    """Files in a folder; the tars may lie in another one.

    Args:
        folder: of index, table and manifest.
        tars: of the tars.
    """

    def __init__(self, folder: Path, tars: Path) -> None:
        self.folder, self.tars = folder, tars

    def local(self, name: str, mark: FileMark) -> Path:
        return (self.tars if name.endswith(".tar") else self.folder) / name

    def open(self, name: str, mark: FileMark) -> LocalShard:
        return LocalShard(self.tars / name)


class CachedShard:
    """A tar in the cache. It is opened for every read: a tar that is held open takes space after it was removed."""

    attempts = 1

    def __init__(self, files: RemoteFiles, name: str, mark: FileMark) -> None:
        self.files, self.name, self.mark, self.size = files, name, mark, mark.size
        files.local(name, mark)

    def pread(self, length: int, offset: int) -> bytes:
        for _ in range(EVICTED):
            try:
                with open(self.files.local(self.name, self.mark), "rb", buffering=0) as file:
                    return os.pread(file.fileno(), length, offset)
            except FileNotFoundError as error:
                if is_url(str(error.filename)):
                    raise
        raise ShardError(
            f"{self.name} was removed from the cache {self.files.cache.folder} {EVICTED} times before it could be read; raise "
            f"data.remote.max_gb"
        )


class RangedShard:
    """A tar of which single samples are read over the network."""

    def __init__(self, files: RemoteFiles, name: str, mark: FileMark) -> None:
        self.transport, self.url, self.size = files.transport, join_url(files.tars, name), mark.size
        self.attempts = files.transport.settings.attempts

    def pread(self, length: int, offset: int) -> bytes:
        return self.transport.read(self.url, offset, min(offset + length, self.size))


class RemoteFiles:
    """Files behind a URL: small ones, and by choice tars, whole in the cache; or tars by ranges.

    Args:
        folder: where small files are if they are on this disk.
        base: address of the small files; empty if they are in the folder.
        tars: address of the tars.
    """

    def __init__(self, folder: Path, base: str, tars: str, settings: RemoteSettings) -> None:
        self.folder, self.base, self.tars = folder, base, tars
        self.transport = Transport(settings)
        self.cache = FileCache(settings.folder, settings.max_bytes)

    def local(self, name: str, mark: FileMark) -> Path:
        base = self.tars if name.endswith(".tar") else self.base
        if not base:
            return self.folder / name
        url = join_url(base, name)
        return self.cache.fetch(mark, Path(name).suffix, url, lambda file: self._download(url, mark, file))

    def open(self, name: str, mark: FileMark) -> ShardBytes:
        kind = RangedShard if self.transport.settings.read == SAMPLE else CachedShard
        return kind(self, name, mark)

    def _download(self, url: str, mark: FileMark, file: BinaryIO) -> None:
        """Raises ShardError where what comes is, every time, not what the manifest says."""
        attempts = self.transport.settings.attempts
        for _ in range(attempts):
            target = ComparedFile(file)
            target.restart()
            self.transport.download(url, mark.size, target.write, target.restart)
            if target.digest.hexdigest() == mark.sha256:
                return
        raise ShardError(
            f"{url} is not what its manifest says: sha256 {target.digest.hexdigest()[:12]}…, expected {mark.sha256[:12]}…, "
            f"{attempts} times in a row. It was changed, or the server sends other bytes; nothing of it was taken"
        )


def open_files(folder: Path, tars: str = "", settings: RemoteSettings | None = None) -> SplitFiles:
    """The files of the split whose manifest is in a folder.

    Args:
        tars: where the tars are (a folder or a URL) instead of where `location.json` says, or the folder itself.

    Raises:
        ShardError: a location that is not read.
    """
    location = read_location(folder)
    tars = tars or location.tars or location.files
    if not is_url(tars) and not location.files:
        return LocalFiles(folder, folder / tars)
    if not is_url(tars):
        raise ShardError(f"the tars of {location.files} cannot be in the folder {tars}; copy its other files, too")
    return RemoteFiles(folder, location.files, check_url(tars), settings or RemoteSettings())
