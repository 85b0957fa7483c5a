"""A training run from its parts to its last checkpoint, together with its other ranks."""

import contextlib
import hashlib
import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch.nn.modules.batchnorm import _BatchNorm

from medvlp import process
from medvlp.claims import claim
from medvlp.config import TrainConfig, as_dict
from medvlp.data.datamodule import TrainingData
from medvlp.data.views.filtered import FilteredDataset
from medvlp.distributed import launched_rank, launched_world_size
from medvlp.errors import UserError
from medvlp.jsonl import write_rows
from medvlp.process import FAULT, STOPPED
from medvlp.shards.atomic import remove_leftovers, write_text
from medvlp.training.agreement import LOST, Peers, Refusal, Refused, lost_rank, say_ending
from medvlp.training.callbacks.bad_samples import BadSamples
from medvlp.training.callbacks.checkpoints import Checkpoints
from medvlp.training.callbacks.evaluation import Evaluate, Evaluation
from medvlp.training.callbacks.logs import Logs
from medvlp.training.callbacks.non_finite import NonFinite
from medvlp.training.callbacks.progress import Progress
from medvlp.training.callbacks.signals import Signals
from medvlp.training.module import Objective
from medvlp.training.run_folder import LOGS, SELECTED, Status, clear_blank
from medvlp.training.steps.grad_cache import refuse_batch_norm
from medvlp.training.trainer import build_trainer, taking_up
from medvlp.training.trial import longest_batch, try_longest

RANK, WORLD_SIZE = launched_rank(), launched_world_size()


@dataclass
class Components:
    """What a run is made of.

    objective: what is learned.
    data: its batches, opened.
    evaluate: runs the tasks on the present weights; None where there are none.
    task_names: of those tasks.
    """

    objective: Objective
    data: TrainingData
    evaluate: Evaluate | None = None
    task_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunHooks:
    """What a run needs of rooms that training does not know.

    build: everything that is there before the trainer; runs on every rank, in a folder that this process holds.
    notes: lines to say before the first step.
    report: writes the run's page, once it is done.
    """

    build: Callable[[], Components]
    notes: Callable[[], list[str]] = list
    report: Callable[[Path], object] = lambda folder: None


class Fit:
    """A run that could begin: its longest batch was tried, and nothing of it is in the folder yet.

    Raises:
        UserError: it could not.
    """

    def __init__(
        self, config: TrainConfig, folder: Path, checkpoint: Path | None, components: Components, status: Status
    ) -> None:
        self.config, self.folder, self.checkpoint, self.status = config, folder, checkpoint, status
        self.objective, self.data = components.objective, components.data
        options, module = config.trainer, self.objective.module
        module.total_steps = self.data.total_steps
        logs = Logs(folder, options.log_every, config.data.log_samples, status)
        checkpoints = Checkpoints(folder / "checkpoints", options.checkpoint_every, options.monitor)
        self.signals = Signals(checkpoints)
        total = sum(len(dataset) for _, dataset in self.data.samples.sources)
        allowed = int(config.data.max_bad_fraction * total)
        # The order matters: rows, then the checkpoint that they belong to, then evaluation, then a signal's stop.
        callbacks: list[Any] = [logs, BadSamples(folder, options.log_every, allowed, total), checkpoints]
        callbacks.append(NonFinite(folder, options.non_finite == "skip", options.max_skipped))
        if components.evaluate:
            callbacks.append(
                Evaluation(
                    components.evaluate,
                    options.eval_every,
                    options.monitor,
                    logs,
                    checkpoints,
                    components.task_names,
                    options.forgetting,
                )
            )
        pipeline = self.data.pipeline
        callbacks += [self.signals, Progress(logs)]
        self.trainer = build_trainer(config, folder, checkpoint, callbacks, pipeline.whole_steps)
        if pipeline.whole_steps and options.accumulate > 1:
            refuse_batch_norm(module.model, options.accumulate)
        batch = longest_batch(self.data, options.accumulate, RANK, WORLD_SIZE)
        if batch is not None:
            parts = options.accumulate if pipeline.whole_steps else 1
            try_longest(module, self.trainer, pipeline.stretch(batch), parts, model_names(config))

    def facts(self) -> dict[str, tuple[str, str]]:
        """What must be the same on every rank."""
        shapes = [(name, *value.shape) for name, value in self.objective.module.named_parameters()]
        tokenizer = self.objective.metadata.get("tokenizer")
        values = {
            "samples an epoch": len(self.data.plan),
            "steps": self.data.total_steps,
            "skipped": len(self.data.skipped),
            "rows that conditions select": [selected.rows_hash[:12] for selected in self.data.selected.values()],
            "the model's parameters": hashlib.sha256(repr(shapes).encode()).hexdigest()[:12],
            "the tokenizer's files": tokenizer.get("sha256") if isinstance(tokenizer, dict) else tokenizer,
        }
        return {name: (str(value), str(value)) for name, value in values.items()}

    def run(self, hooks: RunHooks) -> int:
        """Lightning's fit; returns the exit code."""
        trainer, folder, module = self.trainer, self.folder, self.objective.module
        if RANK == 0:
            remove_leftovers(folder)
            write_text(folder / "config.yaml", yaml.safe_dump(as_dict(self.config), sort_keys=False))
            if self.checkpoint is None:
                for name in LOGS:
                    (folder / name).unlink(missing_ok=True)
            write_skipped(folder / "left_out.jsonl", self.data.skipped)
            if selected := {name: selection.to_json() for name, selection in self.data.selected.items()}:
                write_text(folder / SELECTED, json.dumps(selected, indent=1, ensure_ascii=False) + "\n")
            self.announce(hooks.notes())
        if self.config.trainer.compile:
            module.compile_towers()
        with taking_up(self.checkpoint):
            trainer.fit(module, datamodule=self.data, ckpt_path=self.checkpoint, weights_only=True)
        trainer.strategy.barrier()  # a next stage, on any rank, starts from files that rank 0 has written
        stopped_by = self.signals.stopped_by
        if trainer.is_global_zero:
            state = "stopped" if stopped_by else "done"
            self.status.write(state, trainer.global_step, stopped_by)
            print(f"{state} at step {trainer.global_step}: {folder / 'checkpoints' / 'last.ckpt'}", flush=True)
            if state == "done":
                hooks.report(folder)
        return STOPPED if stopped_by else 0

    def announce(self, notes: list[str]) -> None:
        """Say what is about to happen, and what may surprise."""
        data = self.data
        start = f"resuming {self.checkpoint}" if self.checkpoint else "a fresh start"
        skipped = f" ({data.unfilled} skipped in each epoch, others each time)" if data.unfilled else ""
        print(
            f"{self.folder}: {start}; {len(data.plan)} samples an epoch in {data.steps_per_epoch} steps of "
            f"{self.config.data.global_batch_size}{skipped}, {data.total_steps} steps on {WORLD_SIZE} "
            f"rank{'s' if WORLD_SIZE > 1 else ''}",
            flush=True,
        )
        for name, count in data.counts.items():
            if len(data.counts) > 1:
                print(
                    f"data.sources.{name}: {count} samples an epoch, {count / sum(data.counts.values()):.1%}",
                    flush=True,
                )
        for name, dataset in data.sources.items():
            if isinstance(dataset, FilteredDataset):
                print(f"data.sources.{name}: {dataset.summary}", flush=True)
        for note in notes:
            print(note, flush=True)
        modules = self.objective.module.model.named_modules()
        learning = [name for name, part in modules if isinstance(part, _BatchNorm) and part.training]
        if learning and WORLD_SIZE > 1:
            print(
                f"note: batch norm trains ({learning[0]}, ...): each rank has its own statistics, so two are not one",
                flush=True,
            )


def fit(config: TrainConfig, folder: Path, checkpoint: Path | None, peers: Peers, hooks: RunHooks) -> int:
    """Build, agree with the other ranks, train, and leave the run's folder; returns the exit code."""
    status, is_new = Status(folder), not folder.exists()
    process.interruption.at_the_end = lambda reason: leave_status(status, reason, process.interruption.code)
    ending: Refused
    with contextlib.ExitStack() as claims:
        try:
            run, refusal = None, None
            subject = f"data and model of {folder.name}"
            peers.watch(subject, process.interruption.end)
            try:
                if RANK == 0:
                    claims.enter_context(claim(folder, "train", "run_name"))
                run = Fit(config, folder, checkpoint, hooks.build(), status)
            except Exception as error:
                refusal = Refusal(*explained(error))
                if refusal.code == FAULT:
                    traceback.print_exc()
            except process.Stopped:
                if not process.interruption.from_thread:
                    raise
                # Another rank refuses, and this one was in the middle of its own: it learns why like all the others.
            peers.agree(subject, run.facts() if run else {}, refusal)
            assert run is not None
            return run.run(hooks)
        except Refused as refused:
            ending = refused
        except process.Stopped as stop:
            ending = peers.fail(
                f"stopped by {stop}" + ("" if status.is_running else ", before the first step"), STOPPED
            )
        except Exception as error:
            message, code = explained(error)
            ending = peers.fail(message, code)
            if ending.is_speaker and code == FAULT:
                traceback.print_exc()
        finally:
            peers.rest()
            process.interruption.at_the_end = None
        leave_status(status, process.interruption.reason if ending.code == STOPPED else str(ending), ending.code)
        if RANK == 0 and is_new and not status.is_running:
            clear_blank(folder)
    return say_ending(ending)


def leave_status(status: Status, reason: str, code: int) -> None:
    """Say in the run's folder how it ended; a command that was refused before it trained says nothing there."""
    if status.is_running:
        with contextlib.suppress(OSError, UserError):
            status.write("stopped" if code == STOPPED else "failed", status.step, reason)


def explained(error: Exception) -> tuple[str, int]:
    """What to tell the person of an error, and the exit code: 1 for what they can fix, 70 for a fault of ours."""
    error = process.killed(error) or error
    code = process.exit_code(error)
    if code == FAULT and WORLD_SIZE > 1 and lost_rank(error):
        return LOST, 1
    return f"{type(error).__name__}: {error}" if code == FAULT else str(error), code


def model_names(config: TrainConfig) -> str:
    """What was chosen by name, for a message."""
    model: Mapping[str, Any] = as_dict(config.model)
    names = [model["name"]] if model.get("name") else [model.get(part, {}).get(key) for part, key in PART_KEYS]
    return f"model.kind={config.model.kind} ({', '.join(str(name) for name in names if name)})"


PART_KEYS = (("vision", "timm"), ("vision", "source"), ("text", "huggingface"), ("language", "source"))
"""Keys of models that name a part: a CLIP's towers, an assistant's tower and language model."""


def write_skipped(path: Path, rows: list[dict[str, str]]) -> None:
    """The ledger of what is in the data and not trained on: a conversation too long, a damaged sample."""
    path.unlink(missing_ok=True)
    if rows:
        write_rows(path, rows)
        print(f"{len(rows)} conversations or samples are skipped in training; {path} names them", flush=True)
