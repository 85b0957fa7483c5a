"""Queries of graded retrieval, and how relevant each candidate is to each: as the data state it, or as labels overlap.

A query that the data state is a sample whose metadata hold `role: query` and `relevance: {document id: grade}`, and of composed
retrieval `reference`: the ids of the images that it starts from. What is looked for has `document_id`.

Legend: C candidates.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from medvlp.eval.items import Item
from medvlp.eval.metrics import Array
from medvlp.eval.multi_label.targets import names_in, value_of
from medvlp.shards.vocabulary import QUERY

ROLE, DOCUMENT_ID, RELEVANCE, REFERENCE = "role", "document_id", "relevance", "reference"


@dataclass(frozen=True)
class Query:
    """What is looked for.

    grades: gives grade_C, 0 of candidates that are not relevant. skipped: rows of candidates that are none for this query.
    references: rows of candidates whose images it starts from.
    """

    item: Item
    text: str
    grades: Callable[[], Array]
    skipped: Sequence[int] = ()
    references: Sequence[int] = ()


@dataclass
class Queries:
    """Queries that can be asked; excluded: why others cannot → how many; absent: relevant documents that are not candidates."""

    queries: list[Query] = field(default_factory=list)
    excluded: Counter[str] = field(default_factory=Counter)
    absent: int = 0


class GradedOptions(Protocol):
    """What decides which queries there are."""

    query: str
    label: str
    relevant_from: float


def is_query(item: Item) -> bool:
    """Whether the data call it a query."""
    return item.metadata.get(ROLE) == QUERY


def stated_queries(
    items: Sequence[Item], candidates: Sequence[Item], options: GradedOptions, needs_text: bool = True
) -> Queries:
    """The queries among items, with what the data state of them."""
    row_of = {str(item.metadata.get(DOCUMENT_ID, item.key)): row for row, item in enumerate(candidates)}
    result = Queries()
    for item in items:
        if not is_query(item):
            continue
        text = item.texts.get(options.query, "").strip()
        relevance, references = item.metadata.get(RELEVANCE), item.metadata.get(REFERENCE) or []
        references = [str(id) for id in (references if isinstance(references, list) else [references])]
        grades = _known_grades(relevance, row_of)
        rows = [row_of[id] for id in references if id in row_of]
        reason = ""
        if not text and (needs_text or not references):
            reason = f"no text {options.query}"
        elif grades is None:
            reason = "relevance is no mapping of ids to grades of 0 and more"
        elif len(rows) < len(references):
            reason = "an image that it starts from is not among the candidates"
        elif not any(grade >= options.relevant_from for row, grade in grades.items() if row not in rows):
            reason = "no candidate is relevant"
        if isinstance(relevance, Mapping):
            result.absent += sum(str(id) not in row_of for id in relevance)
        if reason or grades is None:
            result.excluded[reason] += 1
            continue
        result.queries.append(Query(item, text, _dense(grades, len(candidates)), rows, rows))
    return result


def _known_grades(relevance: Any, row_of: Mapping[str, int]) -> dict[int, float] | None:
    """Row → grade of the candidates that are named; None where relevance is something else."""
    if not isinstance(relevance, Mapping):
        return None
    grades = list(relevance.values())
    if not all(isinstance(grade, int | float) and 0 <= grade < float("inf") for grade in grades):
        return None
    return {row_of[str(id)]: float(grade) for id, grade in relevance.items() if str(id) in row_of}


def _dense(grades: Mapping[int, float], count: int) -> Callable[[], Array]:
    def grade_C() -> Array:
        values_C = np.zeros(count)
        values_C[list(grades)] = list(grades.values())
        return values_C

    return grade_C


class LabelOverlap:
    """The Jaccard index of the names in a label of two candidates: shared ones over all that either has."""

    def __init__(self, candidates: Sequence[Item], label: str) -> None:
        self.names = [sorted({name for name in names_in(value_of(item, label)) if name}) for item in candidates]
        self._size_C = np.array([len(names) for names in self.names], np.float64)
        rows: dict[str, list[int]] = {}
        for row, names in enumerate(self.names):
            for name in names:
                rows.setdefault(name, []).append(row)
        self._rows = {name: np.array(of_name, np.int64) for name, of_name in rows.items()}

    def grades(self, row: int) -> Array:
        """grade_C, 0 to 1, of all candidates with one of them, which has names itself."""
        members = np.concatenate([self._rows[name] for name in self.names[row]])
        common_C = np.bincount(members, minlength=len(self.names)).astype(np.float64)
        return np.asarray(common_C / (len(self.names[row]) + self._size_C - common_C), np.float64)


def rows_of_groups(items: Sequence[Item]) -> dict[str, list[int]]:
    """Group → the rows of its items."""
    rows: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        rows.setdefault(item.group, []).append(row)
    return rows


def without(grade_C: Array, skipped: Sequence[int]) -> Array:
    """The grades, 0 of candidates that are none for the query."""
    grade_C = grade_C.copy()
    grade_C[list(skipped)] = 0
    return grade_C
