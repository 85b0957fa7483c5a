"""Evaluation tasks from their configuration, and models of checkpoints that they measure."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from medvlp.builders.clip import load_clip, model_kind
from medvlp.builders.data import open_shards
from medvlp.builders.llava import load_assistant, respondent
from medvlp.builders.objectives import Experiment
from medvlp.config import ConfigError, EvalConfig, TaskConfig, TrainConfig, load_task
from medvlp.eval.embeddings import EmbeddingCache, Encoder
from medvlp.eval.retrieval import Retrieval
from medvlp.eval.task import Bootstrap, Outcome, Task
from medvlp.eval.vqa.questions import Choice, Respondent
from medvlp.eval.vqa.task import Vqa
from medvlp.eval.zero_shot import ZeroShot
from medvlp.losses.gather import rank
from medvlp.models.clip.model import ClipEncoder
from medvlp.shards import ShardDataset, ShardError
from medvlp.training.checkpoints import CheckpointError

MEASURED_BY = {"clip": ("zero_shot", "retrieval"), "llava": ("vqa",)}
"""Kind of model → kinds of tasks that can measure it."""
NAMES = {"clip": "a CLIP model", "llava": "an assistant"}


def build_task(
    task: TaskConfig, bootstrap: Bootstrap, split: str = "", batch_size: int = 64
) -> ZeroShot | Retrieval | Vqa:
    """An evaluator over a split of the task's data: the named one, or the task's own.

    Raises:
        ConfigError: data that is not there, with the command that prepares it, or settings that do not fit.
    """
    dataset = open_split(task, split or task.split)
    try:
        if task.kind == "zero_shot":
            zero_shot = ZeroShot(
                task.name, dataset, task.label, task.classes, task.templates, bootstrap, tuple(task.exclude)
            )
            zero_shot.check()  # now, not when a model has been trained or all images encoded
            return zero_shot
        if task.kind == "retrieval":
            return Retrieval(task.name, dataset, task.text, tuple(task.recall_at), bootstrap)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return Vqa(task.name, dataset, choice_of(task), tuple(task.controls), bootstrap, batch_size=batch_size)


def choice_of(task: TaskConfig) -> Choice:
    """Which questions a vqa task asks, and how."""
    return Choice(task.instruction, tuple(task.languages), tuple(task.answer_types), task.max_new_tokens)


def open_split(task: TaskConfig, split: str) -> ShardDataset:
    """A split of the task's data.

    Raises:
        ConfigError: it is not there, with the command that prepares it.
    """
    try:
        return open_shards(str(Path(task.data) / split))
    except ShardError as error:
        raise ConfigError(
            f"task {task.name}: {error}\nPrepare it with\n"
            f"  medvlp prep source=<name> input=<the publisher's files> output={task.data}"
        ) from None


def check_fit(checkpoints: Sequence[str], tasks: Sequence[TaskConfig]) -> None:
    """Every task can measure every checkpoint.

    Raises:
        ConfigError: names a task and a checkpoint that do not fit.
        CheckpointError: not one of ours.
    """
    for path in checkpoints:
        kind = measured_kind(path)
        unfit = [task for task in tasks if task.kind not in MEASURED_BY[kind]]
        if unfit:
            raise ConfigError(
                f"task {unfit[0].name} (kind: {unfit[0].kind}) cannot measure {path}, which is {NAMES[kind]}; "
                f"{NAMES[kind]} is measured by tasks of kind {' or '.join(MEASURED_BY[kind])}: `medvlp list tasks`"
            )


def measured_kind(path: str) -> str:
    """`model.kind` of a checkpoint.

    Raises:
        CheckpointError: damaged, not one of ours, or a kind that no task can measure.
    """
    kind = model_kind(path)
    if kind not in MEASURED_BY:
        raise CheckpointError(f"checkpoint {path} holds model.kind={kind!r}, which no task can measure")
    return kind


def load_measured(path: str, device: str, config: EvalConfig, cache: EmbeddingCache) -> Callable[[Task | Vqa], Outcome]:
    """A checkpoint's model on a device, as a function that runs a task on it.

    Raises:
        CheckpointError: damaged, or not one of ours.
    """
    if measured_kind(path) == "clip":
        clip = load_clip(path)
        clip.clip.model.to(device)
        encoder = ClipEncoder(clip.clip, device, clip.weights_sha256)
        return lambda task: run(task, encoder, cache, None)
    loaded = load_assistant(path)
    loaded.assistant.model.to(device)
    asked = respondent(loaded.assistant, loaded.encoder, config.max_pixels, config.batch_size, loaded.weights_sha256)
    return lambda task: run(task, None, cache, asked)


def run(task: Task | Vqa, encoder: Encoder | None, cache: EmbeddingCache, asked: Respondent | None) -> Outcome:
    """A task on the model that it is for."""
    if isinstance(task, Vqa):
        assert asked is not None
        return task.run(asked)
    assert encoder is not None
    return task.run(encoder, cache)


def build_evaluation(
    config: TrainConfig, experiment: Experiment
) -> Callable[[], Iterable[tuple[str, str, float]]] | None:
    """The run's tasks on their `valid_split`, as a function that evaluates the present weights.

    Raises:
        ConfigError: a task that cannot measure what the objective trains, or whose data are missing.
    """
    if not config.tasks:
        return None
    chosen = [load_task(name) for name in config.tasks]
    tasks = [training_task(task, config, experiment) for task in chosen]
    data = config.data
    said: set[str] = set()

    def evaluate() -> Iterable[tuple[str, str, float]]:
        # A cache a run: the weights change between two runs without changing their name.
        cache = EmbeddingCache(batch_size=64, workers=data.workers, max_pixels=data.max_pixels)
        encoder = experiment.encoder("in training") if experiment.encoder else None
        asked = experiment.respondent("in training") if experiment.respondent else None
        for task in tasks:
            outcome = run(task, encoder, cache, asked)
            exclusions = [f"{task.name}: {line}" for line in outcome.protocol["exclusions"]]
            if rank() == 0 and not said.issuperset(exclusions):
                print("not in these scores:\n  " + "\n  ".join(exclusions), flush=True)
                said.update(exclusions)
            for metric in outcome.metrics:
                yield task.name, metric.name, metric.value
            left_out = outcome.protocol["excluded"], outcome.protocol["bad"]
            if excluded := sum(count for counts in left_out for count in counts.values()):
                yield task.name, "excluded", excluded

    return evaluate


def training_task(task: TaskConfig, config: TrainConfig, experiment: Experiment) -> Task | Vqa:
    """A task without intervals and controls, on its `valid_split`.

    Raises:
        ConfigError: it cannot measure what the objective trains, its data are missing, or it would score the test split.
    """
    needs, given = ("answers", experiment.respondent) if task.kind == "vqa" else ("embeddings", experiment.encoder)
    if given is None:
        raise ConfigError(
            f"tasks={config.tasks}: {task.name} (kind: {task.kind}) needs {needs}, which "
            f"objective={config.objective.kind} does not give"
        )
    if task.valid_split == task.split:
        raise ConfigError(
            f"task {task.name}: valid_split={task.valid_split} is the split that `medvlp eval` scores; a checkpoint that is "
            f"chosen on it has seen the test. Name another split in a task file of your own"
        )
    if not (Path(task.data) / task.valid_split).exists() and (Path(task.data) / task.split).exists():
        raise ConfigError(
            f"task {task.name}: {task.data} has no split {task.valid_split!r} to score during training. Some sets have none "
            f"(VQA-RAD): train without tasks=[{task.name}] and score with `medvlp eval`, or prepare the data "
            f"with holdout=0.1, which makes valid of a tenth of train's groups"
        )
    if task.kind != "vqa":
        return build_task(task, Bootstrap(resamples=0), task.valid_split)
    dataset = open_split(task, task.valid_split)
    return Vqa(task.name, dataset, choice_of(task), (), Bootstrap(resamples=0), task.valid_limit)
