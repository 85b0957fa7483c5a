"""SHA256SUMS above the splits: what is there next to them, as `sha256sum -c` and `medvlp verify` check it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from medvlp.shards.atomic import write_text
from medvlp.shards.manifest import MANIFEST
from medvlp.shards.writer import mark_file

SUMS = "SHA256SUMS"
OF_THE_RUN = ("run.json", "report.html")
"""Files that tell of a run and not of the data: times and engines differ, and a report can be made again."""
LINE = re.compile(r"([0-9a-f]{64})  ([^/\\\x00-\x1f]+(?:/manifest\.json)?)")


def write_sums(folder: Path) -> None:
    """Sign the files above the splits, and the splits' manifests, as they are now."""
    signed_files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    names = [path.name for path in signed_files if path.name not in (SUMS, *OF_THE_RUN)]
    names += [f"{path.parent.name}/{MANIFEST}" for path in folder.glob(f"*/{MANIFEST}")]
    write_text(folder / SUMS, "".join(f"{mark_file(folder / name).sha256}  {name}\n" for name in sorted(names)))


def unlike_sums(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(file, problem, detail) of what is not as it was signed; nothing of a folder that was never signed."""
    path = folder / SUMS
    if not path.is_file():
        return
    remedy = f"if the change is wanted, delete {SUMS} and run the same `medvlp prep` again, which signs what is there"
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
        match = LINE.fullmatch(line)
        if match is None:
            yield SUMS, "broken_sums", f"line {number} is not a checksum, two blanks and a file's name"
            continue
        expected, name = match.groups()
        if not (folder / name).is_file():
            yield name, "missing_file", f"named in {SUMS}, but not there; {remedy}"
        elif (sha256 := mark_file(folder / name).sha256) != expected:
            yield name, "changed_file", f"sha256 {sha256[:12]}…, {SUMS} says {expected[:12]}…; {remedy}"
