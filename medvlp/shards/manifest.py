"""`manifest.json`: what a split consists of. It is written last, so a folder that has one is finished."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medvlp.shards.atomic import write_whole
from medvlp.shards.errors import ShardError
from medvlp.shards.writer import FileMark

CONTRACT = 1
MANIFEST = "manifest.json"
SAMPLES = "samples.parquet"

# Beside the splits, and inside one, while a preparation is under way.
PLAN = ".plan.json"
"""What is being prepared; written first."""
LEDGER = "ledger.json"
"""in = out + Σ drops; written last, so that a folder with a plan and no ledger is unfinished."""
PARTS = ".parts"
"""Folder, beside the splits, of the shards of units before they get their final numbers."""


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
        content = json.loads(data)
        if content["contract"] != CONTRACT:
            raise ShardError(
                f"{path} follows contract {content['contract']}, this medvlp reads {CONTRACT}; "
                "prepare the data again, or use the medvlp that wrote them"
            )
        content["files"] = {name: FileMark(**mark) for name, mark in content["files"].items()}
        manifest = Manifest(**content)
        if manifest.samples != sum(manifest.shards.values()):
            raise ValueError(f"samples is {manifest.samples}, but its shards hold {sum(manifest.shards.values())}")
        if manifest.stages_hash != hash_config(manifest.stages):
            raise ValueError(f"stages_hash {manifest.stages_hash!r} is not the hash of its stages")
        for name in (*manifest.files, *manifest.shards):
            if Path(name).name != name:
                raise ValueError(f"{name!r} is not the name of a file in the folder")
        for tar in manifest.shards:
            for name in (tar, str(Path(tar).with_suffix(".idx"))):
                if name not in manifest.files:
                    raise ValueError(f"files does not list {name}")
    except ShardError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardError(f"{path} is not a manifest ({error}); restore it, or prepare the split again") from None
    return manifest, hashlib.sha256(data).hexdigest()


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
