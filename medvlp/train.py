"""`medvlp train`, and `torchrun -m medvlp.train` on several ranks: shards → runs/<run_name>/."""

import dataclasses
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from medvlp.config import ConfigError, TrainConfig, as_dict, compose, compose_stages, expand_grid, require_prepared
from medvlp.listing import verb_help

if TYPE_CHECKING:
    from medvlp.build import Experiment
    from medvlp.data.datamodule import TrainingData
    from medvlp.training.files import Status

RANK, WORLD_SIZE = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
STOPPED, FAULT = 3, 70


def main(argv: Sequence[str] | None = None) -> int:
    """Train one run, or every cell of a grid; see `medvlp train --help`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "--help" in words or "-h" in words:
        print(verb_help("train"))
        return 0
    multirun = any(word in ("-m", "--multirun") for word in words)
    words = [word for word in words if word not in ("-m", "--multirun")]
    try:
        cells = expand_grid("train", words, multirun)
        if len(cells) > 1 or cells[0] != words:
            return run_grid(cells)
        config = compose("train", words)
        runs = stages_of(config, words) if config.stages else [config]
        for run in runs:
            require_prepared(run)
        folders = [Path(run.run_root) / run.run_name for run in runs]
        done = [
            run.resume == "auto" and len(runs) > 1 and is_done(folder)
            for run, folder in zip(runs, folders, strict=True)
        ]
        checkpoints = [
            None if finished else starting_point(run, folder)
            for run, folder, finished in zip(runs, folders, done, strict=True)
        ]
    except ConfigError as error:
        return say(error)
    for run, folder, checkpoint, finished in zip(runs, folders, checkpoints, done, strict=True):
        if finished:
            print(f"{folder}: done before", flush=True)
            continue
        code = train(run, folder, checkpoint)
        if code:
            return code
    return 0


def stages_of(config: TrainConfig, words: Sequence[str]) -> list[TrainConfig]:
    """The runs of a recipe with stages, each starting from the one before it.

    Raises:
        ConfigError: a stage's name or overrides are wrong, or `resume` names one checkpoint for several runs.
    """
    if config.resume not in ("none", "auto"):
        raise ConfigError(
            f"resume={config.resume}: this recipe has the stages {', '.join(config.stages)}; give resume=auto"
        )
    wrong = [name for name in config.stages if not re.fullmatch(r"[A-Za-z0-9_.-]+", name)]
    if wrong:
        raise ConfigError(f"stages.{wrong[0]}: a stage's name becomes a folder's; use letters, digits, - and _")
    runs: list[TrainConfig] = []
    for name, run in compose_stages("train", config.stages, words).items():
        is_last = len(runs) == len(config.stages) - 1
        before = Path(runs[-1].run_root) / runs[-1].run_name / "checkpoints" / "last.ckpt" if runs else ""
        changes: dict[str, Any] = {"run_name": run.run_name if is_last else f"{run.run_name}__{name}", "stages": {}}
        runs.append(dataclasses.replace(run, init_from=run.init_from or str(before), **changes))
    return runs


def is_done(folder: Path) -> bool:
    """Whether a run came to its end."""
    from medvlp.training.files import Status

    return bool(Status(folder).read().get("state") == "done")


def run_grid(cells: list[list[str]]) -> int:
    """Every cell in a process of its own, one after the other; the first exit code that is not 0, if any."""
    if WORLD_SIZE > 1:
        raise ConfigError("a grid is not run under torchrun; launch one job a cell (launch/sweep.sbatch shows how)")
    codes = []
    for number, cell in enumerate(cells, start=1):
        print(f"cell {number}/{len(cells)}: {' '.join(cell)}", flush=True)
        codes.append(subprocess.run([sys.executable, "-m", "medvlp.train", *cell], check=False).returncode)
        if codes[-1] == STOPPED:
            break
    failed = [number for number, code in enumerate(codes, start=1) if code]
    print(
        f"{len(codes) - len(failed)} of {len(cells)} cells done" + (f"; failed or stopped: {failed}" if failed else "")
    )
    return next((code for code in codes if code), 0)


def starting_point(config: TrainConfig, folder: Path) -> Path | None:
    """The checkpoint to resume from, if any.

    Raises:
        ConfigError: the folder exists and `resume` is none, or the checkpoint does not exist.
    """
    if config.resume == "none":
        if RANK == 0 and folder.exists():
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


def train(config: TrainConfig, folder: Path, checkpoint: Path | None) -> int:
    """Build, fit, and leave the run's folder; returns the exit code."""
    import contextlib
    import traceback

    from medvlp.build import build_data, build_experiment
    from medvlp.data.loader import DataChanged
    from medvlp.data.units import Unreadable
    from medvlp.environment import settle
    from medvlp.models.pretrained import WeightsError
    from medvlp.shards import ShardError
    from medvlp.training.callbacks import TooManyBadSamples, UnknownMetric
    from medvlp.training.checkpoints import CheckpointError
    from medvlp.training.files import Status
    from medvlp.training.keeping import Diverged

    settle()
    broken_input = (CheckpointError, ConfigError, DataChanged, ShardError, WeightsError, OSError)
    found_in_training = (Diverged, TooManyBadSamples, UnknownMetric, Unreadable)
    status = Status(folder)
    try:
        experiment = build_experiment(config, resuming=checkpoint is not None)
        data = build_data(config, experiment)
        if checkpoint is not None:
            check_same_run(config, checkpoint, data.total_steps)
        return fit(config, folder, checkpoint, experiment, data, status)
    except Exception as error:
        users = isinstance(error, broken_input + found_in_training)
        if status.began:  # a command that was refused before it trained says nothing about the run in that folder
            with contextlib.suppress(OSError, ShardError):
                status.write("failed", status.step, str(error) if users else f"{type(error).__name__}: {error}")
        if users:
            return say(error)
        traceback.print_exc()
        return FAULT


def fit(
    config: TrainConfig,
    folder: Path,
    checkpoint: Path | None,
    experiment: "Experiment",
    data: "TrainingData",
    status: "Status",
) -> int:
    """Lightning's fit with our callbacks."""
    import lightning.pytorch as pl

    from medvlp.build import build_evaluation
    from medvlp.shards.atomic import remove_leftovers, write_text
    from medvlp.training.callbacks import BadSamples, Evaluation, Logs, Progress, Signals
    from medvlp.training.files import LOGS
    from medvlp.training.keeping import Checkpoints

    options, module = config.trainer, experiment.module
    evaluate = build_evaluation(config, experiment)
    if RANK == 0:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        write_text(folder / "config.yaml", yaml.safe_dump(as_dict(config), sort_keys=False))
        if checkpoint is None:
            for name in LOGS:
                (folder / name).unlink(missing_ok=True)
        write_left_out(folder / "left_out.jsonl", experiment.left_out)
    module.total_steps = data.total_steps
    announce(config, folder, checkpoint, experiment, data)
    logs = Logs(folder, options.log_every, config.data.log_samples, status)
    checkpoints = Checkpoints(folder / "checkpoints", options.checkpoint_every, options.monitor)
    total = sum(len(dataset) for _, dataset in data.units.sources)
    allowed = int(config.data.max_bad_fraction * total)
    signals = Signals(checkpoints)
    # The order matters: rows, then the checkpoint that they belong to, then evaluation, then a signal's stop.
    callbacks: list[pl.Callback] = [
        logs,
        BadSamples(folder, options.log_every, allowed, total),
        checkpoints,
        *([Evaluation(evaluate, options.eval_every, options.monitor, logs, checkpoints)] if evaluate else []),
        signals,
        Progress(logs),
    ]
    try:
        trainer = build_trainer(config, folder, checkpoint, callbacks)
    except (ValueError, RuntimeError) as error:  # Lightning's MisconfigurationException is a RuntimeError too
        raise ConfigError(f"trainer: {str(error).splitlines()[0]}") from None
    if options.compile:
        module.compile_towers()
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    trainer.strategy.barrier()  # a next stage, on any rank, starts from files that rank 0 has written
    if trainer.is_global_zero:
        state = "stopped" if signals.stopped_by else "done"
        status.write(state, trainer.global_step, signals.stopped_by)
        print(f"{state} at step {trainer.global_step}: {folder / 'checkpoints' / 'last.ckpt'}", flush=True)
        if state == "done":
            write_report(folder)
    return STOPPED if signals.stopped_by else 0


def build_trainer(config: TrainConfig, folder: Path, checkpoint: Path | None, callbacks: list[Any]) -> Any:
    """Lightning's trainer on the ranks that torchrun started."""
    import lightning.pytorch as pl

    from medvlp.training.checkpoints import WholeCheckpoints

    options = config.trainer
    return pl.Trainer(
        accelerator=options.accelerator,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        num_nodes=WORLD_SIZE // int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        strategy=options.strategy,
        precision=options.precision,  # type: ignore[arg-type]
        max_epochs=1,  # Lightning sees the whole run as one epoch; see TrainingLoader
        accumulate_grad_batches=options.accumulate,
        gradient_clip_val=config.optim.clip_norm or None,
        logger=build_loggers(config, folder, checkpoint),
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def write_left_out(path: Path, rows: list[dict[str, str]]) -> None:
    """The ledger of what is in the data and not trained on: a conversation too long, a damaged sample."""
    from medvlp.jsonl import write_rows

    path.unlink(missing_ok=True)
    if rows:
        write_rows(path, rows)
        print(f"{len(rows)} conversations or samples are left out of training; {path} names them", flush=True)


def write_report(folder: Path) -> None:
    """The run's page; a run is done with or without it."""
    from medvlp.report import write_run_report

    try:
        print(f"report: {write_run_report(folder)}", flush=True)
    except (OSError, ValueError) as error:
        print(f"no report: {error}; `medvlp report {folder}` tries again", file=sys.stderr, flush=True)


def build_loggers(config: TrainConfig, folder: Path, checkpoint: Path | None) -> list[Any]:
    """Lightning's loggers by name; metrics.jsonl is written whatever is chosen. A resumed run goes on in the same logs."""
    loggers: list[Any] = []
    for name in config.trainer.loggers:
        if name == "tensorboard":
            from lightning.pytorch.loggers import TensorBoardLogger

            purge = None if checkpoint is None else step_of(checkpoint) + 1
            loggers.append(TensorBoardLogger(str(folder), name="tensorboard", version="", purge_step=purge))
        else:
            from lightning.pytorch.loggers import WandbLogger

            from medvlp.shards.atomic import write_text

            identity = folder / "wandb_id.txt"
            if RANK == 0 and (checkpoint is None or not identity.exists()):
                write_text(identity, secrets.token_hex(4))
            loggers.append(
                WandbLogger(
                    name=config.run_name,
                    id=identity.read_text(encoding="utf-8") if RANK == 0 else None,
                    resume="allow",
                    save_dir=str(folder),
                    project="medvlp",
                    offline=name == "wandb-offline",
                    config=as_dict(config),
                )
            )
    return loggers


def step_of(checkpoint: Path) -> int:
    """The optimizer step that a checkpoint holds."""
    from medvlp.training.checkpoints import load_checkpoint

    return int(load_checkpoint(checkpoint)["global_step"])


def announce(
    config: TrainConfig, folder: Path, checkpoint: Path | None, experiment: "Experiment", data: "TrainingData"
) -> None:
    """Say what is about to happen, and what may surprise."""
    if RANK:
        return
    from torch.nn.modules.batchnorm import _BatchNorm

    start = f"resuming {checkpoint}" if checkpoint else "a fresh start"
    print(
        f"{folder}: {start}; {len(data.plan)} samples an epoch in {data.steps_per_epoch} steps of "
        f"{config.data.global_batch_size}"
        f"{f' ({data.left_out} left out of each epoch, others each time)' if data.left_out else ''}, "
        f"{data.total_steps} steps on {WORLD_SIZE} rank{'s' if WORLD_SIZE > 1 else ''}",
        flush=True,
    )
    learning = [
        name for name, part in experiment.module.model.named_modules() if isinstance(part, _BatchNorm) and part.training
    ]
    if learning and WORLD_SIZE > 1:
        print(
            f"note: batch norm trains ({learning[0]}, ...): each rank has its own statistics, so two are not one",
            flush=True,
        )


def check_same_run(config: TrainConfig, checkpoint: Path, total_steps: int) -> None:
    """A resumed run goes on as it began: same seed, model, objective, optimizer, order and batch. What may change, and
    has, is said.

    Raises:
        ConfigError: names what differs and must not, or the checkpoint is past the run's end.
        CheckpointError: no run can go on from it.
    """
    from medvlp.build import run_changes, run_differences
    from medvlp.config import from_dict
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


def say(error: Exception) -> int:
    """A user's mistake: the message, no traceback."""
    print(f"medvlp train: {error}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
