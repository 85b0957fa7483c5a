"""Hashes of files' contents, remembered on disk for as long as a file stays as it was."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

QUIET_NS = 2_000_000_000
"""A file that changed within this time may change again without showing it, so nothing is remembered of it."""
FILE = "digests/files.jsonl"
"""Under the cache's folder."""


class FileFacts:
    """Texts that are computed from a file's content, such as its hash, and remembered by device, inode, size and times.

    Args:
        root: the cache's folder; None remembers nothing beyond this object. One that cannot be written is only read.
    """

    def __init__(self, root: Path | None) -> None:
        self.path = root / FILE if root else None
        self._facts: dict[str, str] = {}

    def get(self, path: Path, subject: str, compute: Callable[[Path], str]) -> str:
        """The fact of this subject, computed unless it is remembered.

        Raises:
            OSError: no such file; and what `compute` raises.
        """
        key = f"{subject} {fingerprint(path)}"
        if self.path and key not in self._facts:
            self._facts |= _read(self.path)
            with suppress(OSError):  # absent, or only to be read
                os.utime(self.path)  # used now, which `medvlp cache` shows
        if key not in self._facts:
            fact = compute(path)
            if key != f"{subject} {fingerprint(path)}" or not is_quiet(path):
                return fact
            self._facts[key] = fact
            if self.path:
                self._remember(key, fact)
        return self._facts[key]

    def _remember(self, key: str, value: str) -> None:
        assert self.path is not None
        line = f"\n{json.dumps([key, value])}\n".encode()  # begins a line, though a torn one may be before it
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(handle, line)  # one write: lines of several processes do not mix
            finally:
                os.close(handle)


def sha256_of(path: Path, facts: FileFacts) -> str:
    """The SHA-256 of a file's bytes."""
    return facts.get(path, "sha256", _sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, str]:
    facts = {}
    with suppress(OSError):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError, TypeError):  # an empty or torn line
                key, value = json.loads(line)
                if isinstance(key, str) and isinstance(value, str):
                    facts[key] = value
    return facts


def fingerprint(path: Path) -> str:
    """Device, inode, size and times of a file: they change where its content does, unless within a tick of the clock."""
    status = path.stat()
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return " ".join(map(str, (status.st_dev, status.st_ino, status.st_size, *times)))


def is_quiet(path: Path) -> bool:
    """Whether a file has been as it is for longer than any tick, so that its fingerprint can be relied on."""
    status = path.stat()
    return time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > QUIET_NS


def content_identity(parts: object) -> str:
    """SHA-256 of what JSON can hold, in one canonical form."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
