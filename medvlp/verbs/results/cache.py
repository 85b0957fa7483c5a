"""`medvlp cache`: what evaluations keep for later ones, and how it is cleared. Nothing outside the folder is touched."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlp.cli import run_verb
from medvlp.config import CacheConfig, CacheVerbConfig, compose, verb_help
from medvlp.errors import UsageError, UserError
from medvlp.eval.store.folder import IMAGES, TEXTS, StoreFolder
from medvlp.eval.store.root import is_store
from medvlp.shards.storage.cache import FILES as DOWNLOADS
from medvlp.shards.storage.settings import SHARDS
from medvlp.terminal import printable

KINDS = {IMAGES: "images", TEXTS: "texts"}
"""Kind of an entry → the value of `kind` that means it."""
FILES = {"responses": "responses/*.jsonl", "answers": "responses/local/*.jsonl", "hashes": "digests/*.jsonl"}
"""Kind of a file that only grows → where it lies in the folder."""
DAY = 86400.0
UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Holding:
    """One thing in the folder. last_use: seconds since the epoch. note: what it is of. parts: what it was computed from."""

    kind: str
    path: Path
    size: int
    last_use: float
    note: str
    parts: dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp cache`; returns the exit code."""
    return run_verb("cache", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    keys = verb_help("cache").split("\n", 2)[2]
    return (
        "usage: medvlp cache [<beginning of a name>] [key=value ...]\n       medvlp cache clear [key=value ...]\n\n"
        "Shows what the folder holds, or clears it. With the beginning of a name: what that was computed from.\n\n"
        + keys
    )


def parse(args: list[str]) -> tuple[CacheVerbConfig, str]:
    """The configuration, and `clear`, the beginning of a name, or "". Raises UsageError, ConfigError."""
    words = [arg for arg in args if "=" not in arg]
    if len(words) > 1 or any(word.startswith("-") for word in words):
        raise UsageError(f"medvlp cache: {' '.join(words)!r} is not `clear`, nor the beginning of one name")
    return compose("cache", [arg for arg in args if "=" in arg]), next(iter(words), "")


def work(parsed: tuple[CacheVerbConfig, str]) -> int:
    """Show what is kept, or clear it.

    Raises:
        StoreError: a folder with other things in it.
        UserError: a name that nothing has.
    """
    config, word = parsed
    root = CacheConfig(config.dir).folder
    if not is_store(root) and not (root / SHARDS).is_dir():
        print(f"{root}: nothing is kept there")
        return 0
    folder = StoreFolder(root, 0)
    holdings = [holding for holding in all_holdings(folder) if is_meant(holding, config)]
    if word == "clear":
        clear(
            folder,
            [holding for holding in holdings if holding.kind != "responses" or config.kind in ("responses", "all")],
        )
        if spared := [holding for holding in holdings if holding.path.exists() and holding.kind == "responses"]:
            print(f"kept: responses of {len(spared)} models; kind=responses clears them")
    elif word:
        show_parts(holdings, word)
    else:
        show(root, holdings)
    return 0


def all_holdings(folder: StoreFolder) -> list[Holding]:
    """Everything in the folder, the least recently used first."""
    holdings = []
    for entry in folder.entries():
        kind = KINDS.get(str(entry.parts.get("kind")), "others")
        note = ", ".join(f"{value} {name}" if name != "data" else str(value) for name, value in entry.notes.items())
        holdings.append(Holding(kind, entry.path, entry.size, entry.last_use, note, entry.parts))
    for path in folder.damaged():
        with suppress(OSError):  # absent by now
            size = sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
            holdings.append(Holding("others", path, size, path.lstat().st_mtime, "damaged, as if it were absent", {}))
    for kind, pattern in FILES.items():
        for path in folder.root.glob(pattern):
            if not path.is_file() or path.is_symlink() or path.parent.is_symlink():
                continue
            with suppress(FileNotFoundError):  # an evaluation has evicted it since
                status = path.stat()
                lines = path.read_bytes().splitlines()
                parts = first_row(lines) if kind != "hashes" else {}
                note = f"{max(len(lines) - bool(parts), 0)} {kind}"
                holdings.append(Holding(kind, path, status.st_size, status.st_mtime, note, parts))
    for path in (folder.root / SHARDS / DOWNLOADS).glob("*/*"):
        with suppress(FileNotFoundError):  # a run has removed it since
            status = path.stat()
            note = f"{path.suffix} file of a split behind an address"
            holdings.append(Holding("shards", path, status.st_size, status.st_mtime, note, {}))
    return sorted(holdings, key=lambda holding: holding.last_use)


def first_row(lines: Sequence[bytes]) -> dict[str, Any]:
    """What the first line says of all others; empty where it says nothing."""
    with suppress(ValueError, RecursionError, IndexError):
        row = json.loads(lines[0])
        parts = row.get("parts", row) if isinstance(row, dict) else {}
        return parts if isinstance(parts, dict) else {}
    return {}


def is_meant(holding: Holding, config: CacheVerbConfig) -> bool:
    """Whether the configuration asks for it."""
    return config.kind in ("", "all", holding.kind) and time.time() - holding.last_use >= config.older_than * DAY


def clear(folder: StoreFolder, holdings: Sequence[Holding]) -> None:
    """Take it away; evaluations that read it at this moment keep what they opened."""
    for holding in holdings:
        if holding.kind in (*FILES, "shards"):
            holding.path.unlink(missing_ok=True)
            holding.path.with_suffix(".lock").unlink(missing_ok=True)
        else:
            folder.remove(holding.path)
    if abandoned := folder.remove_abandoned():
        print(f"removed: {len(abandoned)} entries that killed processes began to write")
    absent = [holding for holding in holdings if not holding.path.exists()]
    print(f"{folder.root}: {len(absent)} of {len(holdings)} cleared, {in_units(sum(item.size for item in absent))}")


def show(root: Path, holdings: Sequence[Holding]) -> None:
    """A line each: last use, size, kind, name, what it is of."""
    for holding in holdings:
        date = time.strftime("%Y-%m-%d %H:%M", time.localtime(holding.last_use))
        name = holding.path.name[:12]
        print(printable(f"{date}  {in_units(holding.size):>8}  {holding.kind:<9}  {name:<12}  {holding.note}"))
        if summary := ", ".join(f"{key} {str(value)[:16]}" for key, value in holding.parts.items() if key in SUMMARY):
            print(printable(f"{'':<18}{'':>8}  {summary}"))
    print(f"{root}: {len(holdings)} kept, {in_units(sum(holding.size for holding in holdings))}")


SUMMARY = ("encoder", "server", "model", "content", "identity", "data", "texts", "execution")
"""Parts of a key that the list shows the beginning of; `medvlp cache <name>` shows all of all parts."""


def show_parts(holdings: Sequence[Holding], word: str) -> None:
    """What was computed from what, of those whose name begins with `word`. Raises UserError."""
    matches = [holding for holding in holdings if holding.path.name.startswith(word)]
    if not matches:
        raise UserError(f"nothing that is kept has a name that begins with {word!r}")
    for holding in matches:
        print(printable(str(holding.path)))
        print(json.dumps(holding.parts, indent=1, ensure_ascii=True))


def in_units(size: float) -> str:
    """Bytes for people: 8.2 MB."""
    unit = 0
    while size >= 1000 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {UNITS[unit]}" if unit == 0 else f"{size:.1f} {UNITS[unit]}"
