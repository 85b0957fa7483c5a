"""Evaluation tasks and their results: metrics with intervals, a record an item, and the protocol."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

from medvlp.eval.bootstrap import LEVEL, bootstrap_intervals
from medvlp.eval.embeddings import ImageEmbeddings, Item
from medvlp.eval.metrics import TIE_RULE, Array, Value
from medvlp.eval.trained import Trained, by_part
from medvlp.shards import ShardDataset

RESEARCH_USE = "research use only; not for clinical use"

CAPABILITIES = {
    "encode_image": "embeddings",
    "encode_text": "embeddings",
    "generate": "answers",
    "loglikelihood": "answers",
}
"""What tasks need and models offer → what it gives, in words: `CachedEncoder` has the first two, `VqaModel` the others."""

NAMED_BAD_SAMPLES = 20
"""Bad samples are all counted in a protocol; this many are named, so that a ruined dataset leaves readable results."""


@dataclass(frozen=True)
class MetricValue:
    """One metric as a fraction, with its 95% interval; NaN bounds where there is none."""

    name: str
    value: float
    ci_low: float
    ci_high: float
    n: int
    """Items that the metric averages over."""


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

    offers: ClassVar[tuple[str, ...]]

    @property
    def identity(self) -> str:
        """Hash of the weights, and of all else that decides what the model gives."""


class Task(Protocol):
    """An evaluation over one split: a frozen dataclass.

    kind: as task files name it. trained: what of the split the model was trained on, where that was looked for.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    kind: ClassVar[str]

    @property
    def bootstrap(self) -> "Bootstrap":
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
class Bootstrap:
    """Intervals by the bootstrap over clusters of items."""

    resamples: int = 10_000
    """0 leaves the intervals out, for a quick look during training."""
    seed: int = 0

    def measure(
        self,
        metrics: Mapping[str, Callable[[Array | None], Value]],
        groups: Sequence[Hashable],
        trained_N: Array | None = None,
    ) -> list[MetricValue]:
        """Each metric over all items and over resampled clusters of items; groups names each item's cluster.

        trained_N: (N,) bool, items that the model was trained on; each metric is given of these and of the others too.
        """
        by_name = by_part(metrics, trained_N)
        intervals = bootstrap_intervals(
            {name: metric for name, (metric, _) in by_name.items()}, groups, self.resamples, self.seed
        )
        return [
            MetricValue(name, float(metric(None)), *intervals[name], len(groups) if n is None else n)
            for name, (metric, n) in by_name.items()
        ]

    def metadata(self, used: Sequence[Item]) -> dict[str, Any]:
        """Its part of a protocol."""
        kinds = sorted({item.group_kind or "kind not stated" for item in used})
        return {
            "method": "percentile bootstrap over clusters of items",
            "level": LEVEL,
            "resamples": self.resamples,
            "seed": self.seed,
            "cluster": f"group ({' or '.join(kinds)})",
            "clusters": len({item.group for item in used}),
        }


@dataclass(frozen=True)
class TaskSettings:
    """Settings that every kind of task is run with.

    in_training: without controls, and on the questions that the task allows a training run.
    """

    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    batch_size: int = 64
    in_training: bool = False


def task_protocol(
    task: Task, model: EvaluatedModel, images: ImageEmbeddings, used: Sequence[Item], excluded: Mapping[str, int]
) -> dict[str, Any]:
    """The part of a protocol that all kinds share: data, model and statistics."""
    dataset, trained = task.dataset, task.trained
    keys = {item.key for item in used}
    hashes = zip(dataset.column("key"), dataset.column("sha256"), strict=True)
    return {
        "kind": task.kind,
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
        "bootstrap": task.bootstrap.metadata(used),
        "use": RESEARCH_USE,
    }
