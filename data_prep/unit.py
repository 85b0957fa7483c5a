"""One unit of work: read, take through the stages, write one shard. Runs in any process."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_prep.sources import Dropped, Source, Unit, open_source
from data_prep.stages import Draft, Drop, Stage, apply_stages, build_stages
from medvlp.shards import FileMark, ShardWriter
from medvlp.shards.atomic import write_whole
from medvlp.shards.manifest import PARTS
from medvlp.shards.schema import Sample
from medvlp.shards.writer import rows_table, write_tables


@dataclass(frozen=True)
class SourceSpec:
    """How to open the source in another process."""

    name: str
    input: str
    samples_per_shard: int
    flag: str


@dataclass
class Job:
    """A unit with all that is needed to do it."""

    source: SourceSpec
    stages: list[dict[str, Any]]
    output: Path
    unit: Unit


@dataclass
class Part:
    """What a finished unit left, and its page of the ledger: in = out + the number of drops."""

    split: str
    number: int
    rows_in: int
    rows_out: int
    drops: list[dict[str, str]]
    """{split, name, stage, reason, detail} of each."""
    files: dict[str, FileMark]
    """The part's tar and idx, by the names that they have in the parts folder; empty if nothing was left."""


@lru_cache(maxsize=1)
def _opened(spec: SourceSpec) -> Source:
    # A process does many units of one source: tables and volumes are read once.
    return open_source(spec.name, spec.input, spec.samples_per_shard, spec.flag)


def forget_source() -> None:
    """Let the next unit open its source anew: the files may have changed since an earlier run in this process."""
    _opened.cache_clear()


def part_path(output: Path, unit: Unit) -> Path:
    """Where the unit's part files are, without a suffix."""
    return output / unit.split / PARTS / f"{unit.number:06d}"


def run_unit(job: Job) -> Part:
    """Do a unit: `<part>.tar`, `.idx`, `.parquet`, and, last, `.json`, whose presence says that the part is whole."""
    path = part_path(job.output, job.unit)
    stages = build_stages(job.stages)
    split = job.unit.split
    rows_in = 0
    drops = []
    with ShardWriter(path, split) as writer:
        for item in _opened(job.source).read(job.unit):
            rows_in += 1
            for left in _through(stages, item):
                if isinstance(left, Drop):
                    page = {"name": left.name, "stage": left.stage, "reason": left.reason, "detail": left.detail}
                    drops.append({"split": split, **page})
                else:
                    writer.write(left.sample, left.width, left.height, left.perceptual_hash)
    if writer.rows:
        write_tables(path.with_suffix(".parquet"), [rows_table(writer.rows)])
    part = Part(split, job.unit.number, rows_in, len(writer.rows), drops, writer.files)
    write_whole(path.with_suffix(".json"), encode_json(asdict(part)))
    return part


def encode_json(content: Any, indent: int | None = None) -> bytes:
    """JSON in UTF-8, by default on one line.

    File names that are not UTF-8 come as lone surrogates, which JSON's escapes can hold.
    """
    return json.dumps(content, ensure_ascii=False, indent=indent).encode("utf-8", "backslashreplace")


def _through(stages: list[Stage], item: Sample | Dropped) -> list[Draft | Drop]:
    if isinstance(item, Sample):
        return apply_stages(stages, Draft(item))
    drop = Drop("read", item.reason, item.detail)
    drop.name = item.name
    return [drop]


def read_part(output: Path, unit: Unit) -> Part | None:
    """The unit's part if it was finished, in this run or an earlier one."""
    try:
        content = json.loads(part_path(output, unit).with_suffix(".json").read_bytes())
    except FileNotFoundError:
        return None
    content["files"] = {name: FileMark(**mark) for name, mark in content["files"].items()}
    return Part(**content)
