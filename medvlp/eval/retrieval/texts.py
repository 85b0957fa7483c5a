"""Retrieval of texts by texts, several relevant to a query and some more than others. Q: queries; C: candidates; D: width."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from medvlp.config import TextRetrievalConfig
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.embeddings import CachedEncoder, ImageEmbeddings
from medvlp.eval.errors import TaskError
from medvlp.eval.exclusions import exclusion_lines
from medvlp.eval.items import Item, items_of
from medvlp.eval.retrieval.graded import TIE_RULE
from medvlp.eval.retrieval.queries import (
    LabelOverlap,
    Queries,
    Query,
    is_query,
    rows_of_groups,
    stated_queries,
    without,
)
from medvlp.eval.retrieval.ranking import graded_records
from medvlp.eval.statistics.measures import measures
from medvlp.eval.task import TaskResult, TaskSettings, task_protocol
from medvlp.eval.trained import Trained, marked
from medvlp.shards import ShardDataset

RESAMPLED = "queries; the candidates stay as they are"
SKIPPED = "of a query the candidates of its own group, itself included"


@dataclass(frozen=True)
class TextRetrieval:
    """Recall, hits and nDCG of queries over texts.

    With a label every sample is a query and a candidate, and its own group's samples (article, patient) are no candidates for
    it. Every candidate is one of its own, equal texts too: they tie.
    """

    kind: ClassVar[str] = "text_retrieval"
    version: ClassVar[int] = 1

    name: str
    dataset: ShardDataset
    options: TextRetrievalConfig
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    trained: Trained | None = None

    @classmethod
    def needs(cls, config: TextRetrievalConfig) -> tuple[str, ...]:
        """Embeddings of texts."""
        return ("encode_text",)

    @classmethod
    def uses(cls, config: TextRetrievalConfig) -> dict[str, tuple[str, ...]]:
        """Nothing else."""
        return {}

    @classmethod
    def from_config(cls, config: TextRetrievalConfig, dataset: ShardDataset, settings: TaskSettings) -> Self:
        """The task of a configuration."""
        return cls(config.name, dataset, config, settings.bootstrap)

    def run(self, model: CachedEncoder) -> TaskResult:
        """Measure one model. Where torch.distributed runs, every rank encodes its share and gets the whole result.

        Raises:
            TaskError: no query can be asked.
        """
        options = self.options
        rows = items_of(self.dataset)
        items = [row for row in rows if isinstance(row, Item)]
        bad = {self.dataset.key(i): row.reason for i, row in enumerate(rows) if not isinstance(row, Item)}
        name = options.query if options.label else options.document
        with_text = [item for item in items if item.texts.get(name, "").strip()]
        candidates = [item for item in with_text if options.label or not is_query(item)]
        queries = self._labelled(candidates) if options.label else stated_queries(items, candidates, options)
        check_queries(self, queries, items)
        query_QD = encoded(model, [query.text for query in queries.queries])
        candidate_CD = encoded(model, [item.texts[name].strip() for item in candidates])
        records = graded_records(
            queries.queries,
            candidates,
            query_QD,
            candidate_CD,
            options.relevant_from,
            options.recall_at,
            options.ndcg_at,
        )
        images = ImageEmbeddings([], torch.empty(0), bad)
        no_text = len(items) - len(with_text) if options.label else 0
        protocol = task_protocol(self, model, images, [query.item for query in queries.queries], queries.excluded)
        protocol |= graded_protocol(options, queries, len(candidates), no_text, images)
        protocol["bootstrap"]["resampled"] = RESAMPLED
        protocol |= {"text": name, "texts": "each is a candidate of its own; equal ones tie"}
        records = marked(records, [record["id"] for record in records], self.trained)
        return TaskResult(self.name, self.kind, self.bootstrap.measure(measures(records, protocol)), records, protocol)

    def _labelled(self, candidates: Sequence[Item]) -> Queries:
        overlap, groups = LabelOverlap(candidates, self.options.label), rows_of_groups(candidates)
        result = Queries()
        for row, item in enumerate(candidates):
            if not overlap.names[row]:
                result.excluded[f"no label {self.options.label}"] += 1
                continue
            skipped = groups[item.group]
            if not (without(overlap.grades(row), skipped) >= self.options.relevant_from).any():
                result.excluded["no candidate is relevant"] += 1
                continue
            text = item.texts[self.options.query].strip()
            result.queries.append(Query(item, text, lambda row=row: overlap.grades(row), skipped))  # type: ignore[misc]
        return result


def encoded(model: CachedEncoder, texts: Sequence[str]) -> Tensor:
    """embeddings_ND of texts, each encoded once."""
    unique = list(dict.fromkeys(texts))
    row_of = {text: row for row, text in enumerate(unique)}
    return model.texts(unique)[[row_of[text] for text in texts]]


def check_queries(task: Any, queries: Queries, items: Sequence[Item]) -> None:
    """Raises TaskError where no query can be asked."""
    if queries.queries:
        return
    fields = sorted({name for item in items for name in item.texts})
    condition = f"with names in the label {task.options.label!r}" if task.options.label else "with metadata role: query"
    raise TaskError(
        f"task {task.name}: no query of {task.dataset.folder} can be asked; excluded: {dict(queries.excluded)}; expected samples "
        f"{condition} and a text {task.options.query!r}; text fields there: {fields}"
    )


def graded_protocol(
    options: Any, queries: Queries, candidates: int, no_text: int, images: ImageEmbeddings
) -> dict[str, Any]:
    """What the protocols of graded retrieval share."""
    count = len(queries.queries)
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
