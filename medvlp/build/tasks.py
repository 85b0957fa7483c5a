"""Evaluation tasks from their configuration."""

from collections.abc import Callable, Iterable
from pathlib import Path

from medvlp.build.data import open_shards
from medvlp.build.experiment import Experiment
from medvlp.config import ConfigError, TaskConfig, TrainConfig, load_task
from medvlp.eval.embeddings import EmbeddingCache
from medvlp.eval.retrieval import Retrieval
from medvlp.eval.tasks import Bootstrap, Task
from medvlp.eval.zero_shot import ZeroShot
from medvlp.shards import ShardError


def build_task(task: TaskConfig, bootstrap: Bootstrap, split: str = "") -> Task:
    """An evaluator over a split of the task's data: the named one, or the task's own.

    Raises:
        ConfigError: unknown kind, or data that is not there, with the command that prepares it.
    """
    folder = Path(task.data) / (split or task.split)
    try:
        dataset = open_shards(str(folder))
    except ShardError as error:
        raise ConfigError(
            f"task {task.name}: {error}\nPrepare it with\n"
            f"  medvlp prep source=<name> input=<the publisher's files> output={task.data}"
        ) from None
    try:
        if task.kind == "zero_shot":
            return ZeroShot(task.name, dataset, task.label, task.classes, task.templates, bootstrap)
        if task.kind == "retrieval":
            return Retrieval(task.name, dataset, task.text, tuple(task.recall_at), bootstrap)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    raise ConfigError(f"task {task.name}: kind={task.kind!r} is unknown; available: retrieval, zero_shot")


def build_evaluation(
    config: TrainConfig, experiment: Experiment
) -> Callable[[], Iterable[tuple[str, str, float]]] | None:
    """The run's tasks on their `valid` split, as a function that evaluates the present weights.

    Raises:
        ConfigError: the objective gives no encoder, or a task's data is missing.
    """
    if not config.tasks:
        return None
    if experiment.encoder is None:
        raise ConfigError(
            f"tasks={config.tasks} need embeddings, which objective={config.objective.kind} does not give"
        )
    tasks = [build_task(load_task(name), Bootstrap(resamples=0), split="valid") for name in config.tasks]
    encoder_of, data = experiment.encoder, config.data

    def evaluate() -> Iterable[tuple[str, str, float]]:
        # A cache a run: the weights change between two runs without changing their name.
        cache = EmbeddingCache(batch_size=64, workers=data.workers, max_pixels=data.max_pixels)
        encoder = encoder_of("in training")
        for task in tasks:
            for metric in task.run(encoder, cache).metrics:
                yield task.name, metric.name, metric.value

    return evaluate
