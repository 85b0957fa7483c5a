"""Recall and nDCG of one query over candidates with grades: several may be relevant, some more than others.

Legend: C candidates, R relevant ones.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medvlp.eval.metrics import Array, Indices

TIE_RULE = (
    "in ranks, hits and recall ties count against: whatever scores as high as a relevant item is placed before it; in nDCG items "
    "that tie share the mean of their grades (McSherry & Najork 2008, as scikit-learn)"
)


def relevant_ranks(score_C: Array, is_relevant_C: NDArray[np.bool_]) -> Indices:
    """Ranks, from 1, of the relevant candidates, best first: those that tie with one and are not relevant come before it."""
    relevant_R = -np.sort(-score_C[is_relevant_C])
    irrelevant_C = np.sort(score_C[~is_relevant_C])
    others_before_R = len(irrelevant_C) - np.searchsorted(irrelevant_C, relevant_R, "left")
    return np.asarray(others_before_R + np.arange(1, len(relevant_R) + 1), np.int64)


def ndcg(score_C: Array, grade_C: Array, k: int) -> float:
    """Normalised discounted cumulative gain at k (Järvelin & Kekäläinen 2002): a grade counts 1 / log2(1 + rank), over what the
    best order would have. Grades are at least 0, and one is above."""
    k = min(k, len(score_C))
    discount_k = 1 / np.log2(np.arange(2, k + 2))
    rows = np.flatnonzero(score_C >= np.partition(score_C, -k)[-k])  # all that the k-th ties with
    _, group_N, count_G = np.unique(-score_C[rows], return_inverse=True, return_counts=True)
    gain_G = np.bincount(group_N, grade_C[rows]) / count_G
    cumulated = np.concatenate([[0.0], np.cumsum(discount_k)])
    discount_G = np.diff(cumulated[np.minimum(np.concatenate([[0], np.cumsum(count_G)]), k)])
    ideal_k = -np.sort(-grade_C)[:k]
    return float(gain_G @ discount_G / (ideal_k @ discount_k))


def graded_scores(
    score_C: Array, grade_C: Array, relevant_from: float, recall_at: Sequence[int], ndcg_at: Sequence[int]
) -> tuple[dict[str, float | None], int]:
    """(metric → value of one query, rank of its best relevant candidate).

    ndcg@k: by all grades. recall@k: the share of the relevant ones among the k best. hit@k: whether any is. relevant_from: the
    grade from which a candidate is relevant; one is.
    """
    rank_R = relevant_ranks(score_C, grade_C >= relevant_from)
    scores: dict[str, float | None] = {f"ndcg@{k}": ndcg(score_C, grade_C, k) for k in ndcg_at}
    scores |= {f"recall@{k}": float((rank_R <= k).mean()) for k in recall_at}
    return scores | {f"hit@{k}": float(rank_R[0] <= k) for k in recall_at}, int(rank_R[0])
