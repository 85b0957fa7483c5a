"""What tasks of graded retrieval share: how they are made, the texts that they encode, and their results."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, cast

from torch import Tensor

from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.embeddings import CachedEncoder, ImageEmbeddings
from medvlp.eval.errors import TaskError
from medvlp.eval.exclusions import exclusion_lines
from medvlp.eval.items import Item
from medvlp.eval.retrieval.graded import TIE_RULE
from medvlp.eval.retrieval.queries import Queries
from medvlp.eval.statistics.measures import measures
from medvlp.eval.task import Task, TaskResult, TaskSettings, task_protocol
from medvlp.eval.trained import Trained, marked
from medvlp.shards import ShardDataset

RESAMPLED = "queries; the candidates stay as they are"
SKIPPED = "of a query the candidates of its own group, itself included"


@dataclass(frozen=True)
class GradedRetrieval:
    """Queries over candidates of which several may be relevant, some more than others. options: the task's configuration."""

    kind: ClassVar[str]
    version: ClassVar[int] = 1

    name: str
    dataset: ShardDataset
    options: Any
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    trained: Trained | None = None

    @classmethod
    def uses(cls, config: Any) -> dict[str, tuple[str, ...]]:
        """Nothing besides what it needs."""
        return {}

    @classmethod
    def from_config(cls, config: Any, dataset: ShardDataset, settings: TaskSettings) -> Self:
        """The task of a configuration."""
        return cls(config.name, dataset, config, settings.bootstrap)

    def check_queries(self, queries: Queries, items: Sequence[Item]) -> None:
        """Raises TaskError where no query can be asked."""
        if queries.queries:
            return
        fields = sorted({name for item in items for name in item.texts})
        label = self.options.label
        condition = f"with names in the label {label!r}" if label else "with metadata role: query"
        raise TaskError(
            f"task {self.name}: no query of {self.dataset.folder} can be asked; excluded: {dict(queries.excluded)}; expected "
            f"samples {condition} and a text {self.options.query!r}; text fields there: {fields}"
        )

    def result(
        self,
        model: CachedEncoder,
        records: Sequence[dict[str, Any]],
        queries: Queries,
        candidates: int,
        images: ImageEmbeddings,
        no_text: int,
        notes: dict[str, Any],
    ) -> TaskResult:
        """From the records of the queries. images: what of the split cannot be read. no_text: samples without one. notes: what
        the protocol says besides."""
        task = cast(Task, self)
        protocol = task_protocol(task, model, images, [query.item for query in queries.queries], queries.excluded)
        protocol |= self._protocol(queries, candidates, no_text, images)
        protocol["bootstrap"]["resampled"] = RESAMPLED
        protocol |= notes
        rows = marked(list(records), [record["id"] for record in records], self.trained)
        return TaskResult(self.name, self.kind, self.bootstrap.measure(measures(rows, protocol)), rows, protocol)

    def _protocol(self, queries: Queries, candidates: int, no_text: int, images: ImageEmbeddings) -> dict[str, Any]:
        options, count = self.options, len(queries.queries)
        lines = exclusion_lines(queries.excluded, {}, "query", count)
        lines = [line.replace("querys:", "queries:") for line in lines]
        if no_text:
            lines.append(f"{no_text} samples: no text {options.query}")
        lines += [line for line in exclusion_lines({}, images.bad_counts(), "sample", count + candidates) if line]
        if queries.absent:
            lines.append(f"{queries.absent} grades: of documents that are not among the candidates")
        return {
            "query": options.query,
            "candidates": candidates,
            "relevant_from": options.relevant_from,
            "relevance": f"Jaccard index of the names in {options.label}" if options.label else "as the data state it",
            "recall_at": list(options.recall_at),
            "ndcg_at": list(options.ndcg_at),
            "gain": "linear: a grade counts as it is, by 1 / log2(1 + rank)",
            "skipped": SKIPPED if options.label else "the images that a query starts from",
            "exclusions": lines,
            "tie_rule": TIE_RULE,
        }


def encoded(model: CachedEncoder, texts: Sequence[str]) -> Tensor:
    """embeddings_ND of texts, each encoded once."""
    unique = list(dict.fromkeys(texts))
    row_of = {text: row for row, text in enumerate(unique)}
    return model.texts(unique)[[row_of[text] for text in texts]]
