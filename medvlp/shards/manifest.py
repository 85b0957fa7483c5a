"""`manifest.json`: what a split consists of. It is written last, so a folder that has one is finished."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medvlp.shards.atomic import write_whole
from medvlp.shards.errors import ShardError
from medvlp.shards.schema import strict_json
from medvlp.shards.writer import FileMark

CONTRACT = 1
MANIFEST = "manifest.json"
SAMPLES = "samples.parquet"

# Next to the splits, and inside one, while a preparation is under way.
PLAN = ".plan.json"
"""What is being prepared; written first."""
LEDGER = "ledger.json"
"""in = out + Σ drops; written last, so that a folder with a plan and no ledger is unfinished."""
LEAKAGE = "leakage.jsonl"
"""A row for each held-out sample of which an image is in train: {"split", "key", "match": "bytes" or "picture", "train_key"}."""
INDEX = "index"
"""Field of the first stage, of tars that others wrote."""
_SEGMENT = re.compile(r"[^/\\\x00-\x1f\x7f]+")
MAX_NAME = 1000
"""Characters of a file's name below a split."""
PARTS = ".parts"
"""Folder, next to the splits, of the shards of units before they get their final numbers."""


@dataclass
class Manifest:
    """Everything that determines the split's bytes, and nothing else: no engine, no workers, no time."""

    split: str
    files: dict[str, FileMark]
    shards: dict[str, int]
    """Tar → number of samples, in the order of the samples."""
    samples: int
    stages: list[dict[str, Any]]
    """What the samples went through: the source, then each stage with its parameters."""
    stages_hash: str
    tools: dict[str, str]
    """Versions of the packages that can change bytes."""
    contract: int = CONTRACT


def hash_config(stages: list[dict[str, Any]]) -> str:
    """sha256 of the stage configuration in canonical JSON."""
    return hashlib.sha256(json.dumps(stages, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()


def form_in(stages: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What stages say of tars that others wrote: how their members become samples. None of our own."""
    content = stages[0].get(INDEX) if stages else None
    return content if isinstance(content, dict) else None


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Declare the split in `folder` finished. Returns the sha256 of the manifest's bytes."""
    content = asdict(manifest)
    content = {"contract": content.pop("contract"), **content}
    data = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
    write_whole(folder / MANIFEST, data)
    return hashlib.sha256(data).hexdigest()


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """The split's manifest and the sha256 of its bytes. Raises ShardError if the folder is missing or unfinished."""
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except NotADirectoryError:
        raise ShardError(f"{folder} is a file; expected the folder of a split, such as data/rocov2/train") from None
    except FileNotFoundError:
        raise ShardError(_why_missing(folder)) from None
    try:
        content = strict_json(data)
        if content["contract"] != CONTRACT:
            raise ShardError(
                f"{path} follows contract {content['contract']!r}, this medvlp reads {CONTRACT}; "
                "prepare the data again, or use the medvlp that wrote them"
            )
        content["files"] = {name: FileMark(**mark) for name, mark in content["files"].items()}
        manifest = Manifest(**content)
        _check(manifest)
    except ShardError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ShardError(f"{path} is not a manifest ({error}); restore it, or prepare the split again") from None
    return manifest, hashlib.sha256(data).hexdigest()


def _check(manifest: Manifest) -> None:
    """The rules that `write_manifest`'s callers keep. Raises ValueError."""
    if not isinstance(manifest.split, str) or not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", manifest.split):
        raise ValueError(f"split {manifest.split!r} is not a folder's name of letters, digits, - and _")
    numbers = {"samples": manifest.samples, **manifest.shards}
    for name, count in numbers.items():
        if type(count) is not int or count < (name != "samples"):
            raise ValueError(f"{name} should be a number of samples, it is {count!r}")
    if manifest.samples != sum(manifest.shards.values()):
        raise ValueError(f"samples is {manifest.samples}, but its shards hold {sum(manifest.shards.values())}")
    if not isinstance(manifest.stages, list) or not all(isinstance(stage, dict) for stage in manifest.stages):
        raise ValueError("stages should be a list of objects")
    if not isinstance(manifest.tools, dict) or not all(isinstance(v, str) for v in manifest.tools.values()):
        raise ValueError("tools should be versions by name")
    if manifest.stages_hash != hash_config(manifest.stages):
        raise ValueError(f"stages_hash {manifest.stages_hash!r} is not the hash of its stages")
    is_foreign = form_in(manifest.stages) is not None
    for name in (*manifest.files, *manifest.shards):
        if Path(name).name != name and not (is_foreign and is_name(name)):
            raise ValueError(f"{name!r} is not the name of a file in the folder")
    for tar in manifest.shards:
        if not re.fullmatch(r".+\.tar" if is_foreign else r"[0-9]{6,}\.tar", tar):
            raise ValueError(f"{tar!r} is not a shard's name; they are 000000.tar, 000001.tar and so on")
        for name in (tar, str(Path(tar).with_suffix(".idx"))):
            if name not in manifest.files:
                raise ValueError(f"files does not list {name}")
    for name, mark in manifest.files.items():
        if type(mark.size) is not int or mark.size < 0 or not re.fullmatch(r"[0-9a-f]{64}", str(mark.sha256)):
            raise ValueError(f"files.{name} should have a sha256 of 64 hexadecimal digits and a size in bytes")


def is_segment(name: str) -> bool:
    """Whether a name stays in its folder: no slash, not `.` or `..`, no control characters."""
    return bool(_SEGMENT.fullmatch(name)) and name not in (".", "..")


def is_name(name: str) -> bool:
    """Whether the name of a file below a split stays below it: `part/000.tar`."""
    return len(name) <= MAX_NAME and all(is_segment(segment) for segment in name.split("/"))


def find_splits(folder: Path) -> list[Path]:
    """Folders directly below that are splits, finished or begun: they hold a manifest or tars."""
    return sorted(
        child
        for child in folder.iterdir()
        if child.is_dir() and child.name != PARTS and ((child / MANIFEST).exists() or next(child.glob("*.tar"), None))
    )


def _why_missing(folder: Path) -> str:
    if not folder.exists():
        return f"{folder} does not exist; `medvlp prep source=<name> input=<dir> output=<dir>` makes such folders"
    splits = [child.name for child in find_splits(folder) if (child / MANIFEST).exists()]
    if splits:
        return f"{folder} holds the splits {', '.join(splits)}; choose one of them, such as {folder / splits[0]}"
    return (
        f"{folder} has no {MANIFEST}: its preparation is unfinished, or it never was a split; "
        "run the same `medvlp prep` again, it goes on where it stopped"
    )
