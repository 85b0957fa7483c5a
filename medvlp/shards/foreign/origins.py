"""Tars to index: files of a folder, or addresses; their common folder, and their names below it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

from medvlp.shards.atomic import refusing, whole_file
from medvlp.shards.errors import ShardError
from medvlp.shards.manifest import MANIFEST, is_name
from medvlp.shards.storage.settings import RemoteSettings
from medvlp.shards.storage.transport import Transport
from medvlp.shards.storage.urls import check_url, is_url, join_url

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
DOWNLOADING = "downloading-"
"""Begins the names of folders of tars that are there to be indexed."""
MOST_TARS = 10_000_000
"""That one pattern may name."""


@dataclass(frozen=True)
class Origin:
    """One tar. base: folder or address; name: below it; settings: how addresses are read."""

    base: str
    name: str
    settings: RemoteSettings | None = None

    def stamp(self) -> list[int]:
        """Size and time of change of a file, by which it is known again; nothing of an address, whose tars stay as they are."""
        if is_url(self.base):
            return []
        status = os.stat(Path(self.base, self.name))
        return [status.st_size, status.st_mtime_ns]

    @contextmanager
    def on_disk(self, folder: Path) -> Iterator[Path]:
        """The tar as a file; one behind an address is downloaded into a folder in `folder`, for as long as the block lasts.

        Raises:
            ShardError: it is not there, or cannot be read.
        """
        if not is_url(self.base):
            path = Path(self.base, self.name)
            if not path.is_file():
                raise ShardError(f"{path} is no file")
            yield path
            return
        url = join_url(self.base, self.name)
        transport = Transport(self.settings or RemoteSettings())
        with TemporaryDirectory(prefix=DOWNLOADING, dir=folder) as temporary:
            path = Path(temporary, "download")
            try:
                size = transport.size(url)
                with whole_file(path) as file:
                    transport.download(url, size, file.write, lambda: file.seek(0))
            except FileNotFoundError:
                raise ShardError(f"{url} is not there") from None
            yield path


def find_origins(sources: Sequence[str], settings: RemoteSettings) -> list[Origin]:
    """The tars that arguments name, sorted: folders, tars, addresses with ranges (`{00000..00099}`), or a `.txt` of these.

    Raises:
        ShardError: none, one that is not there, or several that have no folder in common.
    """
    tars = list(dict.fromkeys(tar for source in sources for tar in _tars_of(source, settings)))
    if not tars:
        raise ShardError(
            f"{', '.join(sources)}: no .tar is there; expected a folder with webdataset tars, or their addresses"
        )
    schemes = {tar.partition("://")[0] if is_url(tar) else "" for tar in tars}
    if len(schemes) > 1:
        raise ShardError(
            "tars on this disk and behind addresses, or behind several kinds of them, are indexed one by one"
        )
    base = os.path.commonpath([os.path.dirname(_path(tar)) for tar in tars])
    prefix = f"{schemes.pop()}://{base}" if is_url(tars[0]) else base
    if is_url(prefix):
        check_url(prefix)
    is_web = prefix.startswith(("http://", "https://"))
    names = sorted(unquote(name) if is_web else name for name in (os.path.relpath(_path(tar), base) for tar in tars))
    for name in names:
        if not is_name(name) or not name.endswith(".tar"):
            raise ShardError(f"{name!r} is not a name that a shard can have: expected .tar, without control characters")
    return [Origin(prefix, name, settings if is_url(prefix) else None) for name in names]


def _path(tar: str) -> str:
    return tar.partition("://")[2] if is_url(tar) else tar


def _tars_of(source: str, settings: RemoteSettings) -> list[str]:
    if is_url(source):
        url = source.rstrip("/")
        if not url.endswith(".tar"):
            base = check_url(url)
            return [join_url(base, name) for name in Transport(settings).find(base)]
        return [check_url(tar) for tar in expanded(url)]
    path = Path(source).absolute()
    if path.suffix == ".txt" and path.is_file():
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
        return [tar for line in lines if line and not line.startswith("#") for tar in _tars_of(line, settings)]
    if path.is_dir():
        names = (tar.relative_to(path) for tar in sorted(path.rglob("*.tar")) if tar.is_file())
        return [str(path / name) for name in names if not any(part.startswith(".") for part in name.parts)]
    tars = expanded(str(path))
    absent = [tar for tar in tars if not Path(tar).is_file()]
    if absent:
        raise ShardError(f"{absent[0]} is not there; expected a folder, a tar, an address, or a .txt that lists them")
    return tars


def expanded(pattern: str) -> list[str]:
    """Names that `{000..012}` in a pattern stands for, as bash expands it. Raises ShardError for too many."""
    ranges = [(int(first), int(last), len(first)) for first, last in RANGE.findall(pattern)]
    count = 1
    for first, last, _ in ranges:
        count *= max(last - first + 1, 0)
    if not 0 < count <= MOST_TARS:
        raise ShardError(f"{pattern} names {count} tars; expected 1 to {MOST_TARS}")
    numbers = [[f"{number:0{width}d}" for number in range(first, last + 1)] for first, last, width in ranges]
    template = RANGE.sub("\0", pattern)
    names = []
    for values in product(*numbers):
        text = template
        for value in values:
            text = text.replace("\0", value, 1)
        names.append(text)
    return names


def refuse_prepared(folder: Path) -> None:
    """Raises ShardError where a split is there already."""
    if (folder / MANIFEST).exists():
        raise ShardError(
            f"{folder} has a {MANIFEST}: it is a finished split, which `medvlp verify {folder}` checks. To index its tars again, "
            f"in another form, delete that file"
        )


def make_folder(folder: Path) -> None:
    """The folder of the index. Raises ShardError where the disk refuses."""
    with refusing(folder):
        folder.mkdir(parents=True, exist_ok=True)
