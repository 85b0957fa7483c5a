"""`location.json`: where the files of a split are, if not next to its manifest. No part of the manifest: they may move."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from medvlp.shards.atomic import write_text
from medvlp.shards.errors import ShardError
from medvlp.shards.schema import strict_json
from medvlp.shards.storage.urls import check_url, is_url

LOCATION = "location.json"


@dataclass(frozen=True)
class Location:
    """Addresses of a split's files; empty: the folder of the manifest."""

    tars: str = ""
    """Folder or URL of the tars."""
    files: str = ""
    """URL of all other files, and of the tars if those have none."""


def write_location(folder: Path, location: Location) -> None:
    """Say where the files are."""
    content = {name: value for name, value in asdict(location).items() if value}
    write_text(folder / LOCATION, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_location(folder: Path) -> Location:
    """Where the files of a split are. Raises ShardError where that is not said in a form that is read."""
    path = folder / LOCATION
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return Location()
    try:
        content = strict_json(data)
        location = Location(**content)
        if not all(isinstance(value, str) for value in content.values()):
            raise ValueError("its values should be texts")
    except (ValueError, TypeError, RecursionError) as error:
        raise ShardError(f"{path}: expected {{'tars': <folder or URL>}}: {error}") from None
    for address in (location.tars, location.files):
        if is_url(address):
            check_url(address)
    return location
