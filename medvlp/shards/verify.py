"""Verifying: is a folder what its manifest says, and if not, what exactly is wrong with which file and which sample."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

from medvlp.shards.atomic import PARTIAL
from medvlp.shards.audit import Fault, audit_shard
from medvlp.shards.errors import ShardError
from medvlp.shards.foreign.audit import audit_foreign
from medvlp.shards.foreign.form import ForeignForm, form_of
from medvlp.shards.manifest import (
    LEDGER,
    MANIFEST,
    PARTS,
    PLAN,
    SAMPLES,
    Manifest,
    find_splits,
    form_in,
    read_manifest,
)
from medvlp.shards.schema import strict_json
from medvlp.shards.storage.files import open_files
from medvlp.shards.sums import unlike_sums
from medvlp.shards.writer import Row, mark_file

COLUMNS = {field.name: int if field.type == "int" else str for field in fields(Row)}
"""Of the table: column → type of its values, none of which may be null."""
FORMS = {"sha256": r"(?:[0-9a-f]{64})?", "perceptual_hash": r"(?:[0-9a-f]{16})?", "width": r"\d+", "height": r"\d+"}
"""What the values of some columns look like."""
UNFINISHED = "the preparation is unfinished; run the same `medvlp prep` again"


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
    has_plan = (folder / PLAN).exists()
    if not (splits or has_plan) or next(folder.glob("*.tar"), None):
        read_manifest(folder)  # raises, and says what the folder lacks
    findings: list[Finding] = []
    signed: dict[str, tuple[int, str]] = {}
    shard_of_key: dict[str, str] = {}
    for split in splits:
        if not (split / MANIFEST).exists():
            findings.append(Finding(f"{split.name}/{MANIFEST}", "unfinished", f"there is no manifest: {UNFINISHED}"))
            continue
        findings += _split(split, f"{split.name}/", shard_of_key)
        with suppress(ShardError):  # _split has reported it
            manifest, sha256 = read_manifest(split)
            signed[split.name] = manifest.samples, sha256
    if (folder / LEDGER).exists():
        findings += _ledger(folder / LEDGER, {split.name for split in splits}, signed)
        reported_files = {finding.file for finding in findings}
        findings += [Finding(*fault) for fault in unlike_sums(folder) if fault[0] not in reported_files]
    elif has_plan:
        findings.append(Finding(LEDGER, "unfinished", f"there is a plan, but no ledger: {UNFINISHED}"))
    if (folder / PARTS).exists() and (folder / LEDGER).exists():
        findings.append(Finding(PARTS, "unfinished", f"the last step did not get to remove it: {UNFINISHED}"))
    return findings


def _split(folder: Path, prefix: str, shard_of_key: dict[str, str]) -> Iterator[Finding]:
    """Faults of one split; `shard_of_key` maps the keys met so far to where, over all splits."""
    try:
        manifest, _ = read_manifest(folder)
        form = form_of(manifest)
    except ShardError as error:
        yield Finding(prefix + MANIFEST, "broken_manifest", str(error))
        return
    changed: dict[str, str] = {}
    missing: set[str] = set()
    files, paths = open_files(folder), dict[str, Path]()
    for name, mark in manifest.files.items():
        try:
            paths[name] = files.local(name, mark)
            mark_now = mark_file(paths[name])
        except (FileNotFoundError, IsADirectoryError):
            missing.add(name)
            yield Finding(prefix + name, "missing_file", "named in the manifest, but not there")
            continue
        except ShardError as error:  # of a remote file
            missing.add(name)
            yield Finding(prefix + name, "unreadable_file", str(error))
            continue
        if mark_now.size != mark.size:
            changed[name] = f"{mark_now.size} bytes, the manifest says {mark.size}"
        elif mark_now.sha256 != mark.sha256:
            changed[name] = f"sha256 {mark_now.sha256[:12]}…, the manifest says {mark.sha256[:12]}…"
    yield from _extra_files(folder, manifest, prefix)
    yield from (Finding(prefix + MANIFEST, "wrong_manifest", detail) for detail in _unlike_written(manifest))

    rows: list[dict[str, Any]] | None = None
    if SAMPLES not in missing:
        try:
            rows = _read_rows(paths.get(SAMPLES, folder / SAMPLES))
        except ShardError as error:
            yield Finding(prefix + SAMPLES, "broken_table", str(error))
            changed.pop(SAMPLES, None)
    explained: set[str] = set()
    if rows is not None:
        for detail in _table_faults(rows, manifest):
            explained.add(SAMPLES)
            yield Finding(prefix + SAMPLES, "wrong_table", detail)
        for row in rows:
            shard_path = f"{prefix}{row['shard']}"
            if row["key"] in shard_of_key:
                yield Finding(shard_path, "duplicate_key", f"{row['key']} is also in {shard_of_key[row['key']]}")
            shard_of_key.setdefault(row["key"], shard_path)
    by_shard: dict[str, list[dict[str, Any]]] = {}
    for row in rows or []:
        by_shard.setdefault(row["shard"], []).append(row)
    for tar, samples in manifest.shards.items():
        index = str(Path(tar).with_suffix(".idx"))
        if missing & {tar, index}:
            continue
        if isinstance(form, ForeignForm):
            faults: Iterable[Fault] = audit_foreign(
                paths[tar], paths[index], tar, manifest.split, form, by_shard.get(tar), tar in changed
            )
        else:
            faults = audit_shard(
                paths[tar], paths[index], samples, by_shard.get(tar), tar in changed, index in changed, tar
            )
        for name, problem, detail in faults:
            explained.add(name)
            yield Finding(prefix + name, problem, detail)
    for name, difference in changed.items():
        if name not in explained:
            detail = f"{difference}; no sample's data is touched" if name in manifest.shards else difference
            yield Finding(prefix + name, "changed_file", detail)


def _unlike_written(manifest: Manifest) -> Iterator[str]:
    """How a manifest that can be read differs from one that a preparation writes."""
    numbered = [f"{number:06d}.tar" for number in range(len(manifest.shards))]
    if list(manifest.shards) != numbered and form_in(manifest.stages) is None:
        yield f"its shards are {', '.join(list(manifest.shards)[:3])}, …; the writer numbers them from 000000.tar on"
    expected = {*manifest.shards, *(str(Path(tar).with_suffix(".idx")) for tar in manifest.shards), SAMPLES}
    for name in sorted(manifest.files.keys() - expected):
        yield f"it lists {name!r}, which is none of a split's files"
    if SAMPLES not in manifest.files:
        yield f"it does not list {SAMPLES}"


def _extra_files(folder: Path, manifest: Manifest, prefix: str) -> Iterator[Finding]:
    """Files that a reader could take for data; caches and reports next to the shards are nobody's business."""
    is_foreign = form_in(manifest.stages) is not None  # tars without a usable sample may stand next to the others
    for path in sorted(folder.iterdir()):
        if path.suffix in (".tar", ".idx") and path.name not in manifest.files and not is_foreign:
            yield Finding(
                prefix + path.name, "extra_file", "not named in the manifest; webdataset's readers would read it"
            )
        elif path.name.endswith(PARTIAL):
            yield Finding(prefix + path.name, "extra_file", "left by a writer that was killed; delete it")


def _read_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        missing_columns = COLUMNS.keys() - set(table.column_names)
        if missing_columns:
            raise ValueError(f"it has no {', '.join(sorted(missing_columns))}")
        rows = table.to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ShardError(f"cannot be read as a table with the columns {', '.join(COLUMNS)}: {error}") from None
    extra = [name for name in table.column_names if name not in COLUMNS]
    if extra or len(set(table.column_names)) < len(table.column_names):
        raise ShardError(
            f"has columns that the writer does not write: {', '.join(map(repr, extra)) or 'one comes twice'}"
        )
    if table.schema.metadata:
        notes = ", ".join(repr(name) for name in table.schema.metadata)
        raise ShardError(f"has notes that the writer does not write: {notes[:200]}")
    for number, row in enumerate(rows):
        for name, kind in COLUMNS.items():
            if not isinstance(row[name], kind):
                raise ShardError(f"row {number}: {name} is {row[name]!r}, expected a value of type {kind.__name__}")
            if not re.fullmatch(FORMS.get(name, ".*"), str(row[name]), re.DOTALL):
                raise ShardError(f"row {number}: {name} is {row[name]!r}, which the writer never writes")
    return rows


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
    order = [shard for shard, _ in groupby(row["shard"] for row in rows)]
    if order != [shard for shard in manifest.shards if shard in order]:
        yield "the rows do not stand shard by shard, in the manifest's order"
    foreign_splits = {row["split"] for row in rows} - {manifest.split}
    if foreign_splits:
        yield f"rows of split {', '.join(sorted(map(str, foreign_splits)))} in the table of {manifest.split}"


def _ledger(path: Path, splits: set[str], signed: dict[str, tuple[int, str]]) -> Iterator[Finding]:
    """in = out + Σ drops, over all and in every split, and the splits are those that the ledger speaks of.

    splits: the folders that are there; signed: (samples, sha256) of those manifests that can be read.
    """
    try:
        ledger = strict_json(path.read_bytes())
        pages = ledger["splits"]
        for name, page in {"all splits": ledger, **pages}.items():
            drop_count = sum(sum(reasons.values()) for reasons in page["drops"].values())
            if page["in"] != page["out"] + drop_count:
                detail = f"{name}: in {page['in']} is not out {page['out']} + dropped {drop_count}"
                yield Finding(LEDGER, "ledger", detail)
        for name in sorted(pages.keys() - splits):
            yield Finding(
                f"{name}/{MANIFEST}", "missing_split", f"{LEDGER} names the split {name}, but it is not there"
            )
        for name, (samples, sha256) in signed.items():
            page = pages.get(name, {})
            if page.get("out") != samples:
                detail = f"{name}: out {page.get('out')}, but the split's manifest says {samples} samples"
                yield Finding(LEDGER, "ledger", detail)
            elif page.get("manifest_sha256", sha256) != sha256:  # older ledgers lack it
                detail = f"sha256 {sha256[:12]}…, {LEDGER} says {str(page['manifest_sha256'])[:12]}…"
                yield Finding(f"{name}/{MANIFEST}", "changed_file", detail)
        if "checksums" in ledger and not (path.parent / str(ledger["checksums"])).is_file():
            detail = f"{LEDGER} names it, but it is not there; run the same `medvlp prep` again, which writes it"
            yield Finding(str(ledger["checksums"]), "missing_file", detail)
        total = sum(samples for samples, _ in signed.values())
        if pages.keys() <= splits == signed.keys() and ledger["out"] != total:
            detail = f"all splits: out {ledger['out']}, but the manifests count {total} samples"
            yield Finding(LEDGER, "ledger", detail)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        yield Finding(LEDGER, "ledger", f"not a ledger: {type(error).__name__} {error}")
