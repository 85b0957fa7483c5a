"""The runs that a command of `medvlp train` describes, and all that can be said of them before anything is built."""

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medvlp.claims import refuse_other_kinds
from medvlp.config import (
    ConfigError,
    TaskConfig,
    TrainConfig,
    as_dict,
    check_ranks,
    compose,
    compose_stages,
    from_dict,
    load_task,
    read_text,
    require_prepared,
)
from medvlp.distributed import launched_local_world_size, launched_rank, launched_world_size

RANK, WORLD_SIZE = launched_rank(), launched_world_size()


@dataclass(frozen=True)
class Run:
    """A run of the command: all of it, or a stage. checkpoint: where it goes on, if it does."""

    config: TrainConfig
    folder: Path
    checkpoint: Path | None
    done: bool


def runs_of(words: Sequence[str]) -> list[Run]:
    """The runs of a command, with all that can be said of them without data or model.

    Raises:
        ConfigError: something cannot work.
    """
    config = compose("train", words)
    runs = []
    for stage in stages_of(config, words) if config.stages else [config]:
        check_ranks(stage, WORLD_SIZE, launched_local_world_size())
        require_prepared(stage)
        folder = Path(stage.run_root) / stage.run_name
        done = stage.resume == "auto" and bool(config.stages) and is_done(folder, stage)
        runs.append(Run(stage, folder, None if done else starting_point(stage, folder), done))
    for before, after in itertools.pairwise(runs):
        if was_done(before.folder) and not before.done and (after.done or after.checkpoint):
            raise ConfigError(
                f"resume=auto: {before.folder} was done, and is configured otherwise now "
                f"({', '.join(changed_since(before.folder, before.config))}), but {after.folder} has begun from its weights. "
                f"Give another run_name, or what they were done with"
            )
    return runs


def facts(runs: Sequence[Run]) -> dict[str, tuple[str, str]]:
    """What must be the same on every rank before anything is built: (what is compared, how it is shown) by name."""
    from medvlp.training.agreement import code_facts, plain

    told = code_facts()
    for run in runs:
        stage = f"{run.folder.name}: " if len(runs) > 1 else ""
        for key, value in plain(as_dict(run.config)).items():
            if not re.fullmatch(r"data\.sources\..*\.path", key):  # nodes may have copies of their own
                told[stage + key] = (value, value)
        for name, source in run.config.data.sources.items():
            digest = hashlib.sha256((Path(source.path) / "manifest.json").read_bytes()).hexdigest()
            told[f"{stage}data.sources.{name}.path"] = (digest, f"{source.path} (manifest {digest[:12]})")
        for name in run.config.tasks:
            told[f"{stage}task {name}"] = task_fact(load_task(name))
        start = "done before" if run.done else "a fresh start"
        if run.checkpoint:
            card = load_card(run.checkpoint)
            start = f"{run.checkpoint.name}, step {card['step']}, weights {card['weights'][:12]}"
        told[f"{stage}resume={run.config.resume}"] = (start, start)
    return told


def task_fact(task: TaskConfig) -> tuple[str, str]:
    """What a task asks, and of which data, wherever those are."""
    manifest = Path(task.data) / task.valid_split / "manifest.json"
    data = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else "absent"
    options = hashlib.sha256(repr({**vars(task), "data": ""}).encode()).hexdigest()
    return data + options, f"options {options[:12]}, {manifest.parent} (manifest {data[:12]})"


def load_card(checkpoint: Path) -> dict[str, Any]:
    """What tells a checkpoint from another: its step, and the hash of its weights that it states."""
    from medvlp.training.checkpoints import CheckpointError, load_checkpoint

    try:
        content = load_checkpoint(checkpoint)
    except CheckpointError as error:
        raise ConfigError(str(error)) from None
    return {"step": content["global_step"], "weights": str(content["medvlp"].get("weights_sha256"))}


def stages_of(config: TrainConfig, words: Sequence[str]) -> list[TrainConfig]:
    """The runs of a recipe with stages, each starting from the one before it.

    Raises:
        ConfigError: a stage's name or overrides are wrong, or `resume` names one checkpoint for several runs.
    """
    if config.resume not in ("none", "auto"):
        raise ConfigError(
            f"resume={config.resume}: this recipe has the stages {', '.join(config.stages)}; give resume=auto"
        )
    runs: list[TrainConfig] = []
    for name, run in compose_stages("train", config.stages, words).items():
        is_last = len(runs) == len(config.stages) - 1
        before = Path(runs[-1].run_root) / runs[-1].run_name / "checkpoints" / "last.ckpt" if runs else ""
        changes: dict[str, Any] = {"run_name": run.run_name if is_last else f"{run.run_name}__{name}", "stages": {}}
        runs.append(dataclasses.replace(run, init_from=run.init_from or str(before), **changes))
    return runs


def was_done(folder: Path) -> bool:
    """Whether a run came to its end."""
    from medvlp.training.run_folder import Status

    return bool(Status(folder).read().get("state") == "done")


def is_done(folder: Path, config: TrainConfig) -> bool:
    """Whether a run came to its end with this configuration: with another it may have to go on, or must not."""
    return was_done(folder) and not changed_since(folder, config)


OF_THE_WEIGHTS = (
    r"(seed|(model|objective|optim)\.|data\.(global_batch_size|shuffle_|augment|sources\.[^.]+\.(?!path))|"
    r"trainer\.(max_steps|max_epochs|accumulate|precision))"
)
"""Keys that decide what weights a run ends with; where its data lie, and what is logged, do not."""


def changed_since(folder: Path, config: TrainConfig) -> list[str]:
    """What differs between a run's config.yaml and a configuration, of what decides its weights: `key old → new` each."""
    from medvlp.builders import run_changes

    try:
        before = from_dict(yaml.safe_load(read_text(folder / "config.yaml")))
    except (ConfigError, OSError) as error:
        return [str(error)]
    return [change for change in run_changes(before, config) if re.match(OF_THE_WEIGHTS, change)]


def starting_point(config: TrainConfig, folder: Path) -> Path | None:
    """The checkpoint to resume from, if any.

    Raises:
        ConfigError: the folder holds a run that has begun and `resume` is none, or the checkpoint does not exist.
        ClaimError: the folder is another verb's.
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
    from medvlp.training.checkpoints import CheckpointError, newest

    try:
        return newest(folder / "checkpoints")
    except CheckpointError as error:
        raise ConfigError(str(error)) from None


def check_unchanged(config: TrainConfig, folder: Path, checkpoint: Path | None) -> None:
    """The folder is as it was when the command began: before it was claimed, and while earlier stages ran, others could
    train there.

    Raises:
        ConfigError: a run has begun in it, or has gone on.
    """
    if config.resume not in ("none", "auto"):
        return
    found = starting_point(config, folder)
    if found != checkpoint:
        raise ConfigError(
            f"{folder}: another command has trained there since this one began (its checkpoint is {found} now); "
            f"start again, or choose another run_name"
        )


def check_same_run(config: TrainConfig, checkpoint: Path, total_steps: int) -> None:
    """A resumed run goes on as it began: same seed, model, objective, optimizer, order and batch. What may change, and
    has, is said.

    Raises:
        ConfigError: names what differs and must not, or the checkpoint is past the run's end.
        CheckpointError: no run can go on from it.
    """
    from medvlp.builders import run_changes, run_differences
    from medvlp.training.checkpoints import check_resumable

    content = check_resumable(checkpoint)
    before = from_dict(content["medvlp"]["config"])
    differing = run_differences(before, config)
    if differing:
        raise ConfigError(
            f"resume={checkpoint}: {', '.join(differing)} differ from that run's. A resumed run goes on as it began; "
            f"for a change, start a new run with init_from={checkpoint}"
        )
    if content["global_step"] > total_steps:
        raise ConfigError(
            f"resume={checkpoint} is at step {content['global_step']}, past this run's end at step {total_steps}; raise "
            f"trainer.max_steps (or max_epochs), or resume from an earlier checkpoint"
        )
    changes = run_changes(before, config)
    if changes and RANK == 0:
        print(f"changed since {checkpoint}, and followed from here: {', '.join(changes)}", flush=True)
