"""Records of graded retrieval: what each query ranked best, and its scores.

Legend: Q queries, B queries of a block, C candidates, D embedding width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from medvlp.eval.items import Item
from medvlp.eval.metrics import Array, similarity
from medvlp.eval.retrieval.graded import graded_scores
from medvlp.eval.retrieval.queries import Query, without

BLOCK = 2**22
"""Similarities held at a time: 32 MB in float64."""
TOP = 10
"""Candidates that a record names, best first, and relevant ones."""


def graded_records(
    queries: Sequence[Query],
    candidates: Sequence[Item],
    query_QD: Tensor,
    candidate_CD: Tensor,
    relevant_from: float,
    recall_at: Sequence[int],
    ndcg_at: Sequence[int],
    controls: Mapping[str, Tensor] | None = None,
) -> list[dict[str, Any]]:
    """A record a query. controls: name → embeddings_QD of the queries without a part of them; their metrics, and the differences
    to the query's own, are named `<metric>/<control>` and `<metric>/minus_<control>`."""
    sides = {"": query_QD.double().numpy()} | {name: rows.double().numpy() for name, rows in (controls or {}).items()}
    gallery_CD = candidate_CD.double().numpy()
    step = max(1, BLOCK // len(candidates))
    records = []
    for start in range(0, len(queries), step):
        blocks = {name: similarity(rows_QD[start : start + step], gallery_CD) for name, rows_QD in sides.items()}
        for offset, query in enumerate(queries[start : start + step]):
            skipped = list(query.skipped)
            grade_C = without(query.grades(), skipped)
            member_C = np.ones(len(candidates), bool)
            member_C[skipped] = False
            scores: dict[str, float | None] = {}
            rank = 0
            for name, scores_BC in blocks.items():
                of_side, rank_of_side = graded_scores(
                    scores_BC[offset][member_C], grade_C[member_C], relevant_from, recall_at, ndcg_at
                )
                if not name:
                    scores, rank = dict(of_side), rank_of_side
                else:
                    scores |= {f"{metric}/{name}": value for metric, value in of_side.items()}
                    scores |= {
                        f"{metric}/minus_{name}": _minus(scores[metric], value) for metric, value in of_side.items()
                    }
            records.append(
                _record(query, candidates, blocks[""][offset], grade_C, member_C, relevant_from, rank, scores)
            )
    return records


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _record(
    query: Query,
    candidates: Sequence[Item],
    score_C: Array,
    grade_C: Array,
    member_C: np.ndarray,
    relevant_from: float,
    rank: int,
    scores: dict[str, float | None],
) -> dict[str, Any]:
    rows = np.flatnonzero(member_C)
    order = rows[np.lexsort((rows, grade_C[rows], -score_C[rows]))][:TOP]  # of a tie the least relevant is first
    relevant = rows[grade_C[rows] >= relevant_from]
    best = relevant[np.lexsort((relevant, -grade_C[relevant]))][:TOP]
    return {
        "id": query.item.key,
        "group": query.item.group,
        "query": query.text,
        **({"references": [candidates[row].key for row in query.references]} if query.references else {}),
        "prediction": candidates[order[0]].key,
        "target": [candidates[row].key for row in best],
        "score": float(score_C[order[0]]),
        "rank": rank,
        "relevant_n": len(relevant),
        "top": [
            {"id": candidates[row].key, "score": float(score_C[row]), "grade": float(grade_C[row])} for row in order
        ],
        "fields": query.item.fields,
        "scores": scores,
    }
