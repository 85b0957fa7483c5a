"""A folder of results addressed by what they were computed from: each whole or absent, with any number of writers."""

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from medvlp.jsonl import encode_json
from medvlp.shards import ShardError
from medvlp.shards.atomic import sync_folder, write_whole

ENTRIES, TEMPORARY, ENTRY = "entries", "temporary", "entry.json"
IMAGES, TEXTS = "image embeddings", "text embeddings"
"""Kinds of entries."""
FILE_NAME = re.compile(r"[a-z0-9_]+\.[a-z0-9]+")
"""Of a payload."""
ABANDONED = 3600.0
"""Seconds after which a temporary folder that nobody holds is one of a killed writer."""

Write = Callable[[BinaryIO], Any]


@dataclass(frozen=True)
class Entry:
    """One entry on disk: its payload's files, and in clear what they were computed from."""

    path: Path
    parts: dict[str, Any]
    notes: dict[str, Any]
    """What people may want to know of it; no part of the key."""
    files: dict[str, dict[str, Any]] = field(repr=False)
    """Name of a file of the payload → {"size", "sha256"}."""

    @property
    def key(self) -> str:
        """Its address."""
        return self.path.name

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return sum(int(file["size"]) for file in self.files.values())

    @property
    def last_use(self) -> float:
        """Seconds since the epoch; 0 where it has gone meanwhile."""
        try:
            return (self.path / ENTRY).stat().st_mtime
        except OSError:
            return 0.0


def key_of(parts: Mapping[str, Any]) -> str:
    """The address of what was computed from `parts`, JSON values: sha256 of their canonical JSON."""
    return hashlib.sha256(_canonical(parts)).hexdigest()


class StoreFolder:
    """Entries of a store: published whole, verified when read, the least recently used evicted.

    An entry is a folder `entries/<2 digits>/<key>` with its payload and `entry.json`, which holds the parts of the key in
    clear and each file's size and sha256. It is written elsewhere, synced, and renamed: the first writer wins. What is
    torn, truncated or changed counts as absent, and is removed. Where the disk refuses, nothing is stored from then on, and
    this is said once.

    Args:
        root: `open_root`'s.
        max_bytes: size of all entries; beyond, those last used longest ago go. A larger entry is not stored.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.root, self.max_bytes = root, max_bytes
        self.refusal = ""

    def find(self, parts: Mapping[str, Any]) -> Entry | None:
        """The entry computed from these parts, every byte verified, and marked as used now; None where there is none."""
        path = self._path(key_of(parts))
        entry = read_entry(path)
        if entry is None or entry.parts != json.loads(_canonical(parts)) or not is_whole(entry):
            if path.exists():
                self.remove(path)
            return None
        with suppress(OSError):  # a store that may only be read
            os.utime(path / ENTRY)
        return entry

    def publish(self, parts: Mapping[str, Any], files: Mapping[str, Write], notes: Mapping[str, Any]) -> Entry | None:
        """Store what was computed from these parts; the entry, which may be another process's, or None where the disk
        refuses.

        Args:
            files: name → function that writes the file.
        """
        if self.refusal:
            return None
        path = self._path(key_of(parts))
        try:
            with self._temporary() as temporary:
                entry = _write_entry(temporary, parts, files, notes)
                if entry.size > self.max_bytes:
                    self._say(
                        f"{entry.size / 1e9:.3g} GB of {notes} are more than cache.max_gb={self.max_bytes / 1e9:g}"
                    )
                    return None
                path.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileExistsError):
                    try:
                        os.rename(temporary, path)
                    except OSError as error:
                        if not path.exists():
                            raise
                        raise FileExistsError from error  # as folders say it: not empty
                sync_folder(path.parent)
            self.evict()
        except (OSError, ShardError) as error:
            self.refusal = str(error)
            self._say(f"{self.refusal}: the evaluation goes on, and what it computes is not stored")
            return None
        return self.find(parts)

    def entries(self) -> list[Entry]:
        """All entries whose `entry.json` can be read, the least recently used first; their payload is not verified."""
        entries = [entry for path in self._paths() if (entry := read_entry(path)) is not None]
        return sorted(entries, key=lambda entry: (entry.last_use, entry.key))

    def damaged(self) -> list[Path]:
        """Folders of entries whose `entry.json` cannot be read."""
        return [path for path in self._paths() if read_entry(path) is None]

    def evict(self) -> list[Entry]:
        """Remove entries, the least recently used first, until the others fit; returns them. Also what cannot be read, and
        what killed writers left."""
        with self._lock():
            entries = []
            for path in self._paths():
                if entry := read_entry(path):
                    entries.append((entry.last_use, entry.key, entry))
                else:
                    self.remove(path)
            total = sum(entry.size for *_, entry in entries)
            evicted = []
            for *_, entry in sorted(entries, key=lambda row: row[:2]):
                if total <= self.max_bytes:
                    break
                self.remove(entry.path)
                evicted.append(entry)
                total -= entry.size
            self.remove_abandoned()
            return evicted

    def remove(self, path: Path) -> None:
        """Remove an entry; who has it open keeps what they opened."""
        if (
            path.parent.parent != self.root / ENTRIES
            or path.parent.resolve() != self.root.resolve() / ENTRIES / path.name[:2]
        ):
            raise ValueError(f"{path} is no entry of {self.root}")
        with suppress(OSError):
            trash = self._new_temporary()
            os.rename(path, trash / "entry")  # at once: nobody meets half of it
            shutil.rmtree(trash, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self.root / ENTRIES / key[:2] / key

    def _paths(self) -> list[Path]:
        paths = (self.root / ENTRIES).glob("[0-9a-f][0-9a-f]/*")
        return sorted(path for path in paths if not path.parent.is_symlink())

    def _new_temporary(self) -> Path:
        temporary = self.root / TEMPORARY / secrets.token_hex(8)
        temporary.mkdir(parents=True)
        return temporary

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        """A new folder that is held while it is written; what is left of it in the end is removed."""
        temporary = self._new_temporary()
        handle = os.open(temporary, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks: age alone tells what is abandoned
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield temporary
        finally:
            os.close(handle)
            shutil.rmtree(temporary, ignore_errors=True)

    def remove_abandoned(self) -> list[Path]:
        """Remove what killed writers left, an hour after their last write, and what of a removed entry stayed; returns it."""
        abandoned = []
        for path in (self.root / TEMPORARY).glob("*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime < ABANDONED:
                    continue
                handle = os.open(path, os.O_RDONLY)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
                    abandoned.append(path)
                finally:
                    os.close(handle)
        return abandoned

    @contextmanager
    def _lock(self) -> Iterator[None]:
        handle = os.open(self.root / ENTRIES, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks: two who evict at once evict more than they need to
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _say(self, message: str) -> None:
        print(f"note: {self.root}: {message}", file=sys.stderr, flush=True)


def read_entry(path: Path) -> Entry | None:
    """What `entry.json` says; None where it is absent, or not what was written."""
    try:
        content = json.loads((path / ENTRY).read_bytes())
        digest = content.pop("sha256")
        names = all(FILE_NAME.fullmatch(name) for name in content["files"])
        if digest != hashlib.sha256(_canonical(content)).hexdigest() or not names or content["key"] != path.name:
            return None
        return Entry(path, content["parts"], content["notes"], content["files"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def is_whole(entry: Entry) -> bool:
    """Whether every file of the payload is what was written: size and sha256."""
    try:
        for name, mark in entry.files.items():
            path = entry.path / name
            if path.stat().st_size != mark["size"] or _sha256(path) != mark["sha256"]:
                return False
    except OSError:
        return False
    return True


def _write_entry(folder: Path, parts: Mapping[str, Any], files: Mapping[str, Write], notes: Mapping[str, Any]) -> Entry:
    marks = {}
    for name, write in files.items():
        with open(folder / name, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        marks[name] = {"size": (folder / name).stat().st_size, "sha256": _sha256(folder / name)}
    content = {"key": key_of(parts), "parts": dict(parts), "notes": dict(notes), "files": marks}
    content["sha256"] = hashlib.sha256(_canonical(content)).hexdigest()
    write_whole(folder / ENTRY, encode_json(content, indent=1))
    return Entry(folder, dict(parts), dict(notes), marks)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _canonical(parts: Mapping[str, Any]) -> bytes:
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "backslashreplace")  # of file names that are not UTF-8
