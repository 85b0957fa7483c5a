"""A split behind a URL as a folder on this disk: its manifest, and where its other files are."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from medvlp.shards.atomic import refusing, write_whole
from medvlp.shards.errors import ShardError
from medvlp.shards.manifest import MANIFEST
from medvlp.shards.storage.location import Location, read_location, write_location
from medvlp.shards.storage.settings import RemoteSettings
from medvlp.shards.storage.transport import Transport
from medvlp.shards.storage.urls import check_url, is_url, join_url

MAX_MANIFEST = 2**28
"""Bytes; one of 100,000 shards has 40 MB."""
SPLITS = "splits"


def split_folder(path: str | Path, settings: RemoteSettings | None = None) -> Path:
    """The folder of a split's manifest. A URL's manifest is downloaded, once a process, into a folder of the cache that has
    the manifest's hash in its name; whatever is written next to it stays with this version of the split.

    Raises:
        ShardError: an address that is not read, or that holds no split.
    """
    if not is_url(str(path)):
        return Path(path)
    return _downloaded(check_url(str(path)), settings or RemoteSettings())


def has_split(path: str, settings: RemoteSettings | None = None) -> bool:
    """Whether a folder or an address holds anything of a split. Raises ShardError where an address cannot be asked."""
    if not is_url(path):
        return Path(path).exists()
    try:
        split_folder(path, settings)
    except NoSplit:
        return False
    return True


class NoSplit(ShardError):
    """An address without a manifest."""


def short_hash(text: str) -> str:
    """Sixteen digits of a text's sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=256)
def _downloaded(url: str, settings: RemoteSettings) -> Path:
    try:
        data = Transport(settings).read_small(join_url(url, MANIFEST), MAX_MANIFEST)
    except FileNotFoundError:
        raise NoSplit(
            f"{url} has no {MANIFEST}: expected the address of a split that `medvlp prep` or `medvlp index` wrote; for tars of "
            f"others, `medvlp index {url}/... out=<folder>` writes one"
        ) from None
    digest = hashlib.sha256(data).hexdigest()
    # Splits of one preparation are neighbours here, too: folders with one parent.
    folder = settings.folder / SPLITS / short_hash(url.rpartition("/")[0]) / f"{short_hash(url)}-{digest[:16]}"
    location = Location(files=url)
    if not (folder / MANIFEST).exists() or read_location(folder) != location:
        with refusing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_location(folder, location)
        write_whole(folder / MANIFEST, data)
    return folder
