"""Evaluation tasks and their results: metrics with intervals, a record an item, and the protocol."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from medvlp.config import TaskConfig
from medvlp.eval.bootstrap import Bootstrap, MetricValue
from medvlp.eval.embeddings import ImageEmbeddings
from medvlp.eval.errors import TaskError
from medvlp.eval.items import Item
from medvlp.eval.metrics import TIE_RULE
from medvlp.eval.trained import Trained
from medvlp.shards import ShardDataset
from medvlp.shards.storage import has_split, split_folder

RESEARCH_USE = "research use only; not for clinical use"

CAPABILITIES = {
    "encode_image": "embeddings",
    "encode_text": "embeddings",
    "classify": "scores of trained heads",
    "generate": "answers",
    "loglikelihood": "answers",
}
"""What tasks need and models offer → what it gives, in words: `CachedEncoder` has the first two, a
`ClassifierModel` the first and the third, an `AnsweringModel` the others."""

NAMED_BAD_SAMPLES = 20
"""Bad samples are all counted in a protocol; this many are named, so that a ruined dataset leaves readable results."""


@dataclass(frozen=True)
class TaskResult:
    """A task's result for one checkpoint."""

    task: str
    kind: str
    metrics: list[MetricValue]
    records: list[dict[str, Any]]
    """One an item: id, group, prediction, target, score, fields, and what the kind of task adds."""
    protocol: dict[str, Any]
    """Everything that someone needs to reproduce the numbers, as JSON values."""


class EvaluatedModel(Protocol):
    """A model as tasks use it. What it can do is in `offers`; each capability is described at `CAPABILITIES`."""

    @property
    def offers(self) -> tuple[str, ...]:
        """Its capabilities."""

    @property
    def identity(self) -> str:
        """Hash of the weights, and of all else that decides what the model gives."""


class Task(Protocol):
    """An evaluation over one split: a frozen dataclass.

    kind: as task files name it. version: of the code that measures; a change that moves numbers raises it.
    trained: what of the split the model was trained on, where that was looked for.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    kind: ClassVar[str]
    version: ClassVar[int]

    @property
    def bootstrap(self) -> Bootstrap:
        """Settings of its intervals."""

    @property
    def trained(self) -> Trained | None:
        """Which items were trained on; each metric is then over these and over the others too."""

    @property
    def name(self) -> str:
        """Its name in results.jsonl."""

    @property
    def dataset(self) -> ShardDataset:
        """The split."""

    @classmethod
    def needs(cls, config: Any) -> tuple[str, ...]:
        """Capabilities that a model must offer for the task that a file of configs/task/ describes."""

    @classmethod
    def uses(cls, config: Any) -> dict[str, tuple[str, ...]]:
        """Capabilities that the task can do without → metrics that a model which does not offer them has no part in. A
        protocol names them under `omitted`."""

    @classmethod
    def from_config(cls, config: Any, dataset: ShardDataset, settings: "TaskSettings") -> Self:
        """The task that a file of configs/task/ describes.

        Raises:
            TaskError: settings that do not fit the data.
        """

    def run(self, model: Any) -> TaskResult:
        """Measure one model, which offers what the task needs.

        Raises:
            TaskError: the data, or the model, cannot be measured.
        """


@dataclass(frozen=True)
class TaskSettings:
    """Settings that every kind of task is run with.

    in_training: without controls, and on the questions that the task allows a training run. embedder_of: (a model's name, a
    capability) → the `Embedder` of nearest examples; None where no other model may be opened.
    """

    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    batch_size: int = 64
    in_training: bool = False
    embedder_of: Callable[[str, str], Any] | None = None


def validation_split(config: TaskConfig, dataset: ShardDataset) -> ShardDataset | None:
    """The task's `valid_split`, to choose on; None where the data have none, or where it is the split that is scored.

    Raises:
        TaskError: the task names another one than usual, and it is not there.
        ShardError: it is damaged or unfinished.
    """
    split = f"{config.data}/{config.valid_split}"
    is_there = has_split(split)
    if not is_there and config.valid_split != TaskConfig.valid_split:
        splits = sorted(path.parent.name for path in Path(config.data).glob("*/manifest.json"))
        raise TaskError(
            f"task {config.name}: valid_split={config.valid_split} is not there; {config.data} has the splits {splits}. Leave "
            f"the key out where there is none to choose on"
        )
    if not is_there or dataset.manifest.split == config.valid_split:
        return None
    return ShardDataset(split_folder(split))


def datasets_of(task: Task) -> list[ShardDataset]:
    """The splits whose images a task looks at: the one that is scored, and those that it chooses or fits on."""
    splits = (task.dataset, getattr(task, "valid", None), getattr(task, "train", None))
    return [split for split in splits if split is not None]


def task_protocol(
    task: Task, model: EvaluatedModel, images: ImageEmbeddings, used: Sequence[Item], excluded: Mapping[str, int]
) -> dict[str, Any]:
    """The part of a protocol that all kinds share: data, model and statistics."""
    dataset, trained = task.dataset, task.trained
    keys = {item.key for item in used}
    hashes = zip(dataset.column("key"), dataset.column("sha256"), strict=True)
    return {
        "kind": task.kind,
        "version": task.version,
        "data": str(dataset.folder),
        "split": dataset.manifest.split,
        "split_hash": dataset.manifest_hash,
        "samples": len(dataset),
        "n": len(used),
        "unique_images": len({sha256 for key, sha256 in hashes if key in keys}),
        "excluded": dict(sorted(excluded.items())),
        "bad": images.bad_counts(),
        "bad_keys": sorted(images.bad)[:NAMED_BAD_SAMPLES],
        "in_train": trained.metadata([item.key for item in used]) if trained is not None else None,
        "weights": model.identity,
        "tie_rule": TIE_RULE,
        "bootstrap": task.bootstrap.metadata([item.group for item in used], [item.group_kind for item in used]),
        "use": RESEARCH_USE,
    }
