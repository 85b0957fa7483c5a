"""Composed retrieval: images by an image, or several, and a text that says what is to be other.

Legend: Q queries, C candidates, D embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from medvlp.eval.embeddings import CachedEncoder
from medvlp.eval.items import Item, items_of
from medvlp.eval.metrics import Array
from medvlp.eval.multi_label.targets import names_in, value_of
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

CONTROLS = ("image_only", "text_only")


@dataclass(frozen=True)
class ComposedRetrieval(GradedRetrieval):
    """Recall, hits and nDCG of queries made of an image and a text, over images; next to them those of either part alone.

    A query starts from its own image, from images that it names, or from both: their mean. An image that a query names is no
    candidate for it. The embedding of a query is (1 - w) · images + w · text, of unit vectors; a query without a text is its
    images alone.
    """

    kind: ClassVar[str] = "composed_retrieval"

    @classmethod
    def needs(cls, config: Any) -> tuple[str, ...]:
        """Embeddings of images and texts."""
        return "encode_image", "encode_text"

    def run(self, model: CachedEncoder) -> TaskResult:
        """Measure one model. Where torch.distributed runs, every rank encodes its share and gets the whole result.

        Raises:
            TaskError: no image can be read, or no query can be asked.
        """
        options = self.options
        images = model.images(self.dataset)
        row_of = {item.key: row for row, item in enumerate(images.items)}
        items = [item for item in items_of(self.dataset) if isinstance(item, Item)]
        asking = {item.key for item in items if is_query(item) and not options.label}
        candidates = [item for item in images.items if item.key not in asking]
        queries = self._labelled(candidates) if options.label else self._stated(items, candidates, row_of)
        self.check_queries(queries, items)
        candidate_CD = images.embeddings_ND[[row_of[item.key] for item in candidates]]
        image_QD = torch.stack(
            [self._image(query, candidate_CD, images.embeddings_ND, row_of) for query in queries.queries]
        )
        text_QD = encoded(model, [query.text for query in queries.queries])
        has_text_Q1 = torch.tensor([[bool(query.text)] for query in queries.queries])
        weight = options.text_weight
        composed_QD = torch.where(has_text_Q1, normalize((1 - weight) * image_QD + weight * text_QD, dim=1), image_QD)
        records = graded_records(
            queries.queries,
            candidates,
            composed_QD,
            candidate_CD,
            options.relevant_from,
            options.recall_at,
            options.ndcg_at,
            {"image_only": image_QD, "text_only": text_QD} if bool(has_text_Q1.all()) else {},
        )
        images = replace(images, bad={key: reason for key, reason in images.bad.items() if key not in asking})
        controls = {
            "image_only": "the query without its text",
            "text_only": "the query without its image: what of the score is the text's alone",
        }
        if not bool(has_text_Q1.all()):
            controls = {"skipped": "image_only, text_only: some queries have no text"}
        notes = {
            "composition": f"{1 - weight:g} · image + {weight:g} · text, unit vectors; several images by their mean",
            "change": f"{options.change}: {options.change_template}" if options.change else None,
            "controls": controls,
        }
        return self.result(model, records, queries, len(candidates), images, 0, notes)

    def _stated(self, items: Sequence[Item], candidates: Sequence[Item], row_of: dict[str, int]) -> Queries:
        queries = stated_queries(items, candidates, self.options, needs_text=False)
        startable = [query for query in queries.queries if query.references or query.item.key in row_of]
        if len(startable) < len(queries.queries):
            queries.excluded["no image that it starts from"] += len(queries.queries) - len(startable)
        queries.queries = startable
        return queries

    def _image(self, query: Query, candidate_CD: Tensor, embeddings_ND: Tensor, row_of: dict[str, int]) -> Tensor:
        """Unit vector of the images that a query starts from."""
        vectors = [candidate_CD[row] for row in query.references]
        if query.item.key in row_of and is_query(query.item):
            vectors.append(embeddings_ND[row_of[query.item.key]])
        return normalize(torch.stack(vectors).mean(dim=0), dim=0) if len(vectors) > 1 else vectors[0]

    def _labelled(self, candidates: Sequence[Item]) -> Queries:
        """Every image as a query that asks for another class of `change`: of the classes behind its own in the alphabet, and
        then from the front, the first of which an image is relevant. Those of other classes have grade 0."""
        options = self.options
        overlap, groups = LabelOverlap(candidates, options.label), rows_of_groups(candidates)
        class_C = [next(iter(names_in(value_of(item, options.change))), "") for item in candidates]
        classes = sorted({name for name in class_C if name})
        is_of_class = {
            name: torch.tensor([of_candidate == name for of_candidate in class_C]).numpy() for name in classes
        }
        result = Queries()
        for row, item in enumerate(candidates):
            if not overlap.names[row] or not class_C[row]:
                result.excluded[f"no label {options.label if class_C[row] else options.change}"] += 1
                continue
            skipped = groups[item.group]
            grade_C = without(overlap.grades(row), skipped)
            position = classes.index(class_C[row])
            other_classes = [*classes[position + 1 :], *classes[:position]]
            target_class = next(
                (name for name in other_classes if (grade_C[is_of_class[name]] >= options.relevant_from).any()), ""
            )
            if not target_class:
                result.excluded["no candidate of another class is relevant"] += 1
                continue

            def grades(row: int = row, member_C: Array = is_of_class[target_class]) -> Array:
                return overlap.grades(row) * member_C

            text = options.change_template.replace("{}", target_class)
            result.queries.append(Query(item, text, grades, skipped, [row]))
        return result
