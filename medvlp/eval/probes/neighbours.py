"""Nearest neighbours (kNN) on unit embeddings: shares of the votes of the most similar training samples.

Legend: K queries, N training samples, D embedding width, L classes or labels, B queries at a time.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from medvlp.eval import metrics
from medvlp.eval.metrics import Array

TEMPERATURE = 0.07
"""A neighbour's vote weighs exp(cosine / 0.07), as in Wu et al. 2018 and in what followed them (DINO, Caron 2021)."""
_BLOCK = 2**23
"""Similarities held at a time: 64 MB in float64."""


def vote_shares(
    query_KD: ArrayLike, train_ND: ArrayLike, target_NL: Array, counts: Sequence[int], temperature: float = TEMPERATURE
) -> dict[int, Array]:
    """Number of neighbours → share_KL: for each query the weight of those of its neighbours that are positive, among those
    that state the label; 0 where none does.

    Of equally similar samples the first in the training set is nearer. More neighbours than samples are all samples.

    Args:
        target_NL: 1, 0, or NaN where a label is not stated.
        temperature: infinity gives all neighbours one vote.
    """
    query_KD, train_ND = np.asarray(query_KD, np.float64), np.asarray(train_ND, np.float64)
    positive_NL, member_NL = (target_NL == 1).astype(np.float64), (~np.isnan(target_NL)).astype(np.float64)
    most = min(max(counts), len(train_ND))
    share_KL = {count: np.zeros((len(query_KD), target_NL.shape[1])) for count in counts}
    step = max(1, _BLOCK // len(train_ND))
    for start in range(0, len(query_KD), step):
        similarity_BN = metrics.similarity(query_KD[start : start + step], train_ND)
        limit_B = np.partition(similarity_BN, -most, axis=1)[:, -most]
        for number, (similarity_N, limit) in enumerate(zip(similarity_BN, limit_B, strict=True), start):
            candidates = np.flatnonzero(similarity_N >= limit)
            order = candidates[np.argsort(-similarity_N[candidates], kind="stable")]
            weight_N = np.exp((similarity_N[order] - similarity_N[order[0]]) / temperature)
            for count in counts:
                nearest, weights = order[:count], weight_N[:count]
                total_L = weights @ member_NL[nearest]
                np.divide(weights @ positive_NL[nearest], total_L, out=share_KL[count][number], where=total_L > 0)
    return share_KL
