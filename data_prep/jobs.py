"""One unit of work: read, take through the stages, write one part. Runs in any process, on any machine.

A part is a shard that has no number yet, named by the digest of all that decides its bytes:

    <digest>.tar, .idx        the shard, as the contract says; absent if every sample was dropped
    <digest>.parquet          its rows of samples.parquet
    <digest>.marks.parquet    what copies are recognised by, a row a sample; only if they are looked for
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
    """What a finished unit left, and its page of the ledger: entered = samples + Σ drops."""

    digest: str
    split: str
    rows: int
    """Rows that the source gave."""
    entered: int
    """Those and the panels that figures were split into."""
    samples: int
    """Samples in the shard."""
    drops: dict[str, dict[str, int]]
    """Stage → reason → number."""
    counts: dict[str, dict[str, int]]
    """Stage → what → number: the stages' own counts."""
    files: dict[str, FileMark]
    """".tar" and ".idx"; empty if nothing was left."""
    others: dict[str, FileMark]
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
    """Let the next unit open its source anew: the files may have changed since an earlier run in this process."""
    _opened.cache_clear()


def run_job(job: Job | CopyJob) -> Part:
    """Do a unit, or make a shard of parts' samples. The part is whole on disk when this returns."""
    return copy_samples(job) if isinstance(job, CopyJob) else run_unit(job)


def run_unit(job: Job) -> Part:
    """Read a unit, take its samples through the stages, write its part."""
    path = job.folder / job.digest
    hide = _hider(job.stages)
    stages = build_stages(job.stages)
    counts: Counts = Counter()
    drops: list[dict[str, str]] = []
    marks: list[dict[str, Any]] = []
    blacked: list[dict[str, Any]] = []
    rows = panels = 0
    source = _opened(job.source)
    entered: classes.Classes = {}
    left_over: classes.Classes = {}
    with ShardWriter(path, job.unit.split) as writer:
        for item in source.read(job.unit):
            rows += 1
            classes.add(entered, item.labels)
            for left in _through(stages, item, counts):
                if isinstance(left, Drop):
                    panels += left.panels
                    drops.append({"split": job.unit.split, **hide(left)})
                    continue
                writer.write(left.sample, left.width, left.height, left.perceptual_hash)
                classes.add(left_over, left.sample.labels)
                shares = left.sample.metadata.get("blacked", {})
                blacked += [{"share": share, "key": left.sample.key, "image": name} for name, share in shares.items()]
                marks += [left.marks] if left.marks is not None else []
    counts.update(source.counts)
    if marks:
        _write_marks(path.with_suffix(".marks.parquet"), marks)
    pages = {"in": classes.page_of(entered), "out": classes.page_of(left_over)} if entered else {}
    if source.private or any(entry["stage"] == "pseudonymise" for entry in job.stages):
        pages = {}  # a label can hold anything, such as a person's name
    return _finish_part(job, job.unit.split, writer, rows, panels, drops, counts, pages, worst(blacked))


def copy_samples(job: CopyJob) -> Part:
    """Copy samples byte by byte from parts into a part of their own."""
    import pyarrow.parquet as pq

    with ShardWriter(job.folder / job.digest, job.split) as writer:
        for digest, positions in job.pieces:
            table = pq.read_table(job.folder / f"{digest}.parquet").take(positions).to_pylist()
            members = read_members(job.folder / f"{digest}.tar", positions)
            for row, its in zip(table, members, strict=True):
                writer.write_members(replace(Row(**row), split=job.split, shard=f"{job.digest}.tar"), its)
    return _finish_part(job, job.split, writer, len(writer.rows), 0, [], Counter(), {})


def _finish_part(
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
        entered=rows + panels,
        samples=len(writer.rows),
        drops=nested(Counter((drop["stage"], drop["reason"]) for drop in drops)),
        counts=nested(counts),
        files={Path(name).suffix: mark for name, mark in writer.files.items()},
        others={
            suffix: mark_file(path.with_suffix(suffix))
            for suffix in (".parquet", ".marks.parquet", ".drops.jsonl")
            if path.with_suffix(suffix).exists()
        },
        classes=pages,
        blacked=list(blacked),
    )
    write_whole(path.with_suffix(".json"), encode_json(asdict(part)))
    return part


def _write_marks(path: Path, marks: list[dict[str, Any]]) -> None:
    import pyarrow as pa

    from data_prep.dedup.fingerprints import MARKS

    write_tables(path, [pa.Table.from_pylist(marks, schema=MARKS)], MARKS)


def _through(stages: list[Stage], item: Sample | Dropped, counts: Counts) -> list[Draft | Drop]:
    if isinstance(item, Sample):
        for what, number in item.metadata.get("deidentified", {}).items():  # what a private source itself has removed
            counts["read", f"removed {what}"] += number
        return apply_stages(stages, Draft(item, counts))
    drop = Drop("read", item.reason, item.detail)
    drop.name = item.name
    return [drop]


def _hider(stages: list[dict[str, Any]]) -> Callable[[Drop], dict[str, str]]:
    """What the ledger says of a drop; where names are replaced, theirs are, and what could quote a file is left out."""

    def plain(drop: Drop) -> dict[str, str]:
        return {"name": drop.name, "stage": drop.stage, "reason": drop.reason, "detail": drop.detail}

    entry = next((entry for entry in stages if entry["stage"] == "pseudonymise"), None)
    if entry is None:
        return plain
    from data_prep.stages.pseudonymise import hidden_drop

    return lambda drop: plain(hidden_drop(drop, entry["key_id"]))


def read_part(folder: Path, digest: str, thorough: bool = False) -> Part | None:
    """The part if it was finished, in this run or an earlier one; a damaged one counts as unfinished.

    thorough: bytes are compared with their checksums, for folders that are used again and again.
    """
    try:
        content = json.loads((folder / f"{digest}.json").read_bytes())
        for files in ("files", "others"):
            content[files] = {suffix: FileMark(**mark) for suffix, mark in content[files].items()}
        part = Part(**content)
        marks = {part.file(folder, suffix): mark for suffix, mark in (part.files | part.others).items()}
        whole = all(path.stat().st_size == mark.size for path, mark in marks.items())
        if thorough and whole:
            whole = all(mark_file(path) == mark for path, mark in marks.items())
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return part if whole else None
