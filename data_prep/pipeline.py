"""Preparation: plan units, do those that are not done, then name the shards, write the table, and sign the manifest.

    <output>/.plan.json           what is being prepared, written first: a second run must mean the same
    <output>/<split>/.parts/      shards of finished units, until all are finished
    <output>/<split>/             the split, as the shard contract says
    <output>/ledger.json          in = out + Σ drops; written last
    <output>/dropped.jsonl        one row a drop
    <output>/run.json             engine, workers, times: whatever does not belong to the data

A killed run leaves finished parts, which the next run keeps. Every step of the finish can be repeated.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from data_prep.engines import ENGINES, Outcome
from data_prep.finish import finish
from data_prep.sources import PrepError, Unit, open_source
from data_prep.stages import default_stages
from data_prep.unit import Job, Part, SourceSpec, encode_json, forget_source, read_part, run_unit
from medvlp.shards import ShardError
from medvlp.shards.atomic import PARTIAL, write_whole
from medvlp.shards.manifest import LEDGER, MANIFEST, PARTS, PLAN

TOOLS = ("medvlp", "imagehash", "numpy", "pillow", "pyarrow", "scipy")
"""Distributions whose version can change bytes: pixels and their hashes, the encoding of PNG and parquet."""


class UnitsFailed(Exception):
    """Some units ended in an error that is not the person's; the message names units and causes."""


@dataclass
class Result:
    """The ledger of a finished preparation, and whether this run had anything to do."""

    output: Path
    ledger: dict[str, Any]
    was_done: bool


def prepare(
    source: str,
    input: str,
    output: str | Path,
    workers: int = 1,
    engine: str = "local",
    samples_per_shard: int = 1000,
    max_pixels: int = 64_000_000,
    min_side: int = 16,
    flag: str = "",
) -> Result:
    """Turn a publisher's files into shards; the bytes depend on the input and the options, not on engine or workers.

    max_pixels: larger images are dropped; min_side: so are those with a shorter side, in pixels.
    Raises PrepError for what the person can mend, UnitsFailed for what they cannot; finished parts stay in both cases.
    """
    if engine not in ENGINES:
        raise PrepError(f"unknown engine {engine!r}; available: {', '.join(sorted(ENGINES))}")
    for name, value in {"workers": workers, "max_pixels": max_pixels, "min_side": min_side}.items():
        if value < 1:
            raise PrepError(f"{name} is {value}, expected 1 or more")
    if not str(output):
        raise PrepError("output is empty; give the folder that the shards should be written to")
    spec = SourceSpec(source, str(input), samples_per_shard, flag)
    reader = open_source(spec.name, spec.input, spec.samples_per_shard, spec.flag)
    output = Path(output).absolute()
    if input and output == Path(input).absolute():
        raise PrepError(f"output and input are the same folder, {output}; give shards a folder of their own")
    stages = default_stages(max_pixels, min_side)
    described = [{"stage": "read", "source": source, **reader.options(), "input": reader.fingerprint()}, *stages]
    tools = {name: _version(name) for name in sorted({*TOOLS, *reader.tools})}

    with _claim(output):
        _agree(output, {"stages": described, "tools": tools})
        if (output / LEDGER).exists():
            return Result(output, _finished(output), was_done=True)
        started = time.time()
        units = reader.units()
        parts, already = _do(output, units, spec, stages, engine, workers)
        run = {
            "engine": engine,
            "workers": workers,
            "input": str(Path(input).absolute()) if input else "",
            "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - started, 1),
            "units": len(units),
            "units_done_before": already,
        }
        ledger = finish(output, parts, described, tools, run)
    return Result(output, ledger, was_done=False)


def _finished(output: Path) -> dict[str, Any]:
    """The ledger of a finished folder, whose last files a kill may have left to tidy."""
    ledger = _read_object(output / LEDGER, {"in", "out", "drops", "splits"})
    for split in ledger["splits"]:
        if not (output / split / MANIFEST).exists():
            raise PrepError(f"{output}: {LEDGER} says finished, but {split}/{MANIFEST} is gone; give a new folder")
        shutil.rmtree(output / split / PARTS, ignore_errors=True)
    return ledger


def _read_object(path: Path, keys: set[str]) -> dict[str, Any]:
    """A JSON object with at least these keys."""
    try:
        content = json.loads(path.read_bytes())
        lacking = keys - content.keys()
        if lacking:
            raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
    except (ValueError, AttributeError) as error:
        raise PrepError(f"{path} is damaged ({error}); restore it, or prepare into a new folder") from None
    return dict(content)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


@contextmanager
def _claim(output: Path) -> Iterator[None]:
    """Hold the folder against a second preparation; the system lets go of it when the process ends, however it ends."""
    if output.exists() and not output.is_dir():
        raise PrepError(f"output={output} is a file; give a folder")
    if output.is_dir() and not (output / PLAN).exists() and any(not p.name.endswith(PARTIAL) for p in output.iterdir()):
        raise PrepError(f"output={output} holds files that no preparation wrote; give a new or an empty folder")
    output.mkdir(parents=True, exist_ok=True)
    handle = os.open(output, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Of a run that was killed while it wrote: this one holds the folder now.
        for leftover in list(output.rglob(f".*{PARTIAL}")):
            leftover.unlink()
        yield
    except BlockingIOError:
        raise PrepError(f"another preparation is writing to {output}; wait for it, or give another folder") from None
    finally:
        os.close(handle)


def _agree(output: Path, plan: dict[str, Any]) -> None:
    """Write the plan, or see that the one that the folder was begun with is this one."""
    path = output / PLAN
    if not path.exists():
        write_whole(path, encode_json(plan, indent=1) + b"\n")
        return
    begun = _read_object(path, {"stages", "tools"})
    if (output / LEDGER).exists():  # done is done: newer tools would only matter to shards still to be written
        begun, plan = {"stages": begun["stages"]}, {"stages": plan["stages"]}
    differences = list(_differences(begun, plan, ""))
    if differences:
        raise PrepError(
            f"{output} was begun with another configuration:\n  " + "\n  ".join(differences) + "\n"
            "give a new output folder, or the old configuration"
        )


def _differences(old: Any, new: Any, where: str) -> Iterator[str]:
    """Where two plans differ, a line each, by the names that a person knows."""
    if isinstance(old, list) and isinstance(new, list) and [_named(e) for e in old] == [_named(e) for e in new]:
        for before, now in zip(old, new, strict=True):
            yield from _differences(before, now, _named(before) or where)
    elif isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(name), new.get(name), f"{where}.{name}" if where else name)
    elif old != new:
        yield f"{where}: {_short(old)} there, {_short(new)} now"


def _named(entry: Any) -> str:
    return str(entry.get("stage", "")) if isinstance(entry, dict) else ""


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:12]}…"


def _do(
    output: Path, units: list[Unit], spec: SourceSpec, stages: list[dict[str, Any]], engine: str, workers: int
) -> tuple[list[Part], int]:
    """Do the units that are not done. Returns all parts in order, and how many were done before."""
    from tqdm import tqdm

    for split in {unit.split for unit in units}:
        (output / split / PARTS).mkdir(parents=True, exist_ok=True)
    parts = {(part.split, part.number): part for unit in units if (part := read_part(output, unit))}
    already = len(parts)
    jobs = [Job(spec, stages, output, unit) for unit in units if (unit.split, unit.number) not in parts]
    forget_source()
    failed: list[Outcome] = []
    with tqdm(total=len(units), initial=already, desc=spec.name, unit="shard") as progress:
        for outcome in ENGINES[engine](run_unit, jobs, workers):
            if outcome.error is not None:
                failed.append(outcome)
                continue
            done: Part = outcome.result
            parts[done.split, done.number] = done
            progress.update()
    if failed or len(parts) < len(units):
        _report(failed, len(units) - len(parts))
    return [parts[unit.split, unit.number] for unit in units], already


def _report(failed: list[Outcome], undone: int) -> None:
    lines = [f"{o.job.unit.split} unit {o.job.unit.number}: {type(o.error).__name__}: {o.error}" for o in failed]
    message = f"{undone} units are not done, the others are kept for the next run:\n  " + "\n  ".join(lines)
    if all(_is_clear(outcome) for outcome in failed):
        raise PrepError(message)
    raise UnitsFailed(message + "\n" + "\n".join(outcome.trace for outcome in failed if not _is_clear(outcome)))


def _is_clear(outcome: Outcome) -> bool:
    """Errors whose message is written for a person: ours, and the system's about files."""
    return isinstance(outcome.error, PrepError | ShardError | OSError)
