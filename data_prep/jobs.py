"""One unit of work: read, take through the stages, write one part. Runs in any process, on any machine.

A part is a shard that has no number yet, named by the digest of all that decides its bytes:

    <digest>.tar, .idx        the shard, as the contract says; absent if every sample was dropped
    <digest>.parquet          its rows of samples.parquet
    <digest>.marks.parquet    fingerprints for deduplication, a row a sample; only if copies are looked for
    <digest>.drops.jsonl      one row a drop
    <digest>.json             the part's page of the ledger; written last: its presence says that the part is whole
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_prep.dataset_stages.part_samples import FINGERPRINTS_SUFFIX
from data_prep.draft import Counts, Draft, Drop
from data_prep.ledger import classes
from data_prep.ledger.balance import nested, worst
from data_prep.source import Dropped, Source, Unit
from data_prep.sources import open_source
from data_prep.stages import Stage, apply_stages, build_stages
from medvlp.jsonl import encode_json, read_rows, write_rows
from medvlp.shards import FileMark, Row, Sample, ShardWriter, read_members
from medvlp.shards.atomic import write_whole
from medvlp.shards.writer import mark_file, rows_table, write_tables

FIELDS_BY_KEY = {"entered": "samples_in", "others": "other_files"}
"""Key of a part's JSON → the field, where they differ."""


@dataclass(frozen=True)
class SourceSpec:
    """How to open the source in another process."""

    name: str
    input: str
    samples_per_shard: int
    flag: str
    options: str
    """The source's own options, as JSON."""

    def open(self) -> Source:
        """The source. Raises PrepError."""
        return open_source(self.name, self.input, self.samples_per_shard, self.flag, json.loads(self.options))


@dataclass(frozen=True)
class Job:
    """A unit with all that is needed to do it."""

    source: SourceSpec
    stages: list[dict[str, Any]]
    folder: Path
    """Where parts are."""
    unit: Unit
    digest: str


@dataclass(frozen=True)
class CopyJob:
    """A shard to be made of samples of parts, because some were dropped or moved after the parts were written."""

    folder: Path
    split: str
    pieces: list[tuple[str, list[int]]]
    """(digest of a part, positions of its samples), in order."""
    digest: str


@dataclass
class Part:
    """A finished unit: its files, and its page of the ledger, where samples in = samples + Σ drops."""

    digest: str
    split: str
    rows: int
    """Rows that the source gave."""
    samples_in: int
    """Those and the panels that figures were split into."""
    samples: int
    """Samples in the shard."""
    drops: dict[str, dict[str, int]]
    """Stage → reason → number."""
    counts: dict[str, dict[str, int]]
    """Stage → what → number: the stages' own counts."""
    files: dict[str, FileMark]
    """".tar" and ".idx"; empty if nothing was left."""
    other_files: dict[str, FileMark]
    """Its other files, by suffix."""
    classes: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """"in" and "out" → label → class → samples; empty where samples are de-identified."""
    blacked: list[dict[str, Any]] = field(default_factory=list)
    """{"share", "key", "image"} of those that lost most to `deidentify_pixels`, the worst first."""

    def file(self, folder: Path, suffix: str) -> Path:
        """One of the part's files in the folder of parts."""
        return folder / f"{self.digest}{suffix}"

    def named_drops(self, folder: Path) -> Iterator[dict[str, str]]:
        """{split, name, stage, reason, detail} of each drop."""
        if self.drops:
            yield from read_rows(self.file(folder, ".drops.jsonl"))


@lru_cache(maxsize=1)
def _opened(spec: SourceSpec) -> Source:
    # A process does many units of one source: tables and volumes are read once.
    return spec.open()


def forget_source() -> None:
    """Let the next unit open its source again: the files may have changed since an earlier run in this process."""
    _opened.cache_clear()


def run_job(job: Job | CopyJob) -> Part:
    """Do a unit, or make a shard of parts' samples. The part is whole on disk when this returns."""
    return copy_samples(job) if isinstance(job, CopyJob) else run_unit(job)


def run_unit(job: Job) -> Part:
    """Read a unit, take its samples through the stages, write its part."""
    path = job.folder / job.digest
    named_drop = _drop_naming(job.stages)
    stages = build_stages(job.stages)
    counts: Counts = Counter()
    drops: list[dict[str, str]] = []
    fingerprints: list[dict[str, Any]] = []
    blacked: list[dict[str, Any]] = []
    rows = panels = 0
    source = _opened(job.source)
    classes_in: classes.Classes = {}
    classes_out: classes.Classes = {}
    with ShardWriter(path, job.unit.split) as writer:
        for item in source.read(job.unit):
            rows += 1
            classes.add(classes_in, item.labels)
            for outcome in _staged(stages, item, counts):
                if isinstance(outcome, Drop):
                    panels += outcome.panels
                    drops.append({"split": job.unit.split, **named_drop(outcome)})
                    continue
                sample = outcome.sample
                writer.write(sample, outcome.width, outcome.height, outcome.perceptual_hash)
                classes.add(classes_out, sample.labels)
                shares = sample.metadata.get("blacked", {})
                blacked += [{"share": share, "key": sample.key, "image": name} for name, share in shares.items()]
                fingerprints += [outcome.fingerprint] if outcome.fingerprint is not None else []
    counts.update(source.counts)
    if fingerprints:
        _write_fingerprints(path.with_suffix(FINGERPRINTS_SUFFIX), fingerprints)
    pages = {"in": classes.page_of(classes_in), "out": classes.page_of(classes_out)} if classes_in else {}
    if source.private or any(entry["stage"] == "pseudonymise" for entry in job.stages):
        pages = {}  # a label can hold anything, such as a person's name
    return _write_part(job, job.unit.split, writer, rows, panels, drops, counts, pages, worst(blacked))


def copy_samples(job: CopyJob) -> Part:
    """Copy samples byte by byte from parts into a part of their own."""
    import pyarrow.parquet as pq

    with ShardWriter(job.folder / job.digest, job.split) as writer:
        for digest, positions in job.pieces:
            table = pq.read_table(job.folder / f"{digest}.parquet").take(positions).to_pylist()
            members = read_members(job.folder / f"{digest}.tar", positions)
            for row, content in zip(table, members, strict=True):
                writer.write_members(replace(Row(**row), split=job.split, shard=f"{job.digest}.tar"), content)
    return _write_part(job, job.split, writer, len(writer.rows), 0, [], Counter(), {})


def _write_part(
    job: Job | CopyJob,
    split: str,
    writer: ShardWriter,
    rows: int,
    panels: int,
    drops: list[dict[str, str]],
    counts: Counts,
    pages: dict[str, dict[str, dict[str, int]]],
    blacked: Sequence[dict[str, Any]] = (),
) -> Part:
    path = job.folder / job.digest
    if rows + panels != len(writer.rows) + len(drops):
        raise AssertionError(
            f"{rows} rows and {panels} panels came in, {len(writer.rows)} samples and {len(drops)} drops went out"
        )
    if writer.rows:
        write_tables(path.with_suffix(".parquet"), [rows_table(writer.rows)])
    if drops:
        write_rows(path.with_suffix(".drops.jsonl"), drops)
    part = Part(
        digest=job.digest,
        split=split,
        rows=rows,
        samples_in=rows + panels,
        samples=len(writer.rows),
        drops=nested(Counter((drop["stage"], drop["reason"]) for drop in drops)),
        counts=nested(counts),
        files={Path(name).suffix: mark for name, mark in writer.files.items()},
        other_files={
            suffix: mark_file(path.with_suffix(suffix))
            for suffix in (".parquet", FINGERPRINTS_SUFFIX, ".drops.jsonl")
            if path.with_suffix(suffix).exists()
        },
        classes=pages,
        blacked=list(blacked),
    )
    keys = {name: key for key, name in FIELDS_BY_KEY.items()}
    page = {keys.get(name, name): value for name, value in asdict(part).items()}
    write_whole(path.with_suffix(".json"), encode_json(page))
    return part


def _write_fingerprints(path: Path, fingerprints: list[dict[str, Any]]) -> None:
    import pyarrow as pa

    from data_prep.dedup.fingerprints import FINGERPRINT_SCHEMA

    write_tables(path, [pa.Table.from_pylist(fingerprints, schema=FINGERPRINT_SCHEMA)], FINGERPRINT_SCHEMA)


def _staged(stages: list[Stage], item: Sample | Dropped, counts: Counts) -> list[Draft | Drop]:
    if isinstance(item, Sample):
        for identifier, number in item.metadata.get("deidentified", {}).items():  # a private source's own removals
            counts["read", f"removed {identifier}"] += number
        return apply_stages(stages, Draft(item, counts))
    drop = Drop("read", item.reason, item.detail)
    drop.name = item.name
    return [drop]


def _drop_naming(stages: list[dict[str, Any]]) -> Callable[[Drop], dict[str, str]]:
    """A function that gives a drop's row for the ledger: under a pseudonym, without details that could quote a file, where
    samples have pseudonyms."""

    def plain(drop: Drop) -> dict[str, str]:
        return {"name": drop.name, "stage": drop.stage, "reason": drop.reason, "detail": drop.detail}

    entry = next((entry for entry in stages if entry["stage"] == "pseudonymise"), None)
    if entry is None:
        return plain
    from data_prep.stages.pseudonymise import pseudonymised_drop

    return lambda drop: plain(pseudonymised_drop(drop, entry["key_id"]))


def read_part(folder: Path, digest: str, thorough: bool = False) -> Part | None:
    """The part if it was finished, in this run or an earlier one; a damaged one counts as unfinished.

    thorough: bytes are compared with their checksums, for folders that are used again and again.
    """
    try:
        content = json.loads((folder / f"{digest}.json").read_bytes())
        for files in ("files", "others"):
            content[files] = {suffix: FileMark(**mark) for suffix, mark in content[files].items()}
        part = Part(**{FIELDS_BY_KEY.get(key, key): value for key, value in content.items()})
        marks = {part.file(folder, suffix): mark for suffix, mark in (part.files | part.other_files).items()}
        is_whole = all(path.stat().st_size == mark.size for path, mark in marks.items())
        if thorough and is_whole:
            is_whole = all(mark_file(path) == mark for path, mark in marks.items())
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return part if is_whole else None
