"""`medvlp train`, and `torchrun -m medvlp.train` on several ranks: shards → runs/<run_name>/."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from medvlp.config import ConfigError, TrainConfig, as_dict, compose, expand_grid, require_prepared
from medvlp.listing import verb_help

if TYPE_CHECKING:
    from medvlp.build import Experiment
    from medvlp.data.datamodule import TrainingData

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
        require_prepared(config)
        folder = Path(config.run_root) / config.run_name
        checkpoint = starting_point(config, folder)
    except ConfigError as error:
        return say(error)
    return train(config, folder, checkpoint)


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
    from medvlp.training.checkpoints import newest

    return newest(folder / "checkpoints")


def train(config: TrainConfig, folder: Path, checkpoint: Path | None) -> int:
    """Build, fit, and leave the run's folder; returns the exit code."""
    import traceback

    from medvlp.build import build_data, build_experiment
    from medvlp.data.loader import DataChanged
    from medvlp.data.units import Unreadable
    from medvlp.environment import settle
    from medvlp.models.pretrained import WeightsError
    from medvlp.shards import ShardError
    from medvlp.training.callbacks import TooManyBadSamples
    from medvlp.training.checkpoints import CheckpointError
    from medvlp.training.files import Status

    settle()
    users_fault = (
        ConfigError,
        CheckpointError,
        DataChanged,
        ShardError,
        TooManyBadSamples,
        Unreadable,
        WeightsError,
        OSError,
    )
    try:
        experiment = build_experiment(config)
        data = build_data(config, experiment)
        if checkpoint is not None:
            check_same_run(config, checkpoint)
        return fit(config, folder, checkpoint, experiment, data)
    except users_fault as error:
        step = Status(folder).read().get("step", 0) if folder.is_dir() else 0
        if folder.is_dir():
            Status(folder).write("failed", step, str(error))
        return say(error)
    except Exception as error:
        if folder.is_dir():
            Status(folder).write("failed", Status(folder).read().get("step", 0), f"{type(error).__name__}: {error}")
        traceback.print_exc()
        return FAULT


def fit(
    config: TrainConfig, folder: Path, checkpoint: Path | None, experiment: "Experiment", data: "TrainingData"
) -> int:
    """Lightning's fit with our callbacks."""
    import lightning.pytorch as pl

    from medvlp.build import build_evaluation
    from medvlp.training.callbacks import BadSamples, Evaluation, Logs, Progress, Signals
    from medvlp.training.checkpoints import Checkpoints, WholeCheckpoints
    from medvlp.training.files import LOGS

    options, module = config.trainer, experiment.module
    evaluate = build_evaluation(config, experiment)
    if RANK == 0:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(as_dict(config), sort_keys=False), encoding="utf-8")
        if checkpoint is None:
            for name in LOGS:
                (folder / name).unlink(missing_ok=True)
    module.total_steps = data.total_steps
    announce(config, folder, checkpoint, data)
    logs = Logs(folder, options.log_every, config.data.log_samples)
    checkpoints = Checkpoints(folder / "checkpoints", options.checkpoint_every)
    total = sum(len(dataset) for _, dataset in data.units.sources)
    allowed = int(config.data.max_bad_fraction * total)
    signals = Signals(checkpoints)
    # The order matters: rows, then evaluation, then the checkpoint that they belong to, then a signal's stop.
    callbacks: list[pl.Callback] = [
        logs,
        BadSamples(folder, options.log_every, options.checkpoint_every, allowed, total),
        *([Evaluation(evaluate, options.eval_every, options.monitor, logs, checkpoints)] if evaluate else []),
        checkpoints,
        signals,
        Progress(logs),
    ]
    trainer = pl.Trainer(
        accelerator=options.accelerator,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        num_nodes=WORLD_SIZE // int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        strategy=options.strategy,
        precision=options.precision,  # type: ignore[arg-type]
        max_epochs=1,  # Lightning sees the whole run as one epoch; see TrainingLoader
        accumulate_grad_batches=options.accumulate,
        gradient_clip_val=config.optim.clip_norm or None,
        logger=build_loggers(config, folder),
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    if options.compile:
        module.compile_towers()
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    if trainer.is_global_zero:
        state = "stopped" if signals.stopped_by else "done"
        logs.status.write(state, trainer.global_step, signals.stopped_by)
        print(f"{state} at step {trainer.global_step}: {folder / 'checkpoints' / 'last.ckpt'}", flush=True)
        if state == "done":
            from medvlp.report import write_run_report

            print(f"report: {write_run_report(folder)}", flush=True)
    return STOPPED if signals.stopped_by else 0


def build_loggers(config: TrainConfig, folder: Path) -> list[Any]:
    """Lightning's loggers by name; metrics.jsonl is written whatever is chosen."""
    loggers: list[Any] = []
    for name in config.trainer.loggers:
        if name == "tensorboard":
            from lightning.pytorch.loggers import TensorBoardLogger

            loggers.append(TensorBoardLogger(str(folder), name="tensorboard", version=""))
        else:
            from lightning.pytorch.loggers import WandbLogger

            offline = name == "wandb-offline"
            run = WandbLogger(name=config.run_name, save_dir=str(folder), project="medvlp", offline=offline)
            run.log_hyperparams(as_dict(config))
            loggers.append(run)
    return loggers


def announce(config: TrainConfig, folder: Path, checkpoint: Path | None, data: "TrainingData") -> None:
    """Say what is about to happen."""
    if RANK:
        return
    start = f"resuming {checkpoint}" if checkpoint else "a fresh start"
    units = len(data.plan)
    print(
        f"{folder}: {start}; {units} samples an epoch in {data.steps_per_epoch} steps of {config.data.global_batch_size}"
        f"{f' ({data.left_out} left out of each epoch, others each time)' if data.left_out else ''}, "
        f"{data.total_steps} steps on {WORLD_SIZE} rank{'s' if WORLD_SIZE > 1 else ''}",
        flush=True,
    )


def check_same_run(config: TrainConfig, checkpoint: Path) -> None:
    """A resumed run goes on as it began: same seed, model, objective, order and batch.

    Raises:
        ConfigError: names what differs.
    """
    from medvlp.build import data_differences
    from medvlp.config import from_dict
    from medvlp.training.checkpoints import load_checkpoint

    before = from_dict(load_checkpoint(checkpoint)["medvlp"]["config"])
    differing = [name for name in ("seed", "model", "objective") if getattr(before, name) != getattr(config, name)]
    differing += data_differences(before.data, config.data)
    if before.trainer.accumulate != config.trainer.accumulate:
        differing.append("trainer.accumulate")
    if differing:
        raise ConfigError(
            f"resume={checkpoint}: {', '.join(differing)} differ from that run's. A resumed run goes on as it began; "
            f"for a change, start a new run with init_from={checkpoint}"
        )


def say(error: Exception) -> int:
    """A user's mistake: the message, no traceback."""
    print(f"medvlp train: {error}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
