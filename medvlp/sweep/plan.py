"""The plan of a sweep: its models, its tasks, and which of them make a cell."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from medvlp.builders.models import ModelKind, embedder_of, identity_of, model_kind_of, options_of, origin_of
from medvlp.builders.tasks import build_task, missing_capabilities, task_class
from medvlp.builders.trained import TrainingSplits, training_splits
from medvlp.config import TASKS, ConfigError, EvalConfig, TaskConfig, as_dict, expand_tasks, load_task
from medvlp.config.evaluation.groupings import Grouping, parse_groupings
from medvlp.config.evaluation.task import OF_THE_LISTING
from medvlp.config.model_names import ModelName, expand_model_names
from medvlp.distributed import gather, rank
from medvlp.environment import choose_device
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.statistics.fields import check_fields
from medvlp.eval.store.embeddings import rules_and_versions
from medvlp.eval.store.root import store_root
from medvlp.eval.task import Task, TaskSettings
from medvlp.eval.trained import HOLDOUT_FIELD, NOVELTY_FIELD
from medvlp.jsonl import encode_json
from medvlp.sweep.judging.models import is_judged_task, judge_parts

FORMAT = 1
"""Version of what a cell's file holds."""
JUDGE = "judge"
NOT_CONTENT = {
    *("verb", "checkpoints", "tasks", "output", "split", "batch_size", "workers", "accelerator", "cache"),
    *("api", "load"),  # of each model what concerns it is in `options_of`
    "judge",  # of the tasks that are judged it is in `judge_parts`
    *("engine", "jobs", "ray_address", "lm_eval", "dry_run"),
}
"""Keys of `medvlp eval` that do not say what is measured. All others are part of a cell's identity, those to come too."""

Problem = Exception | None


@dataclass(frozen=True, eq=False)
class SweepModel:
    """A model of a sweep.

    identity: hash of what decides what it gives. trained_on: its training splits; None where nobody can know. origin: what
    `origin_of` says. problem: why it cannot be measured.
    """

    model_name: ModelName
    kind: ModelKind | None = None
    identity: str = ""
    trained_on: TrainingSplits | None = None
    origin: dict[str, Any] = field(default_factory=dict)
    problem: Problem = None

    @property
    def name(self) -> str:
        """As in results.jsonl."""
        return self.model_name.text

    def offers(self, task: TaskConfig) -> bool:
        """Whether the task can measure it; a model that cannot be looked at may offer anything."""
        return self.kind is None or not missing_capabilities(task, self.kind.offers)


@dataclass(frozen=True, eq=False)
class SweepTask:
    """A task of a sweep, over the split that is scored. problem: why it cannot be run, where `task` is None."""

    config: TaskConfig
    split: str
    task: Task | None = None
    problem: Problem = None

    @property
    def name(self) -> str:
        """As in results.jsonl."""
        return self.config.name


@dataclass(frozen=True, eq=False)
class Cell:
    """A model on a task: the unit of a sweep. parts: what it is identified by; empty where it cannot be measured."""

    model: SweepModel
    task: SweepTask
    parts: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        """Hash of its parts, in their order, which decides among equal prompt sets: cells of equal content have one id,
        whatever their names are."""
        return hashlib.sha256(encode_json(self.parts)).hexdigest() if self.parts else ""

    @cached_property
    def answering(self) -> "Cell | None":
        """The same cell without its judge, whose records are what the judge reads; None where it has none."""
        if JUDGE not in self.parts:
            return None
        return replace(self, parts={name: part for name, part in self.parts.items() if name != JUDGE})

    @property
    def answering_id(self) -> str:
        """The id of `answering`; empty where there is no judge."""
        return self.answering.id if self.answering else ""

    @property
    def key(self) -> tuple[str, str, str]:
        """(model, task, split) as results.jsonl names them."""
        return self.model.name, self.task.name, self.task.split

    @property
    def problem(self) -> Problem:
        """Why it cannot be measured."""
        return self.model.problem or self.task.problem


@dataclass(frozen=True)
class SweepPlan:
    """models × tasks, and the cells of those that fit each other, model by model.

    root: of the store, where hashes of large files are remembered.
    """

    models: list[SweepModel]
    tasks: list[SweepTask]
    cells: list[Cell]
    root: Path | None = None

    @property
    def unfit(self) -> list[tuple[SweepModel, SweepTask]]:
        """Pairs that make no cell: the model does not offer what the task needs."""
        return [(model, task) for model in self.models for task in self.tasks if not model.offers(task.config)]


def make_plan(config: EvalConfig) -> SweepPlan:
    """The plan of a configuration. Nothing is loaded but what says what a model is; every rank comes to the same.

    Raises:
        ConfigError: a model or task that does not exist, a task that was named itself and fits no model, a model that fits no
            task, a field of subgroups that no task's data have, or no cell that can be measured.
    """
    by_name = {name: load_task(name) for name in expand_tasks(config.tasks)}
    configs, explicit = list(by_name.values()), [task for name, task in by_name.items() if name in config.tasks]
    check_names(configs, config.split)
    root = store_root(config.cache)
    models = [look_at(name, root) for name in model_names(config.checkpoints)]
    check_fit(models, configs, explicit)
    tasks = [open_task(task, config) for task in configs]
    groupings = parse_groupings(config.by, "by") + parse_groupings(config.people, "people")
    of_training = [grouping for grouping in groupings if grouping.field in (NOVELTY_FIELD, HOLDOUT_FIELD)]
    check_held_out(models, of_training)
    of_data = [grouping for grouping in groupings if grouping not in of_training]
    check_fields([task.task.dataset for task in tasks if task.task is not None], of_data)
    judge = judge_parts(config, root)
    cells = [
        Cell(model, task, parts_of(model, task, config, judge))
        for model in models
        for task in tasks
        if model.offers(task.config)
    ]
    problems = [cell.problem for cell in cells]
    if all(problems) and problems[0] is not None and not config.dry_run:
        raise problems[0]  # nothing can be measured, so that nothing is begun
    plan = SweepPlan(models, tasks, cells, root)
    ids = gather([cell.id for cell in cells])
    if any(ids_of_rank != ids[0] for ids_of_rank in ids):
        raise ConfigError("the ranks do not see the same checkpoints or data; every node has to reach the same files")
    return plan


def model_names(values: Sequence[str]) -> list[ModelName]:
    """The models that `checkpoints` names, each once. Raises ConfigError: a name that is not understood, or nothing there."""
    return expand_model_names(values, notice=lambda line: print(line, flush=True) if rank() == 0 else None)


def look_at(name: ModelName, root: Path | None) -> SweepModel:
    """A model, its weights not loaded. What is wrong with it is in `problem`.

    root: of the store, where hashes of large files are remembered.
    """
    try:
        model = SweepModel(name, model_kind_of(name), identity_of(name, root), origin=origin_of(name))
        if name.scheme == "checkpoint":
            return replace(model, trained_on=training_splits(name.target))
        return replace(model, trained_on=TrainingSplits([], [])) if "untrained" in model.origin else model
    except Exception as error:  # of any kind: it must not cost the other models
        return SweepModel(name, problem=error)


def open_task(task: TaskConfig, config: EvalConfig) -> SweepTask:
    """A task over its split, opened. What is wrong with its data is in `problem`."""
    split = config.split or task.split
    settings = TaskSettings(
        Bootstrap(config.resamples, config.seed),
        config.batch_size,
        embedder_of=lambda name, capability: embedder_of(
            name, capability, config, lambda: choose_device(config.accelerator)
        ),
    )
    try:
        built = build_task(task, settings, split)
        return SweepTask(task, built.dataset.manifest.split, built)
    except Exception as error:
        return SweepTask(task, split, problem=error)


def parts_of(
    model: SweepModel, task: SweepTask, config: EvalConfig, judge: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Everything that decides the values and the protocol of a cell, in clear; nothing where it cannot be measured.

    judge: what `judge_parts` says.
    """
    if task.task is None or model.problem is not None:
        return {}
    trained = model.trained_on or TrainingSplits([], ["unknown"])
    held_out = [[part.to_json() for part in trained.unseen], trained.notes]
    return {
        "format": FORMAT,
        "model": model.identity,
        "trained_on": [[[str(split.folder), split.manifest_hash] for split in trained.splits], trained.unknown],
        **({"held_out": held_out} if any(held_out) else {}),
        "task": {key: value for key, value in as_dict(task.config).items() if key not in OF_THE_LISTING},
        "version": getattr(task_class(task.config.kind), "version", 1),
        "libraries": rules_and_versions(),
        "split": task.split,
        "data": task.task.dataset.manifest_hash,
        "options": options_of(model.model_name, config),
        "valid": valid.manifest_hash if (valid := getattr(task.task, "valid", None)) is not None else None,
        **({"train": train.manifest_hash} if (train := getattr(task.task, "train", None)) is not None else {}),
        **({"prompting": parts} if (parts := getattr(task.task, "prompting_identity", None)) else {}),
        **({JUDGE: dict(judge)} if judge and is_judged_task(task.config) else {}),
        **({"scorers": scorers} if (scorers := getattr(task.task, "scorers", None)) else {}),
        "settings": {key: value for key, value in as_dict(config).items() if key not in NOT_CONTENT},
    }


def check_held_out(models: Sequence[SweepModel], groupings: Sequence[Grouping]) -> None:
    """Where groupings ask for it, one of the models' checkpoints states combinations that were held out of its training.

    Raises:
        ConfigError: none does.
    """
    histories = [model.trained_on for model in models if model.trained_on]
    if groupings and not any(history.unseen for history in histories):
        notes = "".join(f"; {note}" for history in histories for note in history.notes)
        raise ConfigError(
            f"by={groupings[0].text}: of none of the models anything is known to be held out of training{notes}. Prepare with "
            f"holdout_by, or train with data.sources.<name>.exclude"
        )


def check_names(tasks: Sequence[TaskConfig], split: str) -> None:
    """No two tasks have one name and split, by which results are told apart. Raises ConfigError."""
    keys = [(task.name, split or task.split) for task in tasks]
    for name, split_of_task in keys:
        if keys.count((name, split_of_task)) > 1:
            raise ConfigError(
                f"two of the tasks have name: {name} and split {split_of_task}, so that their results could not be told apart; "
                f"give one of their files another `name`"
            )


def check_fit(models: Sequence[SweepModel], tasks: Sequence[TaskConfig], explicit: Sequence[TaskConfig]) -> None:
    """Every model is measured by one of the tasks at least, and every task measures one of the models that was not only of a
    group: a group may have tasks for other kinds of models.

    Raises:
        ConfigError: names the model or the task that would have no cell.
    """
    for model in models:
        if not any(map(model.offers, tasks)):
            raise _misfit(tasks[0], model, "")
    for task in explicit:
        if not any(model.offers(task) for model in models):
            raise _misfit(task, models[0], " (nor any other of the models)" if len(models) > 1 else "")


def _misfit(task: TaskConfig, model: SweepModel, addition: str) -> ConfigError:
    assert model.kind is not None
    title, offers = model.kind.title, model.kind.offers
    kinds = [kind for kind, (options, _) in TASKS.items() if not missing_capabilities(options(), offers)]
    return ConfigError(
        f"task {task.name} (kind: {task.kind}) cannot measure {model.name}, which is {title}{addition}; "
        f"{title} is measured by tasks of kind {' or '.join(kinds)}: `medvlp list tasks`"
    )
