"""A trial step before the first: the longest batch, forward and backward on the device. Better now than hours later."""

import traceback
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities import move_data_to_device

from medvlp.data.batch import Batch
from medvlp.data.datamodule import TrainingData
from medvlp.data.plan import RankSchedule
from medvlp.errors import UserError
from medvlp.training.module import TrainingModule

PACKAGE = str(Path(__file__).resolve().parents[1])


class Unfit(UserError):
    """What was chosen cannot be trained together; the message says what was tried and what went wrong."""


def longest_batch(data: TrainingData, accumulate: int, rank: int, world_size: int) -> Batch | None:
    """This rank's batch of the epoch's longest step, read in this process; None where all of its samples are bad."""
    step = data.plan.longest_step(data.global_batch_size)
    schedule = RankSchedule(data.plan, data.global_batch_size, accumulate, rank, world_size)
    units = [data.samples[request] for request in next(schedule.requests(step, step + 1))]
    return data.pipeline.collate(units) if any(unit["items"] for unit in units) else None


def try_longest(module: TrainingModule, trainer: pl.Trainer, batch: Batch, parts: int, model_names: str) -> None:
    """One pass and its gradients, without a trace: buffers, gradients and random states are as before.

    Args:
        parts: batches of this size whose features one loss takes.
        model_names: what was chosen, for the message.
    Raises:
        Unfit: it does not fit into memory, or a library refuses it. A fault in our own code is raised as it is.
    """
    device, precision = trainer.strategy.root_device, trainer.precision_plugin
    module.trainer = trainer
    precision.convert_module(module)
    module.to(device).train()
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    size = f"{len(batch.keys)} samples"
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), precision.train_step_context():
            loss = module.trial_loss(precision.convert_input(move_data_to_device(batch, device)), parts)
        if loss.requires_grad:
            loss.backward()
    except torch.OutOfMemoryError:
        raise Unfit(
            f"{model_names}: the longest batch ({size} on this rank), tried before the first step, does not fit into the memory "
            f"of {device}. Set data.global_batch_size lower, use more ranks, or shorten the texts"
        ) from None
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, ImportError, NotImplementedError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1].filename
        if last.startswith(PACKAGE) or "site-packages" not in last:
            raise
        line = (str(error).strip().splitlines() or ["no message"])[0]
        raise Unfit(
            f"{model_names}: the longest batch ({size}), tried before the first step, fails ({type(error).__name__}: {line})"
        ) from None
    finally:
        module.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
        if device.type == "cuda":
            torch.cuda.empty_cache()
