"""Article packages: the files of one article, in a folder or in a tar, compressed or not. Nothing is unpacked to disk.

A tar is read as a stream with caps on members, on their sizes, and on what comes out of the compression. Links, devices
and names that lead out of the folder are refused by name; the rest of the archive is read.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from data_prep.errors import BadRow, NotAFile
from data_prep.readers.clutter import is_clutter
from data_prep.readers.guarded import regular_only, resolve_below
from data_prep.readers.image_files import MAX_IMAGE_BYTES

MAX_MEMBERS = 20_000
MAX_UNPACKED = 8 * 2**30
"""Bytes that may come out of an archive. Articles with videos have about 1 GB."""

MAX_RATIO = 200
FREE_BYTES = 64 * 2**20
"""Up to here the ratio of unpacked to packed does not matter: XML with long tables compresses well."""

MAX_EXTENDED_HEADER = 2**20
MAX_EMPTY_READS = 100
"""At the end of the file: tarfile goes on asking for as much as a header claims."""

CACHE_BYTES = 64 * 2**20
"""Of an archive's text and images, kept in memory from the first pass; what is beyond is read in another pass."""

CACHED_ENDINGS = (".nxml", ".xml", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".gif", ".bmp")
"""Extensions, in any case, of the files that an article's reader may ask for."""


class Package(Protocol):
    """An article's files by name, relative to the article's own folder."""

    sizes: dict[str, int]
    """Name → bytes of every regular file, in any order."""
    refusals: dict[str, str]
    """Name → why: what is neither a file nor a folder, or would lie elsewhere."""
    clutter: int
    """Files that a system left behind, which are in neither."""

    def read(self, name: str) -> bytes:
        """The content of one of the names. Raises BadRow."""


class Folder:
    """Files of a folder; folders in it are not looked into."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: dict[str, int] = {}
        self.refusals: dict[str, str] = {}
        self.clutter = 0
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except FileNotFoundError:
            raise BadRow("missing_archive", f"{path.name}/ is gone since the preparation was planned") from None
        for entry in entries:
            if is_clutter(entry.name):
                self.clutter += 1
            elif entry.is_symlink():
                self.refusals[entry.name] = "a link"
            elif entry.is_file(follow_symlinks=False):
                self.sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
            elif not entry.is_dir(follow_symlinks=False):
                self.refusals[entry.name] = "a device or a pipe"

    def read(self, name: str) -> bytes:
        """The content of a file. Raises BadRow: bad_path, missing_image, image_too_large."""
        if name in self.refusals:
            raise BadRow("bad_path", f"{name} is {self.refusals[name]}")
        path = resolve_below(self.path, name)
        if self.sizes.get(name, 0) > MAX_IMAGE_BYTES:
            raise BadRow("image_too_large", f"{name} has {self.sizes[name]} bytes, at most {MAX_IMAGE_BYTES} are read")
        try:
            with open(path, "rb", opener=regular_only) as file:
                return file.read()
        except NotAFile:
            raise BadRow("bad_path", f"{name} is not a regular file") from None
        except FileNotFoundError:
            raise BadRow("missing_image", f"{name} is not in {self.path.name}/") from None


class Archive:
    """Members of a tar. Raises BadRow: bad_path, bad_archive, zip_bomb, archive_too_large, too_many_members,

    missing_archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: dict[str, int] = {}
        self.refusals: dict[str, str] = {}
        self.clutter = 0
        self._cache: dict[str, bytes] = {}
        cached_bytes = 0
        for name, member, content in self._members():
            refusal = _refusal(name, member)
            if is_clutter(name):
                self.clutter += not member.isdir()
            elif refusal:
                self.refusals[name] = refusal
            elif member.isfile() and _relative(name) not in self.sizes:  # of two of one name the first counts
                short = _relative(name)
                self.sizes[short] = member.size
                if short.lower().endswith(CACHED_ENDINGS) and cached_bytes + member.size <= CACHE_BYTES:
                    self._cache[short] = content()
                    cached_bytes += member.size

    def read(self, name: str) -> bytes:
        """The content of a member. Raises BadRow: missing_image, image_too_large, and as the class does."""
        if name in self._cache:
            return self._cache[name]
        if self.sizes.get(name, 0) > MAX_IMAGE_BYTES:
            raise BadRow("image_too_large", f"{name} has {self.sizes[name]} bytes, at most {MAX_IMAGE_BYTES} are read")
        for full, member, content in self._members():
            if member.isfile() and not _refusal(full, member) and _relative(full) == name:
                return content()
        raise BadRow("missing_image", f"{name} is not in {self.path.name}")

    def _members(self) -> Iterator[tuple[str, tarfile.TarInfo, Callable[[], bytes]]]:
        """(name, header, function that reads the content, to be called before the next) of each member."""
        with (
            _damage_as_bad_row(self.path),
            open(self.path, "rb", opener=regular_only) as file,
            tarfile.open(fileobj=_unpacked(file), mode="r|", bufsize=2**17, tarinfo=_Header) as archive,
        ):
            for number, member in enumerate(iter(archive.next, None)):
                archive.members.clear()  # type: ignore[attr-defined]  # it keeps every header otherwise
                if number >= MAX_MEMBERS:
                    raise BadRow("too_many_members", f"{self.path.name} has more than {MAX_MEMBERS} members")
                yield member.name, member, partial(_content, self.path, archive, member)


def _content(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    with _damage_as_bad_row(path):
        file = archive.extractfile(member)
        data = b"" if file is None else file.read()
        if len(data) != member.size:
            raise tarfile.ReadError("it ends within a member")
        return data


class _Header(tarfile.TarInfo):
    """A member's header; extended ones, which are read whole, must be small."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        kinds = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, b"L", b"K")
        if header.type in kinds and header.size > MAX_EXTENDED_HEADER:
            raise BadRow("bad_archive", f"an extended header claims {header.size} bytes")
        if header.size > MAX_UNPACKED:
            raise BadRow(
                "archive_too_large", f"a member claims {header.size} bytes, at most {MAX_UNPACKED} are unpacked"
            )
        return header


class _Counted:
    """A stream that refuses to give more than an archive may hold."""

    def __init__(self, file: Any, packed: int) -> None:
        self._file, self._packed, self._unpacked, self._empty = file, packed, 0, 0

    def read(self, size: int) -> bytes:
        data: bytes = self._file.read(size)
        self._unpacked += len(data)
        self._empty += not data
        if self._empty > MAX_EMPTY_READS:
            raise EOFError("a member claims more than the archive has")
        if self._unpacked > max(FREE_BYTES, MAX_RATIO * self._packed):
            raise BadRow("zip_bomb", f"{self._packed} bytes unpack to more than {MAX_RATIO} times as many")
        if self._unpacked > MAX_UNPACKED:
            raise BadRow("archive_too_large", f"it unpacks to more than {MAX_UNPACKED} bytes")
        return data


def _unpacked(file: IO[bytes]) -> Any:
    packed = os.fstat(file.fileno()).st_size
    is_gzip = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return _Counted(gzip.GzipFile(fileobj=file) if is_gzip else file, packed)


@contextmanager
def _damage_as_bad_row(path: Path) -> Iterator[None]:
    try:
        yield
    except NotAFile:
        raise BadRow("bad_path", f"{path.name} is not a regular file") from None
    except FileNotFoundError:
        raise BadRow("missing_archive", f"{path.name} is gone since the preparation was planned") from None
    except (gzip.BadGzipFile, tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise BadRow("bad_archive", f"{path.name} is damaged ({type(error).__name__}: {error})"[:300]) from None


def _refusal(name: str, member: tarfile.TarInfo) -> str:
    """Why a member is not read; empty for files and folders that lie where they should."""
    if member.islnk() or member.issym():
        return "a link"
    if member.issparse() or not (member.isfile() or member.isdir()):
        return "a device, a pipe, or a sparse file"
    if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
        return "a path that leads out of the archive's folder"
    return ""


def _relative(name: str) -> str:
    """The name within the article's folder, which is the archive's one folder: PMC1/f1.jpg → f1.jpg."""
    parts = [part for part in PurePosixPath(name).parts if part != "."]
    return "/".join(parts[1:] or parts)
