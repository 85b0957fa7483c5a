"""Measuring of cells: each model is loaded once, measured on all its tasks, and freed; a cell that fails stops no other."""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from data_prep.dedup.trained import trained_on
from medvlp import process
from medvlp.builders.models import open_model, refuse_changed
from medvlp.config import EvalConfig
from medvlp.distributed import from_first, in_first, in_step, rank, world_size
from medvlp.environment import choose_device
from medvlp.errors import UserError
from medvlp.eval.embeddings import CachedEncoder, encode_together
from medvlp.eval.items import sample_values
from medvlp.eval.task import EvaluatedModel, TaskResult, datasets_of
from medvlp.eval.trained import Trained
from medvlp.jsonl import Row
from medvlp.shards import ShardDataset
from medvlp.sweep.cells import CellFolder, CellStatistics
from medvlp.sweep.judging.cells import judged_result
from medvlp.sweep.judging.models import open_judges
from medvlp.sweep.plan import Cell, SweepModel, SweepPlan
from medvlp.sweep.progress import Progress
from medvlp.sweep.statistics import statistics_of
from medvlp.training.agreement import lost_rank


class OutOfMemory(UserError):
    """The GPU's memory does not hold a model with its batch."""


@dataclass
class Measurement:
    """The cells of a plan, measured where they are not finished. Every rank goes the same way; rank 0 reads and writes.

    contents: id → content of the finished cells, the same on every rank; the content itself on rank 0 only.
    failures: cells that failed, with their errors.
    after_cell: called on rank 0 when a cell is finished.
    """

    config: EvalConfig
    plan: SweepPlan
    folder: CellFolder
    contents: dict[str, Row] = field(default_factory=dict)
    failures: list[tuple[Cell, Exception]] = field(default_factory=list)
    after_cell: Callable[[], None] = lambda: None
    _matches: dict[tuple[tuple[str, ...], str], dict[str, str]] = field(default_factory=dict)

    def read_finished(self) -> None:
        """Take up the cells that an earlier command, or another job of this one, has finished."""
        self.contents = from_first(self._read)
        equal = {cell.model.name: self.contents[cell.id] for cell in self.plan.cells if cell.id in self.contents}
        for name, content in equal.items():
            if rank() == 0 and content.get("checkpoint", name) != name:
                print(f"{name} is the same model as {content['checkpoint']}: its finished cells are used", flush=True)

    def _read(self) -> dict[str, Row]:
        cells = [*self.plan.cells, *(cell.answering for cell in self.plan.cells if cell.answering)]
        contents = {cell.id: self.folder.read(cell.id) for cell in cells if cell.id}
        return {id: content for id, content in contents.items() if content is not None}

    def run(self, cells: Sequence[Cell]) -> None:
        """Measure these cells of the plan, as far as they are not finished; cells of equal content once.

        Raises:
            UserError: results cannot be written. What a cell itself raises is in `failures`.
        """
        remaining = self.remaining(cells)
        answering = {cell.answering.id: cell.answering for cell in remaining if cell.answering}
        answering = {id: cell for id, cell in answering.items() if id not in self.contents}
        total = len(cells) + len(answering)
        progress = Progress(total, len(cells) - len(remaining) - len(self.failures), len(self.failures))
        device = in_step(partial(choose_device, self.config.accelerator)) if remaining else ""
        firsts: dict[str, Cell] = {}
        for cell in remaining:
            firsts.setdefault(cell.id, cell)
        by_models = [cell for cell in firsts.values() if cell.answering is None or cell.answering.id in answering]
        for group in groups_of([cell.answering or cell for cell in by_models], self.config.cache.models_at_once):
            self._run_group(group, device, progress)
        self._judge([cell for cell in firsts.values() if cell.answering], device, progress)
        errors = {cell.id: error for cell, error in self.failures}
        for cell in remaining:
            if cell is not firsts[cell.id] and cell.id in self.contents:
                progress.reuse(cell, self.contents[cell.id])
            elif cell is not firsts[cell.id]:
                self.fail([cell], errors[cell.id], progress)

    def remaining(self, cells: Sequence[Cell]) -> list[Cell]:
        """Those of some cells that are to be measured; those that cannot be are told, and counted as failures."""
        self.failures += [(cell, cell.problem) for cell in cells if cell.problem is not None]
        for error in {id(error): error for _, error in self.failures}.values():
            tell(error)
        return [cell for cell in cells if cell.problem is None and cell.id not in self.contents]

    def _run_group(self, group: Sequence[Cell], device: str, progress: Progress) -> None:
        """Measure the cells of models that are loaded together, so that images are decoded once for all of them."""
        models: dict[SweepModel, EvaluatedModel] = {}
        for model in dict.fromkeys(cell.model for cell in group):
            try:
                models[model] = in_step(partial(self._open, model, device))
            except Exception as error:
                self.fail([cell for cell in group if cell.model is model], error, progress)
        self._encode([cell for cell in group if cell.model in models], models)
        for model in list(models):
            for cell in group:
                if cell.model is model:
                    self._run_cell(cell, progress, partial(self._result, cell, cell.task.task, models[model]))
            del models[model]
        free_memory()  # once: it walks every object of the process

    def _judge(self, cells: Sequence[Cell], device: str, progress: Progress) -> None:
        """Judge the answers of cells, after the models that gave them are gone; those without answers fail as they did."""
        errors = {cell.id: error for cell, error in self.failures}
        self.failures = [pair for pair in self.failures if pair[0].id not in {cell.answering_id for cell in cells}]
        for cell in cells:
            if error := errors.get(cell.answering_id):
                self.failures.append((cell, error))
                progress.fail([cell])
        remaining = [cell for cell in cells if cell.answering_id not in errors]
        if not remaining:
            return
        try:
            judges = in_step(partial(open_judges, self.config, device))
        except Exception as error:
            self.fail(remaining, error, progress)
            return
        for cell in remaining:
            content = self.contents[cell.answering_id]
            self._run_cell(cell, progress, partial(judged_result, cell, content, self.folder, self.config, judges))
        del judges
        free_memory()

    def _open(self, model: SweepModel, device: str) -> EvaluatedModel:
        """The model that the plan looked at, maybe hours ago."""
        evaluated_model = open_model(model.model_name, device, self.config)
        refuse_changed(model.model_name, model.identity, self.plan.root)
        return evaluated_model

    def _encode(self, cells: Sequence[Cell], models: Mapping[SweepModel, EvaluatedModel]) -> None:
        """Have the embeddings that several models need of one split. Where that fails, each cell tries for itself."""
        encoders: dict[str, dict[SweepModel, CachedEncoder]] = {}
        datasets: dict[str, ShardDataset] = {}
        for cell in cells:
            model, task = models[cell.model], cell.task.task
            if isinstance(model, CachedEncoder) and task is not None:
                for dataset in datasets_of(task):
                    datasets[dataset.manifest_hash] = dataset
                    encoders.setdefault(dataset.manifest_hash, {})[cell.model] = model
        for data, encoders_of_data in encoders.items():
            if len(encoders_of_data) > 1:
                with suppress(Exception):
                    in_step(partial(encode_together, list(encoders_of_data.values()), datasets[data]))

    def _run_cell(self, cell: Cell, progress: Progress, measure: Callable[[], TaskResult]) -> None:
        progress.begin(cell)
        try:
            result, statistics = in_step(partial(self._measure, measure))
        except Exception as error:
            self.fail([cell], error, progress)
            return
        content = in_first(partial(self.folder.write, cell, result, statistics))
        self.contents[cell.id] = content or {}
        progress.finish(cell, content)
        in_first(self.after_cell)

    def _measure(self, measure: Callable[[], TaskResult]) -> tuple[TaskResult, CellStatistics]:
        result = measure()
        return result, statistics_of(result, self.config) if rank() == 0 else CellStatistics()

    def _result(self, cell: Cell, task: Any, model: EvaluatedModel) -> TaskResult:
        if cell.model.trained_on is None:
            result: TaskResult = task.run(model)
            return replace(result, protocol=result.protocol | {"in_train": "unknown"})
        history = cell.model.trained_on
        hashes = tuple(split.manifest_hash for split in history.splits), task.dataset.manifest_hash
        if hashes not in self._matches:
            self._matches[hashes] = trained_on(history.splits, task.dataset)
        trained = Trained(
            self._matches[hashes],
            [str(split.folder) for split in history.splits],
            history.unknown,
            history.unseen,
            history.notes,
            sample_values(task.dataset) if history.unseen else {},
        )
        measured: TaskResult = replace(task, trained=trained).run(model)
        return replace(measured, protocol=measured.protocol | trained.held_out(measured.records))

    def fail(self, cells: Sequence[Cell], error: Exception, progress: Progress) -> None:
        """Note why cells failed, and go on. Raises the error where no other cell could fare better."""
        if isinstance(error, BrokenPipeError) or (world_size() > 1 and lost_rank(error)):
            raise error  # who read our output has left, or another rank has
        error = process.killed(error) or out_of_memory(error) or error
        progress.fail(cells)
        tell(error)
        error.__traceback__ = error.__context__ = error.__cause__ = None  # their frames hold the model
        self.failures += [(cell, error) for cell in cells]


def groups_of(cells: Sequence[Cell], models_at_once: int) -> Iterator[list[Cell]]:
    """Cells by models that are loaded together: several that give embeddings, each of the others alone."""
    models = list(dict.fromkeys(cell.model for cell in cells))
    group: list[SweepModel] = []
    for index, model in enumerate(models):
        group.append(model)
        following = models[index + 1] if index + 1 < len(models) else None
        if (
            len(group) == models_at_once
            or not following
            or not (gives_embeddings(model) and gives_embeddings(following))
        ):
            yield [cell for cell in cells if cell.model in group]
            group = []


def gives_embeddings(model: SweepModel) -> bool:
    """Whether a model's images are decoded with those of others."""
    return model.kind is not None and "encode_image" in model.kind.offers


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
