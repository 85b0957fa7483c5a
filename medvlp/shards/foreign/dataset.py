"""A split of tars that others wrote: every tar indexed once, and one table, manifest and ledger over all of them."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvlp.shards.atomic import refusing, remove_leftovers, whole_file, write_text, write_whole
from medvlp.shards.errors import ShardError
from medvlp.shards.foreign.form import ForeignForm
from medvlp.shards.foreign.origins import DOWNLOADING, Origin
from medvlp.shards.foreign.shard import Measure, index_shard
from medvlp.shards.index import index_bytes, open_index
from medvlp.shards.manifest import INDEX, LEDGER, SAMPLES, Manifest, hash_config, write_manifest
from medvlp.shards.writer import FileMark, mark_file, rows_table, table_schema, write_tables

DROPS = "dropped.jsonl"
"""A row for each sample that is not in the index: shard, key, reason, detail."""
STATE = ".indexing"
"""Folder of what has been indexed so far; it goes when the manifest is there."""


@dataclass
class IndexSummary:
    """What is in the index and what is not."""

    samples: int
    shards: int
    drops: Counter[str]
    """Reason → samples."""
    ignored: Counter[str]
    """Extension → members that no one asked for."""
    licences: Counter[str]
    broken: dict[str, str]
    """Tar → where it stops being one."""
    repeated_names: int
    """Names of samples that several tars have; counters often begin again."""
    repeated_images: int
    """Samples whose image, byte for byte, another one has before them."""

    @property
    def total(self) -> int:
        """Samples that were met."""
        return self.samples + self.drops.total()


@dataclass(frozen=True)
class TarJob:
    """One tar to index."""

    origin: Origin
    out: Path
    split: str
    form: ForeignForm

    @property
    def index_path(self) -> Path:
        """Where its index is written."""
        return (self.out / self.origin.name).with_suffix(".idx")

    @property
    def state_path(self) -> Path:
        """What says that it was done."""
        return self.out / STATE / f"{sha256(self.origin.name.encode()).hexdigest()[:24]}.json"

    @property
    def identity(self) -> dict[str, Any]:
        """What must be as it was for the state to count."""
        return {"tar": self.origin.name, "stamp": self.origin.stamp(), "split": self.split, "form": self.form.to_json()}


def index_tars(
    origins: Sequence[Origin],
    out: Path,
    split: str,
    form: ForeignForm,
    workers: int,
    measure: Measure,
    watch: Callable[[str], None],
) -> IndexSummary:
    """Index tars, and finish the split in `out`. Tars that were indexed before are not read again.

    Args:
        origins: the tars, in the order of their samples.
        workers: processes; 0 and 1 index here.
        measure: image → (height, width), a function that can be pickled.
        watch: is called with a line for each tar.

    Raises:
        ShardError: a tar that cannot be read at all, none with a sample, or a disk that refuses.
    """
    jobs = [TarJob(origin, out, split, form) for origin in origins]
    _refuse_foreign_indices(jobs)
    with _claimed(out / STATE):
        pending = [job for job in jobs if not is_done(job)]
        if len(pending) < len(jobs):
            watch(f"{len(jobs) - len(pending)} of {len(jobs)} tars were indexed before")
        for number, name in enumerate(_run(pending, partial(_index, measure=measure), workers), 1):
            watch(f"[{number}/{len(pending)}] {name}")
        summary = _finish(jobs, out, split, form)
        shutil.rmtree(out / STATE)
    return summary


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """The folder of the state, made, for one command at a time, and without what a killed one was downloading.

    Raises:
        ShardError: another command works there.
    """
    with refusing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ShardError(f"another `medvlp index` is at work in {folder.parent}; wait for it, or end it") from None
        except OSError:  # a file system without locks
            pass
        remove_leftovers(folder)
        for path in folder.glob(f"{DOWNLOADING}*"):
            shutil.rmtree(path)
        yield
    finally:
        os.close(handle)


def _run(jobs: Sequence[TarJob], work: Callable[[TarJob], str], workers: int) -> Iterator[str]:
    if workers <= 1 or len(jobs) <= 1:
        yield from map(work, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        yield from pool.map(work, jobs)


def is_done(job: TarJob) -> bool:
    """Whether a tar was indexed in this form, and has not changed since."""
    with suppress(OSError, ValueError, KeyError):
        state = json.loads(job.state_path.read_bytes())
        return bool(state["identity"] == job.identity and mark_file(job.index_path).sha256 == state["index"]["sha256"])
    return False


def _index(job: TarJob, measure: Measure) -> str:
    """Index one tar; its rows and what was dropped go into the state."""
    with job.origin.on_disk(job.out / STATE) as path:
        index = index_shard(path, job.origin.name, job.split, job.form, measure)
    with refusing(job.index_path):
        job.index_path.parent.mkdir(parents=True, exist_ok=True)
    if index.rows:
        write_whole(job.index_path, index_bytes(index.entries))
    rows = rows_table(index.rows)
    write_tables(job.state_path.with_suffix(".parquet"), [rows] if index.rows else [])
    state = {
        "identity": job.identity,
        "tar": asdict(index.mark),
        "index": asdict(mark_file(job.index_path)) if index.rows else {"sha256": "", "size": 0},
        "samples": len(index.rows),
        "names": index.names,
        "drops": [asdict(drop) for drop in index.drops],
        "ignored": index.ignored,
        "licences": Counter(row.licence for row in index.rows),
    }
    write_text(job.state_path, json.dumps(state, ensure_ascii=False))
    return job.origin.name


def _refuse_foreign_indices(jobs: Sequence[TarJob]) -> None:
    """Other tools write `.idx` files, too; theirs are not written over. Raises ShardError."""
    for job in jobs:
        if job.index_path.exists():
            try:
                open_index(job.index_path)
            except ValueError:
                raise ShardError(
                    f"{job.index_path} is another program's, and would be written over; give another folder: out=<folder>"
                ) from None


def _finish(jobs: Sequence[TarJob], out: Path, split: str, form: ForeignForm) -> IndexSummary:
    """One table, ledger and manifest of what the tars' states say."""
    import pyarrow.parquet as pq

    files: dict[str, FileMark] = {}
    shards: dict[str, int] = {}
    summary = IndexSummary(0, 0, Counter(), Counter(), Counter(), {}, 0, 0)
    name_ids: list[NDArray[np.uint64]] = []
    tables = []
    with whole_file(out / DROPS) as drops_file:
        for job in jobs:
            state = json.loads(job.state_path.read_bytes())
            for drop in state["drops"]:
                drops_file.write((json.dumps(drop, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))
                if drop["reason"] == "broken_tar":
                    summary.broken[job.origin.name] = drop["detail"]
                else:
                    summary.drops[drop["reason"]] += 1
            summary.ignored.update(state["ignored"])
            summary.licences.update(state["licences"])
            name_ids.append(np.array(sorted({_id(name) for name in state["names"]}), np.uint64))
            if state["samples"]:
                name = job.origin.name
                files[name] = FileMark(**state["tar"])
                files[str(Path(name).with_suffix(".idx"))] = FileMark(**state["index"])
                shards[name] = state["samples"]
                tables.append(job.state_path.with_suffix(".parquet"))
    summary.samples, summary.shards = sum(shards.values()), len(shards)
    _, counts = np.unique(np.concatenate(name_ids), return_counts=True)
    summary.repeated_names = int((counts > 1).sum())
    if not shards:
        raise ShardError(
            f"none of the {len(jobs)} tars has a sample that can be trained on; {_reasons(summary)}. See {out / DROPS}"
        )
    files[SAMPLES] = write_tables(out / SAMPLES, map(pq.read_table, tables), table_schema())
    hashes = pq.read_table(out / SAMPLES, columns=["sha256"])["sha256"]
    summary.repeated_images = len(hashes) - len(hashes.unique())
    write_text(out / LEDGER, json.dumps(ledger_of(summary), indent=1, ensure_ascii=False) + "\n")
    stages: list[dict[str, Any]] = [{"source": form.name, INDEX: form.to_json()}]
    write_manifest(out, Manifest(split, files, shards, summary.samples, stages, hash_config(stages), {}))
    return summary


def _id(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def _reasons(summary: IndexSummary) -> str:
    counts: Mapping[str, int] = summary.drops
    text = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
    return (
        text or "they hold no image with a text; ignored: " + ", ".join(map(str, summary.ignored)) or "they are empty"
    )


def ledger_of(summary: IndexSummary) -> dict[str, Any]:
    """in = out + Σ drops, and what else was counted."""
    return {
        "in": summary.total,
        "out": summary.samples,
        "drops": {"index": dict(sorted(summary.drops.items()))},
        "ignored": dict(sorted(summary.ignored.items())),
        "licences": dict(sorted(summary.licences.items())),
        "broken_tars": summary.broken,
        "names_in_several_tars": summary.repeated_names,
        "images_of_earlier_samples": summary.repeated_images,
    }
