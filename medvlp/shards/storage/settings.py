"""How remote files are read, and how much of the disk they may take."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

CACHE = "MEDVLP_CACHE"
"""Environment variable that names the folder of caches."""
SHARD, SAMPLE = READS = ("shard", "sample")
"""Download a shard whole when one of its samples is first read, or read single samples by ranges."""
GIGABYTE = 10**9
SHARDS = "shards"
"""Folder of remote files in the folder of caches."""


def default_folder() -> Path:
    """`$MEDVLP_CACHE/shards`, else `~/.cache/medvlp/shards`."""
    return Path(os.environ.get(CACHE, "") or "~/.cache/medvlp").expanduser() / SHARDS


@dataclass(frozen=True)
class RemoteSettings:
    """Choices for files behind a URL. They change no sample and no order."""

    folder: Path = field(default_factory=default_folder)
    """Of the cache; processes, ranks and nodes may share it."""
    max_bytes: int = 100 * GIGABYTE
    """Of the cache; what was used longest ago goes first."""
    read: str = SHARD
    attempts: int = 6
    """Tries in a row without a new byte before a file is given up."""
    timeout: float = 60.0
    """Seconds without a byte, or for a connection, after which a try has failed."""
    anonymous: bool = False
    """Read s3 and gs without credentials."""

    @classmethod
    def from_options(cls, cache: str, max_gb: float, **options: Any) -> Self:
        """From the keys of `data.remote`."""
        return cls(Path(cache).expanduser() if cache else default_folder(), int(max_gb * GIGABYTE), **options)
