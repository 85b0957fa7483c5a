"""Verifying: is a folder what its manifest says, and if not, what exactly is wrong with which file and which sample."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlp.shards.atomic import PARTIAL
from medvlp.shards.audit import audit_shard
from medvlp.shards.errors import ShardError
from medvlp.shards.manifest import MANIFEST, SAMPLES, Manifest, find_splits, read_manifest
from medvlp.shards.writer import mark_file

LEDGER = "ledger.json"


@dataclass
class Finding:
    """One thing that is wrong: the file, relative to the folder that was verified, a short word, and details."""

    file: str
    problem: str
    detail: str


def verify(folder: str | Path) -> list[Finding]:
    """Everything wrong with a split, or with a folder of splits and its ledger; an empty list if all is well.

    Reads every byte. Each fault is reported once, where it is: a flipped byte as the member that fails its CRC-32,
    not also as the checksum of the file that it is in. Raises ShardError if there is nothing to verify.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ShardError(f"{folder} is not a folder; expected a split, or a folder of splits, that `medvlp prep` made")
    if (folder / MANIFEST).exists():
        return list(_split(folder, "", {}))
    splits = find_splits(folder)
    if not splits or next(folder.glob("*.tar"), None):
        read_manifest(folder)  # raises, and says what the folder lacks
    findings: list[Finding] = []
    counts: dict[str, int] = {}
    seen: dict[str, str] = {}
    for split in splits:
        if not (split / MANIFEST).exists():
            detail = "there is no manifest: the preparation is unfinished; run the same `medvlp prep` again"
            findings.append(Finding(f"{split.name}/{MANIFEST}", "unfinished", detail))
            continue
        findings += _split(split, f"{split.name}/", seen)
        with suppress(ShardError):  # _split has reported it
            counts[split.name] = read_manifest(split)[0].samples
    if (folder / LEDGER).exists() and len(counts) == len(splits):
        findings += [Finding(LEDGER, "ledger", detail) for detail in _ledger(folder / LEDGER, counts)]
    return findings


def _split(folder: Path, prefix: str, seen: dict[str, str]) -> Iterator[Finding]:
    """Faults of one split; `seen` maps the keys met so far to where, over all splits."""
    try:
        manifest, _ = read_manifest(folder)
    except ShardError as error:
        yield Finding(prefix + MANIFEST, "broken_manifest", str(error))
        return
    changed: dict[str, str] = {}
    missing: set[str] = set()
    for name, mark in manifest.files.items():
        if not (folder / name).is_file():
            missing.add(name)
            yield Finding(prefix + name, "missing_file", "named in the manifest, but not there")
            continue
        found = mark_file(folder / name)
        if found.size != mark.size:
            changed[name] = f"{found.size} bytes, the manifest says {mark.size}"
        elif found.sha256 != mark.sha256:
            changed[name] = f"sha256 {found.sha256[:12]}…, the manifest says {mark.sha256[:12]}…"
    yield from _extra_files(folder, manifest, prefix)

    rows: list[dict[str, Any]] | None = None
    if SAMPLES not in missing:
        try:
            rows = _read_rows(folder / SAMPLES)
        except ShardError as error:
            yield Finding(prefix + SAMPLES, "broken_table", str(error))
            changed.pop(SAMPLES, None)
    explained: set[str] = set()
    if rows is not None:
        for detail in _table_faults(rows, manifest):
            explained.add(SAMPLES)
            yield Finding(prefix + SAMPLES, "wrong_table", detail)
        for row in rows:
            where = f"{prefix}{row['shard']}"
            if row["key"] in seen:
                yield Finding(where, "duplicate_key", f"{row['key']} is also in {seen[row['key']]}")
            seen.setdefault(row["key"], where)
    by_shard: dict[str, list[dict[str, Any]]] = {}
    for row in rows or []:
        by_shard.setdefault(row["shard"], []).append(row)
    for tar, samples in manifest.shards.items():
        index = str(Path(tar).with_suffix(".idx"))
        if missing & {tar, index}:
            continue
        for name, problem, detail in audit_shard(
            folder, tar, samples, by_shard.get(tar), tar in changed, index in changed
        ):
            explained.add(name)
            yield Finding(prefix + name, problem, detail)
    for name, difference in changed.items():
        if name not in explained:
            detail = f"{difference}; no sample's data is touched" if name in manifest.shards else difference
            yield Finding(prefix + name, "changed_file", detail)


def _extra_files(folder: Path, manifest: Manifest, prefix: str) -> Iterator[Finding]:
    """Files that a reader could take for data; caches and reports beside the shards are nobody's business."""
    for path in sorted(folder.iterdir()):
        if path.suffix in (".tar", ".idx") and path.name not in manifest.files:
            yield Finding(
                prefix + path.name, "extra_file", "not named in the manifest; webdataset's readers would read it"
            )
        elif path.name.endswith(PARTIAL):
            yield Finding(prefix + path.name, "extra_file", "left by a writer that was killed; delete it")


def _read_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["key", "shard", "split", "caption_length", "sha256"]
    try:
        return pq.read_table(path, columns=columns).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"cannot be read as a table with the columns {', '.join(columns)}: {error}") from None


def _table_faults(rows: list[dict[str, Any]], manifest: Manifest) -> Iterator[str]:
    if len(rows) != manifest.samples:
        yield f"{len(rows)} rows, the manifest says {manifest.samples} samples"
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["shard"]] = counts.get(row["shard"], 0) + 1
    for shard in counts.keys() - manifest.shards.keys():
        yield f"{counts[shard]} rows are of {shard}, which the manifest does not know"
    for shard, expected in manifest.shards.items():
        if counts.get(shard, 0) != expected:
            yield f"{counts.get(shard, 0)} rows are of {shard}, the manifest says {expected}"
    others = {row["split"] for row in rows} - {manifest.split}
    if others:
        yield f"rows of split {', '.join(sorted(map(str, others)))} in the table of {manifest.split}"


def _ledger(path: Path, counts: dict[str, int]) -> Iterator[str]:
    """in = out + Σ drops, over all and in every split, and out is what the manifests count."""
    try:
        ledger = json.loads(path.read_bytes())
        parts = {"all splits": ledger, **ledger["splits"]}
        for name, part in parts.items():
            dropped = sum(sum(reasons.values()) for reasons in part["drops"].values())
            if part["in"] != part["out"] + dropped:
                yield f"{name}: in {part['in']} is not out {part['out']} + dropped {dropped}"
        for name in sorted(counts.keys() | ledger["splits"].keys()):
            out = ledger["splits"].get(name, {}).get("out")
            if counts.get(name) != out:
                yield f"{name}: out {out}, but the split's manifest says {counts.get(name)} samples"
        if ledger["out"] != sum(counts.values()):
            yield f"all splits: out {ledger['out']}, but the manifests count {sum(counts.values())} samples"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"not a ledger: {type(error).__name__} {error}"
