"""Lightning's trainer and loggers from a run's configuration."""

import importlib.util
import secrets
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.plugins import HalfPrecision, Precision
from lightning.pytorch.plugins.io import TorchCheckpointIO

from medvlp.config import ConfigError, TrainConfig, as_dict, check_name
from medvlp.distributed import launched_local_world_size, launched_rank, launched_world_size
from medvlp.models.parts import part_of
from medvlp.models.weights import first_line
from medvlp.shards.atomic import write_text
from medvlp.training.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from medvlp.training.sharding import ShardedTowers

RANK, WORLD_SIZE = launched_rank(), launched_world_size()


class WholeCheckpoints(TorchCheckpointIO):
    """Writes next to the target, syncs, renames. Lightning's own moves from the temporary folder, which is not atomic
    across file systems. Reads what is whole only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        save_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return load_checkpoint(path)


@contextmanager
def taking_up(checkpoint: Path | None) -> Iterator[None]:
    """While a run goes on from a checkpoint: what Lightning cannot restore of it is the checkpoint's fault.

    Raises:
        CheckpointError: says what, and what can still be done with it.
    """
    try:
        yield
    except Exception as error:
        is_ours = type(error).__module__.partition(".")[0] == "medvlp" or isinstance(error, OSError)
        frames = traceback.extract_tb(error.__traceback__)
        restoring = any(Path(f.filename).name == RESTORING and f.name.startswith(("resume", "restore")) for f in frames)
        if checkpoint is None or is_ours or not restoring:
            raise
        raise CheckpointError(
            f"resume={checkpoint}: the state of its run cannot be taken up ({type(error).__name__}: {first_line(error)}): it "
            f"is damaged, edited or of another version; start a new run with init_from={checkpoint}"
        ) from None


RESTORING = "checkpoint_connector.py"
"""Lightning's file that restores."""


class HalfTowers(HalfPrecision):
    """bf16-true with the logit scale and bias in single precision: near its start the scale has steps of 2^-6 in bfloat16,
    far more than an update moves it."""

    def convert_module(self, module: Any) -> Any:
        parameters = module.model.named_parameters()
        scales = [(p, p.data) for name, p in parameters if part_of(name, module.parts) == "logit_scale"]
        module = super().convert_module(module)
        for parameter, value in scales:  # as it was: a run that goes on comes with its own
            parameter.data = value.float()
        return module


def precision_plugin(precision: str) -> Precision | None:
    """Our own for a precision; None where Lightning's will do."""
    return HalfTowers("bf16-true") if precision == "bf16-true" else None


def build_trainer(
    config: TrainConfig, folder: Path, checkpoint: Path | None, callbacks: list[Any], whole_steps: bool = False
) -> Any:
    """Lightning's trainer on the ranks that torchrun started.

    whole_steps: a batch is a whole step, so Lightning has none to accumulate.

    Raises:
        ConfigError: an accelerator, a precision or a number of devices that this machine does not have.
    """
    options, devices = config.trainer, launched_local_world_size()
    plugin = precision_plugin(options.precision)
    try:
        return pl.Trainer(
            accelerator=options.accelerator,
            devices=devices,
            num_nodes=WORLD_SIZE // devices,
            strategy=ShardedTowers() if options.strategy == "fsdp" else options.strategy,
            precision=None if plugin else options.precision,  # type: ignore[arg-type]
            max_epochs=1,  # Lightning sees the whole run as one epoch; see TrainingLoader
            accumulate_grad_batches=1 if whole_steps else options.accumulate,
            gradient_clip_val=config.optim.clip_norm or None,
            logger=build_loggers(config, folder, checkpoint),
            callbacks=callbacks,
            plugins=[WholeCheckpoints(), *([plugin] if plugin else [])],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        settings = f"trainer.accelerator={options.accelerator}, trainer.precision={options.precision}, {devices} a node"
        raise ConfigError(f"{settings}: {str(error).splitlines()[0]}") from None


def check_devices(accelerator: str, ranks: int) -> None:
    """There is a GPU for each of this node's ranks, where GPUs are used.

    Raises:
        ConfigError: there is not; says what to start instead.
    """
    gpus = torch.cuda.device_count()
    if accelerator == "gpu" and not gpus:
        raise ConfigError("trainer.accelerator=gpu, but PyTorch finds no GPU here; use trainer.accelerator=auto or cpu")
    if accelerator in ("auto", "gpu") and 0 < gpus < ranks:
        raise ConfigError(
            f"{ranks} ranks on this node, which has {gpus} GPU{'s' if gpus > 1 else ''}: start {gpus} (torchrun's "
            f"--nproc-per-node), or set trainer.accelerator=cpu"
        )


def build_loggers(config: TrainConfig, folder: Path, checkpoint: Path | None) -> list[Any]:
    """Lightning's loggers by name; metrics.jsonl is written whatever is chosen. A resumed run goes on in the same logs."""
    loggers: list[Any] = []
    for name in config.trainer.loggers:
        if name == "tensorboard":
            if importlib.util.find_spec("tensorboard") is None:
                raise ConfigError(
                    "trainer.loggers=[tensorboard] needs TensorBoard, which is not installed: pip install 'medvlp[tensorboard]'"
                )
            from lightning.pytorch.loggers import TensorBoardLogger

            purge = None if checkpoint is None else step_of(checkpoint) + 1
            loggers.append(TensorBoardLogger(str(folder), name="tensorboard", version="", purge_step=purge))
        else:
            from lightning.pytorch.loggers import WandbLogger

            identity = folder / "wandb_id.txt"
            if RANK == 0 and (checkpoint is None or not identity.exists()):
                write_text(identity, secrets.token_hex(4))
            if RANK == 0:
                check_name("wandb_id.txt", identity.read_text(encoding="utf-8"))  # wandb names files after it
            loggers.append(
                WandbLogger(
                    name=config.run_name,
                    id=identity.read_text(encoding="utf-8") if RANK == 0 else None,
                    resume="allow",
                    save_dir=str(folder),
                    project="medvlp",
                    offline=name == "wandb-offline",
                    config=as_dict(config),
                    settings=nameless(),
                )
            )
    return loggers


def nameless() -> Any:
    """wandb's settings without what says whose machine a run was on: host, user, paths, repository."""
    from wandb import Settings

    return Settings(
        host="", username="", x_disable_meta=True, x_disable_machine_info=True, disable_git=True, disable_code=True
    )


def step_of(checkpoint: Path) -> int:
    """The optimizer step that a checkpoint holds."""
    return int(load_checkpoint(checkpoint)["global_step"])
