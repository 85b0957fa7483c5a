"""Preparation: plan units, do those that are not done, apply the dataset stages, then number shards and sign.

    <output>/.plan.json           what is being prepared, written first: a second run must mean the same
    <output>/.parts/              shards of finished units, until all is finished (or in `cache`, where they stay)
    <output>/<split>/             the split, as the shard contract says
    <output>/dropped.jsonl        one row a drop; copies.jsonl and pairs.json: the copies that were found
    <output>/leakage.jsonl        what of held-out splits is in train; conflicts.jsonl: one picture under two labels
    <output>/ledger.json          in = out + Σ drops; written last
    <output>/SHA256SUMS           the files next to the splits, signed: `sha256sum -c` and `medvlp verify` check it
    <output>/run.json             engine, workers, times: whatever does not belong to the data

A killed run leaves finished parts, which the next run keeps. Every step of finalisation can be repeated.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_prep.dataset_stages.apply import apply_dataset_stages
from data_prep.draft import Counts
from data_prep.engines import ENGINES, JobOutcome
from data_prep.errors import PrepError
from data_prep.finalize import finalize, lay_out
from data_prep.jobs import CopyJob, Job, Part, SourceSpec, forget_source, read_part, run_job
from data_prep.ledger.classes import vanished
from data_prep.plan import PreparationPlan, make_plan
from data_prep.source import Unit
from data_prep.workspace import agree, claim, parts_folder, read_object, withdraw_plan
from medvlp.combinations import CombinationError
from medvlp.config import ConfigError, PrepConfig
from medvlp.errors import Fault
from medvlp.jsonl import encode_json
from medvlp.shards import ShardError, read_manifest
from medvlp.shards.manifest import LEDGER, MANIFEST, PARTS
from medvlp.shards.sums import SUMS, write_sums

DESCRIPTIONS = ("README.md", "croissant.json", "ATTRIBUTION.md", "attribution.csv")


class UnitsFailed(Fault):
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

    choices: fields of PrepConfig. Raises PrepError for what the person can fix, UnitsFailed for what they cannot;
    finished parts stay in both cases.
    """
    return run_preparation(PrepConfig(source=source, input=str(input), output=str(output), workers=workers, **choices))


def run_preparation(config: PrepConfig, overrides: Sequence[str] = ()) -> Result:
    """As `prepare`, from a configuration. overrides: the command line that made it, for the scripts of engine=slurm."""
    try:
        config.check()
    except (ConfigError, CombinationError) as error:
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

    with claim(output, is_shared=task is not None):
        agree(output, plan, config.cache)
        if (output / LEDGER).exists():
            ledger = _finished(output)
            if not all((output / name).exists() for name in DESCRIPTIONS):
                _write_descriptions(output, ledger, plan.facts)
            if not (output / SUMS).exists():
                write_sums(output)
            return Result(output, ledger, was_done=True)
        units = reader.units()
        ignored = Counter({("read", subject): number for subject, number in reader.input_counts.items()})
        del reader  # tables of the source are read again where units are done, and should not be in memory twice
        for split in {unit.split for unit in units}:
            (output / split).mkdir(exist_ok=True)
        with parts_folder(output, config.cache) as folder:
            jobs = [Job(spec, plan.stages, folder, unit, plan.digest(unit)) for unit in units]
            if task is not None:
                share = slurm.share(jobs, *task)
                _run_jobs(config, share, [_name(job.unit) for job in share], config.source)
                return Result(output, None, message=f"task {task[0]} of {task[1]} has done its {len(share)} units")
            if config.engine == "slurm":
                return Result(output, None, message=slurm.write_scripts(output, overrides, config.workers))
            ledger = _run(config, output, folder, plan, jobs, ignored)
        shutil.rmtree(output / PARTS, ignore_errors=True)
        _write_descriptions(output, ledger, plan.facts)
        write_sums(output)
    return Result(output, ledger)


def _write_descriptions(output: Path, ledger: dict[str, Any], source: dict[str, Any]) -> None:
    """The card, the Croissant description and the attribution of what is there."""
    from medvlp.report import write_provenance  # matplotlib takes its time

    if ledger["out"]:
        write_provenance(output, source)


def _run(
    config: PrepConfig, output: Path, folder: Path, plan: PreparationPlan, jobs: list[Job], ignored: Counts
) -> dict[str, Any]:
    started = time.time()
    parts, done_before = _run_jobs(config, jobs, [_name(job.unit) for job in jobs], config.source)
    forget_source()
    try:
        decisions = apply_dataset_stages(folder, parts, plan.dataset_stages, config.decontaminate)
    except CombinationError as error:  # nothing is decided: another holdout_by may go on with these units
        withdraw_plan(output)
        raise PrepError(f"{error}. The units are done, and stay: give another holdout_by") from None
    decisions.counts.update(ignored)
    decisions.vanished = vanished(folder, parts, decisions.is_kept_N)
    layout = lay_out(folder, parts, decisions, config.samples_per_shard)
    copies = [shard for shards in layout.values() for shard in shards if isinstance(shard, CopyJob)]
    copied, _ = _run_jobs(config, copies, [f"{copy.split} copy {n}" for n, copy in enumerate(copies)], "copying")
    part_by_digest = dict(zip((copy.digest for copy in copies), copied, strict=True))
    shards = {
        split: [part_by_digest[shard.digest] if isinstance(shard, CopyJob) else shard for shard in shards_of_split]
        for split, shards_of_split in layout.items()
    }
    run = {
        "engine": config.engine,
        "workers": config.workers,
        # Folders are named after patients, too; and where a machine keeps its files is no affair of the readers'.
        "input": shown_input(config.input) if not plan.is_deidentified else "",
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - started, 1),
        "units": len(jobs),
        "units_done_before": done_before,
    }
    return finalize(output, folder, parts, decisions, shards, plan, run)


def shown_input(input: str) -> str:
    """What was prepared, as it was named, without the folders of the machine above it."""
    path = Path(input)
    return path.name if path.is_absolute() or ".." in path.parts else input


def _name(unit: Unit) -> str:
    return f"{unit.split} unit {unit.number}"


def _finished(output: Path) -> dict[str, Any]:
    """The ledger of a finished folder, whose last files a kill may have left to tidy."""
    ledger = read_object(output / LEDGER, **{"in": int}, out=int, drops=dict, splits=dict)
    for split in ledger["splits"]:
        if not (output / split / MANIFEST).exists():
            raise PrepError(f"{output}: {LEDGER} says finished, but {split}/{MANIFEST} is gone; give a new folder")
        missing = [name for name in read_manifest(output / split)[0].files if not (output / split / name).exists()]
        if missing:
            raise PrepError(
                f"{output}: {LEDGER} says finished, but of {split} {', '.join(missing[:3])} is gone; restore it"
            )
    shutil.rmtree(output / PARTS, ignore_errors=True)
    return ledger


def _run_jobs(
    config: PrepConfig, jobs: Sequence[Job | CopyJob], names: Sequence[str], title: str
) -> tuple[list[Part], int]:
    """Do the jobs that are not done. Returns all parts in order, and how many were done before."""
    from tqdm import tqdm

    parts = {job.digest: part for job in jobs if (part := read_part(job.folder, job.digest, bool(config.cache)))}
    done_before = len(parts)
    remaining = [job for job in jobs if job.digest not in parts]
    if not remaining:
        return [parts[job.digest] for job in jobs], done_before
    forget_source()
    failed: list[JobOutcome] = []
    with tqdm(total=len(jobs), initial=done_before, desc=title, unit="shard") as progress:
        for outcome in _engine(config, remaining):
            if outcome.error is not None:
                failed.append(outcome)
                continue
            parts[outcome.result.digest] = outcome.result
            progress.update()
    if failed or len(parts) < len(jobs):
        name_by_digest = dict(zip((job.digest for job in jobs), names, strict=True))
        _report(failed, name_by_digest, len(jobs) - len(parts))
    return [parts[job.digest] for job in jobs], done_before


def _engine(config: PrepConfig, jobs: Sequence[Job | CopyJob]) -> Iterator[JobOutcome]:
    if config.engine == "ray":
        return ENGINES["ray"](run_job, jobs, config.workers, retries=config.retries, address=config.ray_address)
    workers = 1 if config.engine == "slurm" else config.workers  # of an array, workers counts tasks
    return ENGINES["local"](run_job, jobs, workers, retries=config.retries)


def _report(failed: list[JobOutcome], name_by_digest: dict[str, str], undone: int) -> None:
    lines = [f"{name_by_digest[o.job.digest]}: {type(o.error).__name__}: {o.error}" for o in failed]
    message = f"{undone} units are not done, the others are kept for the next run:\n  " + "\n  ".join(lines)
    if all(_is_clear(outcome) for outcome in failed):
        raise PrepError(message)
    raise UnitsFailed(message + "\n" + "\n".join(outcome.trace for outcome in failed if not _is_clear(outcome)))


def _is_clear(outcome: JobOutcome) -> bool:
    """Errors whose message is written for a person: ours, and the system's about files."""
    return isinstance(outcome.error, PrepError | ShardError | OSError)
