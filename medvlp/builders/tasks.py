"""Evaluation tasks from their configuration, and whether models fit them."""

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from medvlp.builders.absent_data import advice
from medvlp.builders.data import open_shards
from medvlp.config import TASKS, ConfigError, TaskConfig, TrainConfig, load_task
from medvlp.distributed import rank
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.task import CAPABILITIES, Task, TaskSettings
from medvlp.shards import ShardDataset, ShardError
from medvlp.shards.storage import has_split

if TYPE_CHECKING:
    from medvlp.training.module import Objective


def task_class(kind: str) -> type[Task]:
    """The class of a kind of task."""
    module, _, name = TASKS[kind][1].partition(":")
    task: type[Task] = getattr(import_module(module), name)
    return task


def build_task(config: TaskConfig, settings: TaskSettings, split: str = "") -> Task:
    """A task over a split of its data: the named one, or the task's own.

    Raises:
        ConfigError: data that is not there, with the command that prepares it.
        TaskError: settings that do not fit the data.
    """
    return task_class(config.kind).from_config(config, open_split(config, split or config.split), settings)


def open_split(task: TaskConfig, split: str) -> ShardDataset:
    """A split of the task's data.

    Raises:
        ConfigError: it is not there, with the command that prepares it.
    """
    try:
        return open_shards(f"{task.data}/{split}")
    except ShardError as error:
        raise ConfigError(f"task {task.name}: {error}\n{advice(task)}") from None


def missing_capabilities(task: TaskConfig, offers: Sequence[str]) -> list[str]:
    """Capabilities that the task needs and that are not among those offered."""
    return [capability for capability in task_class(task.kind).needs(task) if capability not in offers]


def build_evaluation(
    config: TrainConfig, objective: "Objective"
) -> Callable[[], Iterable[tuple[str, str, float]]] | None:
    """The run's tasks on their `valid_split`, as a function that evaluates the present weights.

    Raises:
        ConfigError: a task that cannot measure what the objective trains, or whose data are missing.
        TaskError: a task whose settings do not fit the data.
    """
    evaluated = objective.evaluated
    if not config.tasks:
        return None
    offers = evaluated(IN_TRAINING).offers if evaluated else ()
    tasks = [training_task(load_task(name), config, offers) for name in config.tasks]
    printed: set[str] = set()

    def evaluate() -> Iterable[tuple[str, str, float]]:
        assert evaluated is not None
        model: Any = evaluated(IN_TRAINING)  # a new one each time: the weights change without changing their name
        for task in tasks:
            result = task.run(model)
            exclusions = [f"{task.name}: {line}" for line in result.protocol["exclusions"]]
            if rank() == 0 and not printed.issuperset(exclusions):
                print("not in these scores:\n  " + "\n  ".join(exclusions), flush=True)
                printed.update(exclusions)
            for metric in result.metrics:
                yield task.name, metric.name, metric.value
            counts = [*result.protocol["excluded"].values(), *result.protocol["bad"].values()]
            if excluded := sum(counts):
                yield task.name, "excluded", excluded

    return evaluate


IN_TRAINING = "in training"
"""Identity of weights that have not been saved."""


def training_task(task: TaskConfig, config: TrainConfig, offers: Sequence[str]) -> Task:
    """A task without intervals and controls, on its `valid_split`.

    offers: capabilities of what the objective trains.

    Raises:
        ConfigError: it cannot measure what the objective trains, its data are missing, or it would score the test split.
    """
    if missing := missing_capabilities(task, offers):
        raise ConfigError(
            f"tasks={config.tasks}: {task.name} (kind: {task.kind}) needs {CAPABILITIES[missing[0]]}, which "
            f"objective={config.objective.kind} does not give"
        )
    if task.valid_split == task.split:
        raise ConfigError(
            f"task {task.name}: valid_split={task.valid_split} is the split that `medvlp eval` scores; a checkpoint that is "
            f"chosen on it has seen the test. Name another split in a task file of your own"
        )
    if not has_split(f"{task.data}/{task.valid_split}") and has_split(f"{task.data}/{task.split}"):
        raise ConfigError(
            f"task {task.name}: {task.data} has no split {task.valid_split!r} to score during training. Some sets have none "
            f"(VQA-RAD): train without tasks=[{task.name}] and score with `medvlp eval`, or prepare the data "
            f"with holdout=0.1, which makes valid of a tenth of train's groups"
        )
    return build_task(task, TaskSettings(Bootstrap(resamples=0), in_training=True), task.valid_split)
