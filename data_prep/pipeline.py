"""Preparation: plan units, do those that are not done, settle what concerns all samples, then number shards and sign.

    <output>/.plan.json           what is being prepared, written first: a second run must mean the same
    <output>/.parts/              shards of finished units, until all is finished (or in `cache`, where they stay)
    <output>/<split>/             the split, as the shard contract says
    <output>/dropped.jsonl        one row a drop; copies.jsonl and pairs.json: the copies that were found
    <output>/ledger.json          in = out + Σ drops; written last
    <output>/run.json             engine, workers, times: whatever does not belong to the data

A killed run leaves finished parts, which the next run keeps. Every step of the finish can be repeated.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_prep.engines import ENGINES, Outcome
from data_prep.finish import finish, lay_out
from data_prep.jsons import encode_json
from data_prep.plan import Plan, make_plan
from data_prep.settling import settle
from data_prep.sources import PrepError, Unit
from data_prep.unit import CopyJob, Job, Part, SourceSpec, forget_source, read_part, run_job
from medvlp.config import ConfigError, PrepConfig, check
from medvlp.shards import ShardError, read_manifest
from medvlp.shards.atomic import PARTIAL, write_whole
from medvlp.shards.manifest import LEDGER, MANIFEST, PARTS, PLAN

DESCRIPTIONS = ("README.md", "croissant.json", "ATTRIBUTION.md", "attribution.csv")
LOCK = ".lock"


class UnitsFailed(Exception):
    """Some units ended in an error that is not the person's; the message names units and causes."""


@dataclass
class Result:
    """What a preparation came to."""

    output: Path
    ledger: dict[str, Any] | None
    """None where the finish is another run's: of an array of tasks, or one that was only written down."""
    was_done: bool = False
    """Nothing was left to do."""
    message: str = ""
    """What the person should do next, where there is no ledger."""


def prepare(source: str, input: str, output: str | Path, workers: int = 1, **choices: Any) -> Result:
    """Turn a publisher's files into shards; the bytes depend on the input and the choices, not on engine or workers.

    choices: fields of PrepConfig. Raises PrepError for what the person can mend, UnitsFailed for what they cannot;
    finished parts stay in both cases.
    """
    return run_preparation(PrepConfig(source=source, input=str(input), output=str(output), workers=workers, **choices))


def run_preparation(config: PrepConfig, words: Sequence[str] = ()) -> Result:
    """As `prepare`, from a configuration. words: the command line that made it, for the scripts of engine=slurm."""
    try:
        check(config)
    except ConfigError as error:
        raise PrepError(str(error)) from None
    if not config.output:
        raise PrepError("output is empty; give the folder that the shards should be written to")
    output = Path(config.output).absolute()
    if config.input and output == Path(config.input).absolute():
        raise PrepError(f"output and input are the same folder, {output}; give shards a folder of their own")
    if config.input and output.is_relative_to(Path(config.input).absolute()):
        raise PrepError(f"output {output} lies in the input folder, where the next run would read it; choose another")
    if config.cache and (cache := Path(config.cache).absolute()) and (cache == output or output in cache.parents):
        raise PrepError(
            f"cache={cache} lies in the output folder; it is for several outputs: give it a place of its own"
        )
    options = encode_json(config.options, sort=True).decode()
    spec = SourceSpec(config.source, config.input, config.samples_per_shard, config.flag, options)
    reader = spec.open()
    plan = make_plan(config, reader)
    task = None
    if config.engine == "slurm":
        from data_prep.engines import slurm

        task = slurm.task()

    with _claim(output, shared=task is not None):
        _agree(output, plan, config.cache)
        if (output / LEDGER).exists():
            ledger = _finished(output)
            if not all((output / name).exists() for name in DESCRIPTIONS):
                _describe(output, ledger)
            return Result(output, ledger, was_done=True)
        units = reader.units()
        del reader  # tables of the source are read anew where units are done, and should not be there twice
        for split in {unit.split for unit in units}:
            (output / split).mkdir(exist_ok=True)
        with _parts_folder(output, config.cache) as folder:
            jobs = [Job(spec, plan.stages, folder, unit, plan.digest(unit)) for unit in units]
            if task is not None:
                share = slurm.share(jobs, *task)
                _do(config, share, [_name(job.unit) for job in share], config.source)
                return Result(output, None, message=f"task {task[0]} of {task[1]} has done its {len(share)} units")
            if config.engine == "slurm":
                return Result(output, None, message=slurm.write_scripts(output, words, config.workers))
            ledger = _do_and_finish(config, output, folder, plan, jobs)
        shutil.rmtree(output / PARTS, ignore_errors=True)
        _describe(output, ledger)
    return Result(output, ledger)


def _describe(output: Path, ledger: dict[str, Any]) -> None:
    """The card, the Croissant description and the attribution of what is there."""
    from medvlp.report import write_provenance  # matplotlib takes its time

    if ledger["out"]:
        write_provenance(output)


def _do_and_finish(config: PrepConfig, output: Path, folder: Path, plan: Plan, jobs: list[Job]) -> dict[str, Any]:
    started = time.time()
    parts, already = _do(config, jobs, [_name(job.unit) for job in jobs], config.source)
    forget_source()
    settled = settle(folder, parts, plan.settling, config.decontaminate)
    layout = lay_out(folder, parts, settled, config.samples_per_shard)
    copies = [shard for shards in layout.values() for shard in shards if isinstance(shard, CopyJob)]
    copied, _ = _do(config, copies, [f"{copy.split} copy {n}" for n, copy in enumerate(copies)], "copying")
    made = dict(zip((copy.digest for copy in copies), copied, strict=True))
    shards = {
        split: [made[shard.digest] if isinstance(shard, CopyJob) else shard for shard in its]
        for split, its in layout.items()
    }
    run = {
        "engine": config.engine,
        "workers": config.workers,
        # Folders are named after patients, too.
        "input": str(Path(config.input).absolute()) if config.input and not plan.hides else "",
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - started, 1),
        "units": len(jobs),
        "units_done_before": already,
    }
    return finish(output, folder, parts, settled, shards, plan, run)


def _name(unit: Unit) -> str:
    return f"{unit.split} unit {unit.number}"


def _finished(output: Path) -> dict[str, Any]:
    """The ledger of a finished folder, whose last files a kill may have left to tidy."""
    ledger = _read_object(output / LEDGER, {"in", "out", "drops", "splits"})
    for split in ledger["splits"]:
        if not (output / split / MANIFEST).exists():
            raise PrepError(f"{output}: {LEDGER} says finished, but {split}/{MANIFEST} is gone; give a new folder")
        gone = [name for name in read_manifest(output / split)[0].files if not (output / split / name).exists()]
        if gone:
            raise PrepError(
                f"{output}: {LEDGER} says finished, but of {split} {', '.join(gone[:3])} is gone; restore it"
            )
    shutil.rmtree(output / PARTS, ignore_errors=True)
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


@contextmanager
def _claim(output: Path, shared: bool) -> Iterator[None]:
    """Hold the folder against a second preparation; the system lets go of it when the process ends, however it ends.

    shared: with the other tasks of an array, each of which does units of its own.
    """
    if output.exists() and not output.is_dir():
        raise PrepError(f"output={output} is a file; give a folder")
    if (
        output.is_dir()
        and not (output / PLAN).exists()
        and any(not p.name.endswith((PARTIAL, LOCK)) for p in output.iterdir())
    ):
        raise PrepError(f"output={output} holds files that no preparation wrote; give a new or an empty folder")
    output.mkdir(parents=True, exist_ok=True)
    # A file, opened to write: network file systems lock nothing else between machines.
    handle = os.open(output / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if not shared:
            _remove_leftovers(output)
        yield
    except BlockingIOError:
        raise PrepError(f"another preparation is writing to {output}; wait for it, or give another folder") from None
    finally:
        os.close(handle)


def _remove_leftovers(folder: Path) -> None:
    """Files of a run that was killed while it wrote, in a folder that nobody else holds."""
    for leftover in list(folder.rglob(f".*{PARTIAL}")):
        leftover.unlink(missing_ok=True)


@contextmanager
def _parts_folder(output: Path, cache: str) -> Iterator[Path]:
    """Where parts are: inside the output, or in the cache, which several preparations may use at once."""
    folder = Path(cache).absolute() if cache else output / PARTS
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if cache:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_leftovers(folder)
            except BlockingIOError:
                pass  # others are at work here: what looks left over may be theirs
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield folder
    finally:
        os.close(handle)


def _agree(output: Path, plan: Plan, cache: str) -> None:
    """Write the plan, or see that the one that the folder was begun with is this one.

    Of an unfinished folder the input may have changed: units are known by what they read.
    """
    path = output / PLAN
    now: dict[str, Any] = {"stages": plan.described(), "tools": plan.tools}
    if path.exists():
        begun = _read_object(path, {"stages", "tools"})
        finished = (output / LEDGER).exists()
        if finished:  # done is done: newer tools would only matter to shards still to be written
            begun["tools"] = now["tools"]
        elif _but_input(begun["stages"]) == _but_input(now["stages"]):
            begun["stages"] = now["stages"]
        if differences := list(_differences(begun, now, "")):
            raise PrepError(_invalidated(output, differences, begun, plan, cache))
        if finished:
            return
    write_whole(path, encode_json(now, indent=1) + b"\n")


def _but_input(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in stage.items() if name != "input"} for stage in stages]


def _invalidated(output: Path, differences: list[str], begun: dict[str, Any], plan: Plan, cache: str) -> str:
    """What changed, what that makes worthless, and what to do."""
    reading = [plan.read, *plan.stages]
    if begun["tools"] != plan.tools or _but_input(begun["stages"])[: len(reading)] != reading:
        lost = "every unit has to be done anew"
    elif any(stage.get("stage") == "read" and stage["input"] != plan.input for stage in begun["stages"]):
        lost = "units that read what changed have to be done anew"
    else:
        lost = "units stay as they are, splits and shards have to be made anew"
    keep = "" if cache or lost.startswith("every") else "; with cache=<folder>, units are kept for other outputs"
    return (
        f"{output} was begun with another configuration:\n  " + "\n  ".join(differences) + f"\n{lost}{keep}: "
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


def _do(config: PrepConfig, jobs: Sequence[Job | CopyJob], names: Sequence[str], what: str) -> tuple[list[Part], int]:
    """Do the jobs that are not done. Returns all parts in order, and how many were done before."""
    from tqdm import tqdm

    parts = {job.digest: part for job in jobs if (part := read_part(job.folder, job.digest, bool(config.cache)))}
    already = len(parts)
    left = [job for job in jobs if job.digest not in parts]
    if not left:
        return [parts[job.digest] for job in jobs], already
    forget_source()
    failed: list[Outcome] = []
    with tqdm(total=len(jobs), initial=already, desc=what, unit="shard") as progress:
        for outcome in _engine(config, left):
            if outcome.error is not None:
                failed.append(outcome)
                continue
            parts[outcome.result.digest] = outcome.result
            progress.update()
    if failed or len(parts) < len(jobs):
        called = dict(zip((job.digest for job in jobs), names, strict=True))
        _report(failed, called, len(jobs) - len(parts))
    return [parts[job.digest] for job in jobs], already


def _engine(config: PrepConfig, jobs: Sequence[Job | CopyJob]) -> Iterator[Outcome]:
    if config.engine == "ray":
        return ENGINES["ray"](run_job, jobs, config.workers, retries=config.retries, address=config.ray_address)
    workers = 1 if config.engine == "slurm" else config.workers  # of an array, workers counts tasks
    return ENGINES["local"](run_job, jobs, workers, retries=config.retries)


def _report(failed: list[Outcome], called: dict[str, str], undone: int) -> None:
    lines = [f"{called[o.job.digest]}: {type(o.error).__name__}: {o.error}" for o in failed]
    message = f"{undone} units are not done, the others are kept for the next run:\n  " + "\n  ".join(lines)
    if all(_is_clear(outcome) for outcome in failed):
        raise PrepError(message)
    raise UnitsFailed(message + "\n" + "\n".join(outcome.trace for outcome in failed if not _is_clear(outcome)))


def _is_clear(outcome: Outcome) -> bool:
    """Errors whose message is written for a person: ours, and the system's about files."""
    return isinstance(outcome.error, PrepError | ShardError | OSError)
