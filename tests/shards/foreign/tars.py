"""Tars as other programs write them."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.datasets import jpeg

IMAGE = jpeg(1)


def write_tar(path: Path, members: list[tuple[str, bytes]], **options: Any) -> Path:
    """A tar with owners and times, in the members' order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size, header.mtime, header.uid, header.uname = len(data), 1_700_000_000, 1000, "someone"
            tar.addfile(header, io.BytesIO(data))
    return path


def figure(key: str, number: int, **fields: Any) -> list[tuple[str, bytes]]:
    """An image, its caption and its JSON."""
    content: Mapping[str, Any] = {"caption": f"in JSON {number}", "license": "CC-BY", "pmid": number, **fields}
    return [
        (f"{key}.jpg", jpeg(number)),
        (f"{key}.json", json.dumps(content).encode()),
        (f"{key}.txt", f"caption {number}".encode()),
    ]


def write_figures(folder: Path, tars: int = 3, per_tar: int = 4) -> Path:
    """Tars of figures whose names hold dots, as BIOMEDICA's, next to what img2dataset leaves."""
    for tar in range(tars):
        numbers = range(tar * per_tar, (tar + 1) * per_tar)
        members = [member for n in numbers for member in figure(f"{n:03d}_PMC{n}.fig.{n}", n)]
        write_tar(folder / f"{tar:05d}.tar", members)
        (folder / f"{tar:05d}.parquet").write_bytes(b"")
        (folder / f"{tar:05d}_stats.json").write_text("{}")
    return folder
