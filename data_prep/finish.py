"""The last step: from parts to splits. Every action here can be repeated, so a kill in the middle costs nothing."""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.sources import PrepError
from data_prep.unit import Part, encode_json
from medvlp.shards import FileMark, Manifest, hash_config, write_manifest
from medvlp.shards.atomic import sync_folder, whole_file, write_whole
from medvlp.shards.manifest import LEDGER, PARTS, SAMPLES
from medvlp.shards.writer import write_tables

if TYPE_CHECKING:
    import pyarrow as pa

DROPPED = "dropped.jsonl"
RUN = "run.json"


def finish(
    output: Path, parts: list[Part], stages: list[dict[str, Any]], tools: dict[str, str], run: dict[str, Any]
) -> dict[str, Any]:
    """Number the shards, write tables and manifests, then dropped.jsonl, run.json and the ledger, which is returned.

    parts: of all units, in the data set's order. Raises PrepError if two samples have one key.
    """
    ledger = make_ledger(parts)
    by_split: dict[str, list[Part]] = defaultdict(list)
    for part in parts:
        by_split[part.split].append(part)
    _check_keys(output, parts)
    for split, its in by_split.items():
        kept = [part for part in its if part.rows_out]
        ledger["splits"][split]["manifest_sha256"] = _finish_split(output / split, split, kept, stages, tools)
    with whole_file(output / DROPPED) as file:
        for part in parts:
            for drop in part.drops:
                file.write(encode_json(drop) + b"\n")
    write_whole(output / RUN, encode_json(run, indent=1) + b"\n")
    write_whole(output / LEDGER, encode_json(ledger, indent=1) + b"\n")
    for split in by_split:
        shutil.rmtree(output / split / PARTS)
    return ledger


def make_ledger(parts: list[Part]) -> dict[str, Any]:
    """{"in", "out", "drops": {stage: {reason: n}}, "splits": {split: the same}}; in = out + Σ drops is asserted."""
    splits = {
        split: _page([part for part in parts if part.split == split]) for split in dict.fromkeys(p.split for p in parts)
    }
    return {**_page(parts), "splits": splits}


def _page(parts: list[Part]) -> dict[str, Any]:
    counted = Counter((drop["stage"], drop["reason"]) for part in parts for drop in part.drops)
    drops: dict[str, dict[str, int]] = {}
    for (stage, reason), count in sorted(counted.items()):
        drops.setdefault(stage, {})[reason] = count
    rows_in, rows_out = sum(part.rows_in for part in parts), sum(part.rows_out for part in parts)
    if rows_in != rows_out + counted.total():
        raise AssertionError(f"ledger: {rows_in} came in, {rows_out} went out, {counted.total()} were dropped")
    return {"in": rows_in, "out": rows_out, "drops": drops}


def _check_keys(output: Path, parts: list[Part]) -> None:
    """Keys are unique over all splits."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = [
        pq.read_table(_part_file(output, part, ".parquet"), columns=["key"])["key"] for part in parts if part.rows_out
    ]
    keys = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())
    counts = keys.value_counts()
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if twice:
        raise PrepError(
            f"{len(twice)} keys come more than once: {', '.join(sorted(twice)[:5])}{', …' if len(twice) > 5 else ''}; "
            "the source repeats these rows. Remove the repetitions and prepare into a new folder"
        )


def _part_file(output: Path, part: Part, suffix: str) -> Path:
    return output / part.split / PARTS / f"{part.number:06d}{suffix}"


def _finish_split(
    folder: Path, split: str, parts: list[Part], stages: list[dict[str, Any]], tools: dict[str, str]
) -> str:
    """Returns the sha256 of the split's manifest."""
    files: dict[str, FileMark] = {}
    shards: dict[str, int] = {}
    for number, part in enumerate(parts):
        for suffix in (".tar", ".idx"):
            old, new = folder / PARTS / f"{part.number:06d}{suffix}", folder / f"{number:06d}{suffix}"
            mark = part.files[old.name]
            if old.exists():
                os.replace(old, new)
            if not new.exists() or new.stat().st_size != mark.size:
                raise PrepError(
                    f"{new} should have {mark.size} bytes, as when it was written; "
                    "something else changed the folder. Prepare into a new one"
                )
            files[new.name] = mark
        shards[f"{number:06d}.tar"] = part.rows_out
    sync_folder(folder)
    files[SAMPLES] = write_tables(folder / SAMPLES, _renamed(folder, parts))
    manifest = Manifest(split, files, shards, sum(shards.values()), stages, hash_config(stages), tools)
    return write_manifest(folder, manifest)


def _renamed(folder: Path, parts: list[Part]) -> Iterator[pa.Table]:
    """The parts' tables, one at a time, with the final names of their shards."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number, part in enumerate(parts):
        table = pq.read_table(folder / PARTS / f"{part.number:06d}.parquet")
        names = pa.array([f"{number:06d}.tar"] * table.num_rows, pa.string())
        yield table.set_column(table.schema.get_field_index("shard"), "shard", names)
