"""Retrieval of texts by texts, several relevant to a query and some more than others. Q: queries; C: candidates; D: width."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from medvlp.eval.embeddings import CachedEncoder, ImageEmbeddings
from medvlp.eval.items import Item, items_of
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
from medvlp.eval.retrieval.task import GradedRetrieval, encoded
from medvlp.eval.task import TaskResult


@dataclass(frozen=True)
class TextRetrieval(GradedRetrieval):
    """Recall, hits and nDCG of queries over texts.

    With a label every sample is a query and a candidate, and its own group's samples (article, patient) are no candidates for
    it. Every candidate is one of its own, equal texts too: they tie.
    """

    kind: ClassVar[str] = "text_retrieval"

    @classmethod
    def needs(cls, config: Any) -> tuple[str, ...]:
        """Embeddings of texts."""
        return ("encode_text",)

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
        self.check_queries(queries, items)
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
        notes = {"text": name, "texts": "each is a candidate of its own; equal ones tie"}
        return self.result(model, records, queries, len(candidates), images, no_text, notes)

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
