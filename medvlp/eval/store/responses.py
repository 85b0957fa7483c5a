"""Responses that are kept: a file for a model that only grows, a row a question, so that no answer is asked for twice.

A row is synced to the disk before its answer is used, and carries a checksum: what was torn or altered is as if it had never
been written. Several processes may read and add at a time.
"""

import errno
import fcntl
import hashlib
import json
import os
import struct
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medvlp.jsonl import Appender, Row, encode_json
from medvlp.shards import ShardError, Turn
from medvlp.shards.atomic import refusing, sync_folder

FOLDER, LOCAL = "responses", "responses/local"
"""Within the folder of the store: answers that were asked of a server, which stay, and those of models that run here, which can
be computed again."""
BLANK = "blank"
"""Stands for the sha256 of an image that shows nothing."""


def question_key(turns: Sequence[Turn], images: Sequence[str], request: Mapping[str, Any]) -> str:
    """What decides the response of one model, as a hash.

    images: sha256 of each image that is shown, or BLANK. request: `max_new_tokens` of an answer, or `answers` whose
    likelihoods are asked for.
    """
    parts = {"turns": [[turn.role, turn.text] for turn in turns], "images": list(images), **request}
    return digest_of(parts)


def digest_of(parts: Any) -> str:
    """sha256 of JSON values in their canonical form."""
    return hashlib.sha256(encode_json(parts, sort=True)).hexdigest()


class ResponseLog:
    """The responses of one model that are kept, by `question_key`. Threads and processes may share the file.

    Where the disk refuses the answers of a model that runs here, this is said once, and they stay in memory. Those of servers
    are not asked for then, because they may cost money again.

    Args:
        root: folder of the store; None keeps them in memory alone.
        parts: all that decides an answer next to the question: the model's identity, how it is run, how images are read.
            They stand in the first row, and their hash is the file's name.
        folder: FOLDER or LOCAL.
    """

    def __init__(self, root: Path | None, parts: Mapping[str, Any], folder: str = FOLDER) -> None:
        self.parts = dict(parts)
        self.path = root / folder / f"{digest_of(self.parts)}.jsonl" if root else None
        self._may_be_lost = folder == LOCAL
        self._rows: dict[str, Row] = {}
        self._end, self._inode = 0, 0
        self._lock = threading.Lock()
        self.refresh()
        self.touch()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: str) -> Row | None:
        """The response to a question, None where none is kept."""
        return self._rows.get(key)

    @property
    def first_day(self) -> str:
        """The day of the first response (UTC, 2026-11-29); empty where none is on the disk, or the file does not say it."""
        with suppress(OSError, ValueError, RecursionError, AttributeError):
            if self.path is not None:
                with open(self.path, "rb") as file:
                    return str(json.loads(file.readline()).get("first_day", ""))
        return ""

    def touch(self) -> None:
        """Count as used now, where `evict` looks for what was used longest ago."""
        with suppress(OSError):
            if self.path is not None:
                os.utime(self.path)

    def rows(self) -> list[Row]:
        """All responses."""
        return list(self._rows.values())

    def refresh(self) -> None:
        """Read what others have added. A line without its end, or that is not what was written, is skipped.

        Raises:
            ShardError: the file of a server's answers cannot be read.
        """
        if self.path is None:
            return
        try:
            with self._lock, open(self.path, "rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._end:  # cleared, and begun again
                    self._inode, self._end = status.st_ino, 0
                file.seek(self._end)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._end += len(line)
                    self._rows.update(_parsed(line))
        except FileNotFoundError:
            return
        except OSError as error:
            reason = ShardError(f"{self.path} cannot be read ({error}); remove it, or give another cache.dir")
            self._refused(reason)

    def add(self, responses: Mapping[str, Row]) -> None:
        """Keep responses; they are on the disk when this returns.

        Raises:
            ShardError: the disk refuses a server's answers.
        """
        with self._lock:
            new = {key: response for key, response in responses.items() if key not in self._rows}
            if self.path is not None and new:
                try:
                    self._write(self.path, new)
                except ShardError as error:
                    self._refused(error)
            self._rows.update(new)

    def _write(self, path: Path, new: Mapping[str, Row]) -> None:
        rows = [{"key": key, "response": response, "sum": _sum(key, response)} for key, response in new.items()]
        with refusing(path, "its earlier lines are whole"), _locked(path) as file:
            if not os.fstat(file).st_size:
                rows.insert(0, {"parts": self.parts, "first_day": datetime.now(UTC).date().isoformat()})
            Appender(path).append(*rows)
            os.fsync(file)

    def _refused(self, error: ShardError) -> None:
        """Go on without the file. Raises the error itself where answers must not be lost."""
        if not self._may_be_lost:
            raise error from None
        self.path = None
        print(
            f"note: {error}: the evaluation goes on, and this model's answers are not kept", file=sys.stderr, flush=True
        )


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """A file's descriptor, locked against other writers, while the file is still the one of this name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_current = False
    while not is_current:
        is_new = not path.exists()
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # the system lets go when the process ends
            with suppress(FileNotFoundError):  # removed in the meantime
                is_current = os.stat(path).st_ino == os.fstat(file).st_ino
            if is_current:
                yield file
                if is_new:
                    sync_folder(path.parent)
        finally:
            os.close(file)


def evict(root: Path, max_bytes: int) -> list[Path]:
    """Remove responses of models that run here, the files used longest ago first, down to a size.

    A file that is being added to stays. Returns what was removed.
    """
    files = []
    for path in (root / LOCAL).glob("*.jsonl"):
        with suppress(OSError):  # gone in the meantime
            status = path.stat()
            files.append((status.st_mtime, status.st_size, path))
    excess, removable = sum(size for _, size, _ in files) - max_bytes, []
    for _, size, path in sorted(files):
        if excess <= 0:
            break
        excess -= size
        with suppress(OSError), open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            removable.append(path)
    return removable


class KeyLocks:
    """Locks of single keys among processes, so that two that miss the same answer do not both ask for it.

    A key is a byte of a file that has none (Linux's locks of open file descriptions); the system lets go of it when its holder
    ends. Where a file system has no such locks, or takes no files, every process takes itself for the holder.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = -1
        if path is not None and hasattr(fcntl, "F_OFD_SETLK"):
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def take(self, key: str) -> bool:
        """Whether nobody else held the key; it is this object's until `release`."""
        try:
            self._set(key, fcntl.F_WRLCK)
        except BlockingIOError:
            return False
        except OSError as error:
            return error.errno != errno.EACCES
        return True

    def release(self, key: str) -> None:
        """Let others take the key."""
        with suppress(OSError):
            self._set(key, fcntl.F_UNLCK)

    def _set(self, key: str, kind: int) -> None:
        if self._file >= 0:
            position = int(key[:15], 16)  # a file's positions have 63 bits
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, struct.pack("hhqqi", kind, os.SEEK_SET, position, 1, 0))

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


def _sum(key: str, response: Row) -> str:
    return hashlib.sha256(key.encode() + encode_json(response, sort=True)).hexdigest()[:16]


def _parsed(line: bytes) -> dict[str, Row]:
    """Key → response of a row; empty for the first row, and for one that is not what was written."""
    try:
        row = json.loads(line)
        key, response = row["key"], row["response"]
        return {key: response} if row["sum"] == _sum(key, response) else {}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return {}
