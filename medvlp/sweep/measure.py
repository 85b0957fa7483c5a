"""Measuring of cells: each model is loaded once, measured on all its tasks, and freed; a cell that fails stops no other."""

import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from data_prep.dedup.trained import trained_on
from medvlp import process
from medvlp.builders.models import open_model
from medvlp.config import EvalConfig
from medvlp.distributed import from_first, in_first, in_step, rank
from medvlp.errors import UserError
from medvlp.eval.task import EvaluatedModel, TaskResult
from medvlp.eval.trained import Trained
from medvlp.jsonl import Row
from medvlp.sweep.cells import CellFolder, CellStatistics
from medvlp.sweep.plan import Cell, SweepPlan
from medvlp.sweep.progress import Progress
from medvlp.sweep.statistics import statistics_of


class OutOfMemory(UserError):
    """The GPU's memory does not hold a model with its batch."""


@dataclass
class Measurement:
    """The cells of a plan, measured where they are not finished. Every rank goes the same way; rank 0 reads and writes.

    contents: id → content of the finished cells, the same on every rank; the content itself on rank 0 only.
    failures: cells that failed, with their errors.
    """

    config: EvalConfig
    plan: SweepPlan
    folder: CellFolder
    device: str
    contents: dict[str, Row] = field(default_factory=dict)
    failures: list[tuple[Cell, Exception]] = field(default_factory=list)
    _matches: dict[tuple[tuple[str, ...], str], dict[str, str]] = field(default_factory=dict)

    def read_finished(self) -> None:
        """Take up the cells that an earlier command, or another job of this one, has finished."""
        self.contents = from_first(self._read)
        equal = {cell.model.name: self.contents[cell.id] for cell in self.plan.cells if cell.id in self.contents}
        for name, content in equal.items():
            if rank() == 0 and content.get("checkpoint", name) != name:
                print(f"{name} is the same model as {content['checkpoint']}: its finished cells are used", flush=True)

    def _read(self) -> dict[str, Row]:
        contents = {cell.id: self.folder.read(cell.id) for cell in self.plan.cells if cell.id}
        return {id: content for id, content in contents.items() if content is not None}

    def run(self, cells: Sequence[Cell]) -> None:
        """Measure these cells of the plan, as far as they are not finished.

        Raises:
            UserError: results cannot be written. What a cell itself raises is in `failures`.
        """
        remaining = self.remaining(cells)
        progress = Progress(len(cells), len(cells) - len(remaining) - len(self.failures), len(self.failures))
        for model in self.plan.models:
            first_cells = [cell for cell in remaining if cell.model is model and cell.id not in self.contents]
            if first_cells:
                self._run_model(first_cells, progress)
            for cell in remaining:
                if cell.model is model and cell not in first_cells:
                    progress.reuse(cell, self.contents[cell.id])

    def remaining(self, cells: Sequence[Cell]) -> list[Cell]:
        """Those of some cells that are to be measured; those that cannot be are told, and counted as failures."""
        self.failures += [(cell, cell.problem) for cell in cells if cell.problem is not None]
        for error in {id(error): error for _, error in self.failures}.values():
            tell(error)
        return [cell for cell in cells if cell.problem is None and cell.id not in self.contents]

    def _run_model(self, cells: Sequence[Cell], progress: Progress) -> None:
        try:
            model = in_step(partial(open_model, cells[0].model.model_name, self.device, self.config))
        except Exception as error:
            self.fail(cells, error, progress)
            return
        for cell in cells:
            progress.begin(cell)
            try:
                result, statistics = in_step(partial(self._measure, cell, model))
            except Exception as error:
                self.fail([cell], error, progress)
                continue
            content = in_first(partial(self.folder.write, cell, result, statistics))
            self.contents[cell.id] = content or {}
            progress.finish(cell, content)
        del model
        free_memory()

    def _measure(self, cell: Cell, model: EvaluatedModel) -> tuple[TaskResult, CellStatistics]:
        result = self._result(cell, cell.task.task, model)
        return result, statistics_of(result, self.config) if rank() == 0 else CellStatistics()

    def _result(self, cell: Cell, task: Any, model: EvaluatedModel) -> TaskResult:
        if cell.model.trained_on is None:
            result: TaskResult = task.run(model)
            return replace(result, protocol=result.protocol | {"in_train": "unknown"})
        splits, unknown = cell.model.trained_on
        hashes = tuple(split.manifest_hash for split in splits), task.dataset.manifest_hash
        if hashes not in self._matches:
            self._matches[hashes] = trained_on(splits, task.dataset)
        trained = Trained(self._matches[hashes], [str(split.folder) for split in splits], unknown)
        measured: TaskResult = replace(task, trained=trained).run(model)
        return measured

    def fail(self, cells: Sequence[Cell], error: Exception, progress: Progress) -> None:
        """Note why cells failed, and go on. Raises BrokenPipeError."""
        if isinstance(error, BrokenPipeError):
            raise error  # who read our output has left
        error = process.killed(error) or out_of_memory(error) or error
        progress.fail(cells)
        tell(error)
        error.__traceback__ = error.__context__ = error.__cause__ = None  # their frames hold the model
        self.failures += [(cell, error) for cell in cells]


def tell(error: Exception) -> None:
    """Say on stderr why cells fail, once for all ranks."""
    if rank() == 0:
        process.tell("eval", error)


def out_of_memory(error: Exception) -> OutOfMemory | None:
    """What a GPU's full memory is told as; None for other errors."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(error, torch.OutOfMemoryError):
        return None
    return OutOfMemory(f"{str(error).splitlines()[0]} Use a smaller batch_size, or a GPU with more memory")


def free_memory() -> None:
    """Give back what a model held."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def reason(error: Exception) -> str:
    """Why a cell failed, for failures.jsonl and the list at the end."""
    return str(error) if isinstance(error, UserError | OSError) else f"{type(error).__name__}: {error}"
