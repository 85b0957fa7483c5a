"""Runs of a `medvlp train` command: one, or one a stage, and all that can be said of them before anything is built."""

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlp.claims import refuse_other_kinds
from medvlp.config import (
    ConfigError,
    TaskConfig,
    TrainConfig,
    as_dict,
    check_ranks,
    compose,
    compose_stages,
    load_task,
    require_prepared,
)
from medvlp.distributed import launched_local_world_size, launched_rank, launched_world_size
from medvlp.runs.resuming import changes_of_weights, ended_as, has_ended, template_hashes
from medvlp.shards.storage import RemoteSettings, has_split, split_folder

RANK, WORLD_SIZE = launched_rank(), launched_world_size()


@dataclass(frozen=True)
class Run:
    """A run of the command: all of it, or a stage."""

    config: TrainConfig
    folder: Path
    checkpoint: Path | None
    """Where it goes on, if it does."""
    is_done: bool
    """A stage that an earlier command has brought to its end."""


def runs_of(overrides: Sequence[str]) -> list[Run]:
    """The runs of a command, with all that can be said of them without data or model.

    Raises:
        ConfigError: something cannot work.
    """
    config = compose("train", overrides)
    runs = []
    for stage in stages_of(config, overrides) if config.stages else [config]:
        check_ranks(stage, WORLD_SIZE, launched_local_world_size())
        require_prepared(stage)
        folder = Path(stage.run_root) / stage.run_name
        is_done = stage.resume == "auto" and bool(config.stages) and ended_as(folder, stage)
        runs.append(Run(stage, folder, None if is_done else starting_point(stage, folder), is_done))
    for run, successor in itertools.pairwise(runs):
        if has_ended(run.folder) and not run.is_done and (successor.is_done or successor.checkpoint):
            raise ConfigError(
                f"resume=auto: {run.folder} was done, and is configured otherwise now "
                f"({', '.join(changes_of_weights(run.folder, run.config))}), but {successor.folder} has begun from its weights. "
                f"Give another run_name, or what they were done with"
            )
    return runs


def facts(runs: Sequence[Run]) -> dict[str, tuple[str, str]]:
    """What must be the same on every rank before anything is built: (what is compared, how it is shown) by name."""
    from medvlp.training.agreement import code_facts, plain
    from medvlp.training.checkpoints import load_checkpoint

    compared = code_facts()
    for run in runs:
        stage = f"{run.folder.name}: " if len(runs) > 1 else ""
        for key, value in plain(as_dict(run.config)).items():
            if not re.fullmatch(
                r"data\.(sources\..*\.(path|shards)|remote\..*)", key
            ):  # nodes may have copies of their own
                compared[stage + key] = (value, value)
        for name, source in run.config.data.sources.items():
            folder = split_folder(source.path, RemoteSettings.from_options(**vars(run.config.data.remote)))
            digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
            compared[f"{stage}data.sources.{name}.path"] = (digest, f"{source.path} (manifest {digest[:12]})")
        for name, digest in template_hashes(run.config).items():
            compared[f"{stage}content of data.sources.{name}.label_templates"] = (digest, digest[:12])
        for name in run.config.tasks:
            compared[f"{stage}task {name}"] = task_fact(load_task(name))
        start = "done before" if run.is_done else "a fresh start"
        if run.checkpoint:
            content = load_checkpoint(run.checkpoint)
            weights = str(content["medvlp"].get("weights_sha256"))
            start = f"{run.checkpoint.name}, step {content['global_step']}, weights {weights[:12]}"
        compared[f"{stage}resume={run.config.resume}"] = (start, start)
    return compared


def task_fact(task: TaskConfig) -> tuple[str, str]:
    """What a task asks, and of which data, wherever those are."""
    split = f"{task.data}/{task.valid_split}"
    manifest = split_folder(split) / "manifest.json" if has_split(split) else None
    data = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest and manifest.is_file() else "absent"
    options = hashlib.sha256(repr({**vars(task), "data": ""}).encode()).hexdigest()
    return data + options, f"options {options[:12]}, {split} (manifest {data[:12]})"


def stages_of(config: TrainConfig, overrides: Sequence[str]) -> list[TrainConfig]:
    """The runs of a recipe with stages, each starting from the one before it.

    Raises:
        ConfigError: a stage's name or overrides are wrong, or `resume` names one checkpoint for several runs.
    """
    if config.resume not in ("none", "auto"):
        raise ConfigError(
            f"resume={config.resume}: this recipe has the stages {', '.join(config.stages)}; give resume=auto"
        )
    runs: list[TrainConfig] = []
    for name, run in compose_stages("train", config.stages, overrides).items():
        is_last = len(runs) == len(config.stages) - 1
        start = Path(runs[-1].run_root) / runs[-1].run_name / "checkpoints" / "last.ckpt" if runs else ""
        changes: dict[str, Any] = {"run_name": run.run_name if is_last else f"{run.run_name}__{name}", "stages": {}}
        runs.append(dataclasses.replace(run, init_from=run.init_from or str(start), **changes))
    return runs


def starting_point(config: TrainConfig, folder: Path) -> Path | None:
    """The checkpoint to resume from, if any.

    Raises:
        ConfigError: the folder holds a run that has begun and `resume` is none, or the checkpoint does not exist.
        ClaimError: the folder is another verb's.
        CheckpointError: checkpoints that cannot be read.
    """
    from medvlp.training.run_folder import is_blank

    if RANK == 0:
        refuse_other_kinds(folder, "train", "run_name")
    if config.resume == "none":
        if RANK == 0 and not is_blank(folder):
            raise ConfigError(f"{folder} exists; choose another run_name, or go on with resume=auto")
        return None
    if config.resume != "auto":
        path = Path(config.resume)
        if not path.is_file():
            raise ConfigError(f"resume={path}: no such file; give none, auto or a checkpoint's path")
        if RANK == 0 and folder.exists() and path.resolve().parents[1] != folder.resolve():
            raise ConfigError(f"resume={path} is not a checkpoint of {folder}, which exists; choose another run_name")
        return path
    if not (folder / "checkpoints").is_dir():
        return None
    from medvlp.training.checkpoints import newest

    return newest(folder / "checkpoints")


def check_unchanged(config: TrainConfig, folder: Path, checkpoint: Path | None) -> None:
    """The folder is as it was when the command began: before it was claimed, and while earlier stages ran, others could
    train there.

    Raises:
        ConfigError: a run has begun in it, or has gone on.
    """
    if config.resume not in ("none", "auto"):
        return
    present = starting_point(config, folder)
    if present != checkpoint:
        raise ConfigError(
            f"{folder}: another command has trained there since this one began (its checkpoint is {present} now); "
            f"start again, or choose another run_name"
        )
