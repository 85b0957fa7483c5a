"""From parts to splits: shards get their numbers, splits their manifests.

Every action here can be repeated, so a kill in the middle costs nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.dataset_stages.decisions import Decisions
from data_prep.dataset_stages.part_samples import PartSamples
from data_prep.dataset_stages.splits import group_hashes
from data_prep.errors import PrepError
from data_prep.jobs import CopyJob, Part
from data_prep.ledger import CONFLICTS, COPIES, DROPS, PAIRS, RUN
from data_prep.ledger.balance import make_ledger
from data_prep.plan import PreparationPlan, digest_of
from medvlp.jsonl import encode_json, write_rows
from medvlp.shards import FileMark, Manifest, hash_config, write_manifest
from medvlp.shards.atomic import sync_folder, whole_file, write_whole
from medvlp.shards.manifest import LEAKAGE, LEDGER, MANIFEST, PARTS, SAMPLES
from medvlp.shards.sums import SUMS
from medvlp.shards.vocabulary import SPLITS
from medvlp.shards.writer import write_tables

if TYPE_CHECKING:
    import pyarrow as pa

Layout = dict[str, list[Part | CopyJob]]
"""Split → its shards in order: parts as they are, or shards to be made of parts' samples."""


def lay_out(folder: Path, parts: Sequence[Part], decisions: Decisions, samples_per_shard: int) -> Layout:
    """Which shards the splits consist of. Parts of which everything stays in one split are taken as they are.

    The rest of another is a shard by itself if that is at least half of a shard; smaller pieces are gathered.
    """
    samples = PartSamples(folder, parts)
    layout: Layout = {split: [] for split in dict.fromkeys(part.split for part in parts)}
    layout |= {SPLITS[split]: [] for split in np.unique(decisions.split_N).tolist() if SPLITS[split] not in layout}
    small: dict[str, list[tuple[str, list[int]]]] = {split: [] for split in layout}
    for part, start in zip(samples.parts, samples.starts, strict=False):
        split_M = decisions.split_N[start : start + part.samples]
        is_kept_M = decisions.is_kept_N[start : start + part.samples]
        for split in np.unique(split_M[is_kept_M]).tolist():
            positions = np.flatnonzero(is_kept_M & (split_M == split)).tolist()
            name = SPLITS[split]
            if len(positions) == part.samples:
                layout[name].append(part)
            elif 2 * len(positions) >= samples_per_shard:
                layout[name].append(_copy(folder, name, [(part.digest, positions)]))
            else:
                small[name].append((part.digest, positions))
    for name, pieces in small.items():
        layout[name] += [_copy(folder, name, chunk) for chunk in _chunks(pieces, samples_per_shard)]
    return layout


def _copy(folder: Path, split: str, pieces: list[tuple[str, list[int]]]) -> CopyJob:
    return CopyJob(folder, split, pieces, digest_of([split, pieces]))


def _chunks(pieces: list[tuple[str, list[int]]], size: int) -> Iterator[list[tuple[str, list[int]]]]:
    """Pieces cut and gathered into runs of `size` positions; the last may be shorter."""
    chunk: list[tuple[str, list[int]]] = []
    capacity = size
    for digest, positions in pieces:
        while positions:
            chunk.append((digest, positions[:capacity]))
            positions, capacity = positions[capacity:], capacity - len(chunk[-1][1])
            if not capacity:
                yield chunk
                chunk, capacity = [], size
    if chunk:
        yield chunk


def finalize(
    output: Path,
    folder: Path,
    parts: Sequence[Part],
    decisions: Decisions,
    shards: dict[str, list[Part]],
    plan: PreparationPlan,
    run: dict[str, Any],
) -> dict[str, Any]:
    """Number the shards, write tables and manifests, then the files above the splits; the ledger, last, is returned.

    parts: of all units, in the data set's order. shards: split → parts that are its shards. Raises PrepError if two
    samples have one key.
    """
    ledger = make_ledger(parts, decisions)
    write_rows(output / DROPS, (drop for part in parts for drop in part.named_drops(folder)), decisions.drops)
    _check_keys(PartSamples(folder, parts))
    _clear_splits(output, shards)
    for split, parts_of_split in shards.items():
        ledger["splits"][split]["manifest_sha256"] = _write_split(output / split, folder, split, parts_of_split, plan)
    write_rows(output / COPIES, decisions.copies)
    write_rows(output / LEAKAGE, decisions.leaks)
    write_rows(output / CONFLICTS, decisions.conflicts)
    write_whole(output / PAIRS, encode_json(decisions.pairs) + b"\n")
    write_whole(output / RUN, encode_json(run, indent=1) + b"\n")
    ledger |= {"checksums": SUMS, "source": plan.facts}
    write_whole(output / LEDGER, encode_json(ledger, indent=1) + b"\n")
    return ledger


def _check_keys(samples: PartSamples) -> None:
    """Keys are unique over all splits."""
    hashes_N = group_hashes(samples.column("key"))
    _, first_U, counts_U = np.unique(hashes_N, return_index=True, return_counts=True)
    repeated = sorted(samples.keys(first_U[counts_U > 1].tolist()))
    if repeated:
        raise PrepError(
            f"{len(repeated)} keys come more than once: {', '.join(repeated[:5])}{', …' if len(repeated) > 5 else ''}; "
            "the source repeats these rows. Remove the repetitions and prepare into a new folder"
        )


def _clear_splits(output: Path, shards: dict[str, list[Part]]) -> None:
    """Take away what an earlier, unfinished finalisation of an input that has changed since wrote."""
    for manifest in output.glob(f"*/{MANIFEST}"):
        manifest.unlink()
    for path in [*output.glob("*/*.tar"), *output.glob("*/*.idx")]:
        parts_of_split = shards.get(path.parent.name, [])
        if path.parent.name != PARTS and not (path.stem.isdecimal() and int(path.stem) < len(parts_of_split)):
            path.unlink()
    for split in SPLITS:
        if split not in shards and (output / split).is_dir():
            shutil.rmtree(output / split)


def _write_split(folder: Path, parts_folder: Path, split: str, shards: Sequence[Part], plan: PreparationPlan) -> str:
    """Returns the sha256 of the split's manifest."""
    folder.mkdir(exist_ok=True)
    files: dict[str, FileMark] = {}
    for number, part in enumerate(shards):
        for suffix, mark in part.files.items():
            name = f"{number:06d}{suffix}"
            _link(part.file(parts_folder, suffix), folder / name, mark)
            files[name] = mark
    sync_folder(folder)
    files[SAMPLES] = write_tables(folder / SAMPLES, _renamed(parts_folder, split, shards))
    counts = {f"{number:06d}.tar": part.samples for number, part in enumerate(shards)}
    stages = plan.described()
    manifest = Manifest(split, files, counts, sum(counts.values()), stages, hash_config(stages), plan.tools)
    return write_manifest(folder, manifest)


def _link(part: Path, target_path: Path, mark: FileMark) -> None:
    """A second name for the part's file, or a copy where the file system has no such thing."""
    if target_path.exists() and part.exists() and target_path.samefile(part):
        return
    target_path.unlink(missing_ok=True)
    try:
        os.link(part, target_path)
    except OSError:
        with open(part, "rb") as source, whole_file(target_path) as target:
            shutil.copyfileobj(source, target, 2**20)
    if target_path.stat().st_size != mark.size:
        raise PrepError(
            f"{target_path} should have {mark.size} bytes, as when it was written; something else changed the folder. "
            "Prepare into a new one"
        )


def _renamed(folder: Path, split: str, shards: Sequence[Part]) -> Iterator[pa.Table]:
    """The parts' tables, one at a time, with the final names of their shards and split."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number, part in enumerate(shards):
        table = pq.read_table(part.file(folder, ".parquet"))
        for column, value in (("shard", f"{number:06d}.tar"), ("split", split)):
            names = pa.array([value] * table.num_rows, pa.string())
            table = table.set_column(table.schema.get_field_index(column), column, names)
        yield table
