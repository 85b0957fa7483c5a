"""`medvlp train`, and `torchrun -m medvlp.train` on several ranks: shards → runs/<run_name>/."""

import contextlib
import hashlib
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from medvlp import process
from medvlp.claims import claim
from medvlp.cli import run_verb
from medvlp.config import ConfigError, TrainConfig, as_dict, expand_grid, load_task, verb_help
from medvlp.distributed import launched_local_world_size, launched_rank, launched_world_size
from medvlp.errors import UserError
from medvlp.process import FAULT, STOPPED
from medvlp.resuming import check_same_run
from medvlp.runs import Run, check_unchanged, facts, runs_of

if TYPE_CHECKING:
    from medvlp.builders import Experiment
    from medvlp.data.datamodule import TrainingData
    from medvlp.training.agreement import Peers, Refused
    from medvlp.training.run_folder import Status

RANK, WORLD_SIZE = launched_rank(), launched_world_size()


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp train`; returns the exit code."""
    return run_verb("train", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    return verb_help("train")


def parse(args: list[str]) -> list[str]:
    """The arguments as they are: what is wrong with them is a matter of all ranks."""
    return args


def work(words: list[str]) -> int:
    """The runs that the words describe, one after the other; the first exit code that is not 0."""
    multirun = any(word in ("-m", "--multirun") for word in words)
    words = [word for word in words if word not in ("-m", "--multirun")]
    runs: list[Run] = []
    told: dict[str, tuple[str, str]] = {}
    refusal = ""
    try:
        cells = expand_grid("train", words, multirun)
        if len(cells) > 1 or cells[0] != words:
            return run_grid(cells)
        runs = runs_of(words)
        told = facts(runs) if WORLD_SIZE > 1 else {}
    except (UserError, OSError) as error:
        if WORLD_SIZE == 1:
            raise  # before torch is imported
        refusal = str(error)
    from medvlp.training.agreement import Peers, Refusal, Refused

    peers = Peers()
    try:
        peers = Peers.join()
        peers.agree("the configuration", told, Refusal(refusal) if refusal else None)
    except process.Stopped as stop:
        return tell(peers.fail(f"stopped by {stop}, before the first step", STOPPED))
    except Refused as refused:
        return tell(refused)
    for run in runs:
        if run.is_done:
            print(f"{run.folder}: done before", flush=True)
        elif code := train(run.config, run.folder, run.checkpoint, peers):
            return code
    return 0


def run_grid(cells: list[list[str]]) -> int:
    """Every cell in a process of its own, one after the other; the first exit code that is not 0, if any."""
    if WORLD_SIZE > 1:
        raise ConfigError("a grid is not run under torchrun; launch one job a cell (launch/sweep.sbatch shows how)")
    codes = []
    for number, cell in enumerate(cells, start=1):
        print(f"cell {number}/{len(cells)}: {' '.join(cell)}", flush=True)
        codes.append(run_cell(cell))
        if codes[-1] == STOPPED:
            break
    failed = [number for number, code in enumerate(codes, start=1) if code]
    print(
        f"{len(codes) - len(failed)} of {len(cells)} cells done" + (f"; failed or stopped: {failed}" if failed else "")
    )
    return next((code for code in codes if code), 0)


def run_cell(words: Sequence[str]) -> int:
    """One cell of a grid; a signal that comes meanwhile is the cell's too, and is waited for: it saves first."""
    cell = subprocess.Popen([sys.executable, "-m", "medvlp.train", *words])
    try:
        return cell.wait()
    except process.Stopped:
        with process.interruption.unhurried():
            cell.terminate()
            cell.wait()
        return STOPPED


def train(config: TrainConfig, folder: Path, checkpoint: Path | None, peers: "Peers") -> int:
    """Build, agree, fit, and leave the run's folder; returns the exit code."""
    import medvlp.builders  # noqa: F401  its libraries set log levels as they are imported, which `settle` overrules
    from medvlp.environment import settle
    from medvlp.training.agreement import Refusal, Refused
    from medvlp.training.run_folder import Status, clear_blank

    settle()
    status, made = Status(folder), not folder.exists()
    process.interruption.at_the_end = lambda reason: leave_status(status, reason, process.interruption.code)
    ended: Refused
    with contextlib.ExitStack() as held:
        try:
            ready, refusal = None, None
            subject = f"data and model of {folder.name}"
            peers.watch(subject, process.interruption.end)
            try:
                if RANK == 0:
                    held.enter_context(claim(folder, "train", "run_name"))
                    check_unchanged(config, folder, checkpoint)
                ready = Ready(config, folder, checkpoint, status)
            except Exception as error:
                message, code = explained(error)
                if code == FAULT:
                    traceback.print_exc()
                refusal = Refusal(message, code)
            except process.Stopped:
                if not process.interruption.from_thread:
                    raise
                # Another rank refuses, and this one was in the middle of its own: it learns why like all the others.
            peers.agree(subject, ready.facts() if ready else {}, refusal)
            assert ready is not None
            return ready.fit()
        except Refused as refused:
            ended = refused
        except process.Stopped as stop:
            ended = peers.fail(f"stopped by {stop}" + ("" if status.began else ", before the first step"), STOPPED)
        except Exception as error:
            message, code = explained(error)
            ended = peers.fail(message, code)
            if ended.ours and code == FAULT:
                traceback.print_exc()
        finally:
            peers.rest()
            process.interruption.at_the_end = None
        leave_status(status, process.interruption.received if ended.code == STOPPED else str(ended), ended.code)
        if RANK == 0 and made and not status.began:
            clear_blank(folder)
    return tell(ended)


def leave_status(status: "Status", reason: str, code: int) -> None:
    """Say in the run's folder how it ended; a command that was refused before it trained says nothing there."""
    if status.began:
        with contextlib.suppress(OSError, UserError):
            status.write("stopped" if code == STOPPED else "failed", status.step, reason)


def explained(error: Exception) -> tuple[str, int]:
    """What to tell the person of an error, and the exit code: 1 for what they can fix, 70 for a fault of ours."""
    from medvlp.training.agreement import LOST, lost_rank

    error = process.killed(error) or error
    code = process.exit_code(error)
    if code == FAULT and WORLD_SIZE > 1 and lost_rank(error):
        return LOST, 1
    return f"{type(error).__name__}: {error}" if code == FAULT else str(error), code


class Ready:
    """A run that could begin: everything is built, and nothing of it is in the folder yet.

    Raises:
        ConfigError and others: it could not.
    """

    def __init__(self, config: TrainConfig, folder: Path, checkpoint: Path | None, status: "Status") -> None:
        from medvlp.builders import build_data, build_evaluation, build_experiment
        from medvlp.training.callbacks import BadSamples, Evaluation, Logs, Progress, Signals
        from medvlp.training.keeping import Checkpoints
        from medvlp.training.trainer import build_trainer, check_devices
        from medvlp.training.trial import longest_batch, try_longest

        check_devices(config.trainer.accelerator, launched_local_world_size())
        self.config, self.folder, self.checkpoint, self.status = config, folder, checkpoint, status
        self.experiment = build_experiment(config, resuming=checkpoint is not None)
        self.data = build_data(config, self.experiment)
        if checkpoint is not None:
            check_same_run(config, checkpoint, self.data.total_steps)
        evaluate = build_evaluation(config, self.experiment)
        names = [load_task(name).name for name in config.tasks]
        options = config.trainer
        self.experiment.module.total_steps = self.data.total_steps
        logs = Logs(folder, options.log_every, config.data.log_samples, status)
        checkpoints = Checkpoints(folder / "checkpoints", options.checkpoint_every, options.monitor)
        total = sum(len(dataset) for _, dataset in self.data.units.sources)
        allowed = int(config.data.max_bad_fraction * total)
        self.signals = Signals(checkpoints)
        # The order matters: rows, then the checkpoint that they belong to, then evaluation, then a signal's stop.
        callbacks = [
            logs,
            BadSamples(folder, options.log_every, allowed, total),
            checkpoints,
            *(
                [Evaluation(evaluate, options.eval_every, options.monitor, logs, checkpoints, names)]
                if evaluate
                else []
            ),
            self.signals,
            Progress(logs),
        ]
        self.trainer = build_trainer(config, folder, checkpoint, callbacks)
        batch = longest_batch(self.data, options.accumulate, RANK, WORLD_SIZE)
        if batch is not None:
            try_longest(self.experiment.module, self.trainer, self.experiment.stretch(batch), chosen(config))

    def facts(self) -> dict[str, tuple[str, str]]:
        """What must have come out alike on every rank."""
        shapes = [(name, *value.shape) for name, value in self.experiment.module.named_parameters()]
        tokenizer = self.experiment.card.get("tokenizer")
        told = {
            "samples an epoch": len(self.data.plan),
            "steps": self.data.total_steps,
            "left out": len(self.experiment.left_out),
            "the model's parameters": hashlib.sha256(repr(shapes).encode()).hexdigest()[:12],
            "the tokenizer's files": tokenizer.get("sha256") if isinstance(tokenizer, dict) else tokenizer,
        }
        return {name: (str(value), str(value)) for name, value in told.items()}

    def fit(self) -> int:
        """Lightning's fit; returns the exit code."""
        from medvlp.shards.atomic import remove_leftovers, write_text
        from medvlp.training.run_folder import LOGS
        from medvlp.training.trainer import taking_up

        trainer, folder, module = self.trainer, self.folder, self.experiment.module
        if RANK == 0:
            remove_leftovers(folder)
            write_text(folder / "config.yaml", yaml.safe_dump(as_dict(self.config), sort_keys=False))
            if self.checkpoint is None:
                for name in LOGS:
                    (folder / name).unlink(missing_ok=True)
            write_left_out(folder / "left_out.jsonl", self.experiment.left_out)
        announce(self.config, folder, self.checkpoint, self.experiment, self.data)
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
                write_report(folder)
        return STOPPED if stopped_by else 0


def chosen(config: TrainConfig) -> str:
    """What was chosen by name, for a message."""
    model = as_dict(config.model)
    names = [model["name"]] if model.get("name") else [model.get(part, {}).get(key) for part, key in NAMED]
    return f"model.kind={config.model.kind} ({', '.join(str(name) for name in names if name)})"


NAMED = (("vision", "timm"), ("text", "huggingface"), ("vision", "source"), ("language", "source"))


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
    except (OSError, UserError) as error:
        print(f"no report: {error}; `medvlp report {folder}` tries again", file=sys.stderr, flush=True)


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
    for line in leakage_beside(config):
        print(line, flush=True)
    learning = [
        name for name, part in experiment.module.model.named_modules() if isinstance(part, _BatchNorm) and part.training
    ]
    if learning and WORLD_SIZE > 1:
        print(
            f"note: batch norm trains ({learning[0]}, ...): each rank has its own statistics, so two are not one",
            flush=True,
        )


def leakage_beside(config: TrainConfig) -> list[str]:
    """What of the splits beside each source is in it, as the preparation counted."""
    from medvlp.report.dataset.leakage import leakage_lines
    from medvlp.report.files import NotARun, explained, read_json
    from medvlp.shards.manifest import LEDGER

    lines = []
    for name, source in config.data.sources.items():
        folder = Path(source.path).resolve()
        with contextlib.suppress(NotARun, OSError):  # the ledger is no part of what is trained on
            with explained(folder.parent / LEDGER):
                ledger = read_json(folder.parent / LEDGER)
                said = leakage_lines(ledger) if ledger and folder.name == "train" else []
            lines += [f"data.sources.{name}: {sentence}" for sentence in said]
    return lines


def tell(refused: "Refused") -> int:
    """What the ranks agreed on, said by the one whose turn it is; returns the exit code."""
    if refused.ours:
        print(f"medvlp train: {refused}", file=sys.stderr, flush=True)
    return refused.code


if __name__ == "__main__":
    sys.exit(main())
