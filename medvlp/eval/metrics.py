"""Metrics of classification and of retrieval, as pure functions on arrays.

Legend: N items, C classes, L labels of a multi-label task, R resamples, Q queries, G gallery items, P positives or
matching (query, item) pairs, D embedding width.

Every metric takes optional `weights_RN`: how often each item occurs in each of R resamples. Without weights it returns
a float; with them an array of R values, each equal to the metric of the items repeated that often. A value that is not
defined (the AUROC of a resample without positives) is NaN. Ties never help a rank, nor the accuracy and recall that
follow from it: see `target_ranks` and `retrieval_ranks`. In AUROC they count one half.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvlp.eval.cumulated import EXACT_IN_FLOAT32, cumulate
from medvlp.eval.errors import TaskError

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Value = float | Array
Metric = Callable[[Array | None], Value]
"""From weights_RN to R values, or from None to the value of the items themselves."""

SCORE_DECIMALS = 9
"""Similarities are rounded to this: far finer than float32 embeddings, far coarser than float64's rounding errors."""

TIE_RULE = "in ranks and accuracy ties count against: whatever scores as high as the right answer is placed before it"

_BLOCK = 2**23
"""Similarities held at a time in `retrieval_ranks`: 64 MB in float64."""


def similarity(rows_ND: ArrayLike, columns_CD: ArrayLike) -> Array:
    """Dot products in float64, rounded so that equal vectors tie exactly whichever kernel of the BLAS computed them."""
    product_NC = np.asarray(rows_ND, np.float64) @ np.asarray(columns_CD, np.float64).T
    if not np.isfinite(product_NC).all():
        raise TaskError("similarities are not finite: the encoder gave NaN or infinity; check the checkpoint")
    return np.round(product_NC, SCORE_DECIMALS, out=product_NC)


def softmax(logits_NC: Array) -> Array:
    powers_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    return powers_NC / powers_NC.sum(axis=1, keepdims=True)


# Classification


def target_ranks(scores_NC: ArrayLike, target_N: ArrayLike) -> Indices:
    """The place of each item's own class, from 1. Classes that tie with it are placed before it."""
    scores_NC, target_N = np.asarray(scores_NC, np.float64), np.asarray(target_N, np.int64)
    if scores_NC.ndim != 2 or target_N.shape != scores_NC.shape[:1]:
        raise ValueError(f"expected scores (N, C) and targets (N,), found {scores_NC.shape} and {target_N.shape}")
    if not np.isfinite(scores_NC).all():
        raise ValueError("scores hold NaN or infinity, which have no rank")
    target_N1 = np.take_along_axis(scores_NC, target_N[:, None], axis=1)
    return np.asarray((scores_NC >= target_N1).sum(axis=1), np.int64)  # the class itself is the 1 that ranks begin with


def accuracy(scores_NC: ArrayLike, target_N: ArrayLike, k: int = 1, weights_RN: Array | None = None) -> Value:
    """Share of items whose class is among the k best (acc1, acc5)."""
    return _mean(target_ranks(scores_NC, target_N) <= k, weights_RN)


def mean_per_class_recall(scores_NC: ArrayLike, target_N: ArrayLike, weights_RN: Array | None = None) -> Value:
    """Mean over the classes that occur of the share of their items ranked first (balanced accuracy)."""
    target_N = np.asarray(target_N, np.int64)
    hit_N = target_ranks(scores_NC, target_N) == 1
    classes = np.unique(target_N)
    return mean_of_defined([_mean_of(hit_N, target_N == c, weights_RN) for c in classes], weights_RN)


def auroc(scores: ArrayLike, target: ArrayLike, weights_RN: Array | None = None) -> Value:
    """Area under the ROC curve; a tie between a positive and a negative counts one half (Mann–Whitney).

    Binary: scores (N,), target (N,) of 0 and 1. One-vs-rest macro: scores (N, C), target (N,) of class indices.
    Multi-label macro: scores (N, L), target (N, L) of 0 and 1. Classes without both positives and negatives are left
    out of the mean; where none is left the value is NaN.
    """
    return Auroc(scores, target)(weights_RN)


class Auroc:
    """`auroc` of some items, sorted once: calling it costs a resample no sort. Immutable."""

    def __init__(self, scores: ArrayLike, target: ArrayLike) -> None:
        scores, positive_NL = _columns(scores, target)
        self._columns = [_SortedColumn.of(scores[:, c], positive_NL[:, c]) for c in range(scores.shape[1])]
        self._items = len(scores)

    def __call__(self, weights_RN: Array | None) -> Value:
        """The area, or that of each of R resamples; fastest where the weights of an item lie side by side (Fortran's
        order), as `resampled_values` has them."""
        rows_RN = np.ones((1, self._items)) if weights_RN is None else np.asarray(weights_RN, np.float64)
        weights_NR = rows_RN.T.astype(np.float32)  # counts, exact in half of the memory
        return mean_of_defined([column.area(weights_NR) for column in self._columns], weights_RN)


class _SortedColumn(NamedTuple):
    """Binary scores of items: the side, of positives or negatives, that has fewer items looks up its place in the other.

    few_P, many_Q: indices of items by rising score. lower_P, upper_P: how many of the other side score less, and at most as
    much.
    """

    few_P: Indices
    many_Q: Indices
    lower_P: Indices
    upper_P: Indices
    few_are_positive: bool

    @classmethod
    def of(cls, score_N: Array, is_positive_N: NDArray[np.bool_]) -> Self:
        sides = np.flatnonzero(is_positive_N), np.flatnonzero(~is_positive_N)
        few_are_positive = len(sides[0]) <= len(sides[1])
        few_P, many_Q = sides if few_are_positive else sides[::-1]
        few_P = few_P[np.argsort(score_N[few_P], kind="stable")]
        many_Q = many_Q[np.argsort(score_N[many_Q], kind="stable")]
        lower_P, upper_P = (np.searchsorted(score_N[many_Q], score_N[few_P], side) for side in ("left", "right"))
        return cls(few_P, many_Q, lower_P, upper_P, few_are_positive)

    def area(self, weights_NR: NDArray[np.floating[Any]]) -> Array:
        """(R,) the area by the weights of the items, whole numbers; NaN without both sides. All sums are exact."""
        few_PR, many_QR = (np.take(weights_NR, side, axis=0, mode="clip") for side in (self.few_P, self.many_Q))
        pairs_R = few_PR.sum(axis=0, dtype=np.float64) * many_QR.sum(axis=0, dtype=np.float64)
        if weights_NR.dtype == np.float32 and pairs_R.max(initial=0.0) >= EXACT_IN_FLOAT32:
            return self.area(weights_NR.astype(np.float64))
        cumulated_QR = np.zeros((len(self.many_Q) + 1, weights_NR.shape[1]), weights_NR.dtype)
        cumulate(many_QR, cumulated_QR[1:])

        def pairs_below(position_P: Indices) -> Array:
            sums_PR = np.take(cumulated_QR, position_P, axis=0, mode="clip")
            return np.einsum("pr,pr->r", few_PR, sums_PR).astype(np.float64)

        lower_or_half_R = pairs_below(self.lower_P)  # pairs whose other score is below
        if not np.array_equal(self.lower_P, self.upper_P):
            lower_or_half_R = (lower_or_half_R + pairs_below(self.upper_P)) / 2
        return _divide(lower_or_half_R if self.few_are_positive else pairs_R - lower_or_half_R, pairs_R)


def mean_average_precision(scores_NL: ArrayLike, target_NL: ArrayLike, weights_RN: Array | None = None) -> Value:
    """Mean over labels of average precision, Σ (recall_u − recall_{u−1})·precision_u over the distinct scores u: the
    uninterpolated form that scikit-learn computes. Labels without positives do not count in the mean."""
    return AveragePrecision(scores_NL, target_NL)(weights_RN)


class AveragePrecision:
    """`mean_average_precision` of some items, sorted once. Immutable."""

    def __init__(self, scores: ArrayLike, target: ArrayLike) -> None:
        scores, positive_NL = _columns(scores, target)
        self._columns = [_rankings(scores[:, c], positive_NL[:, c]) for c in range(scores.shape[1])]
        self._items = len(scores)

    def __call__(self, weights_RN: Array | None) -> Value:
        """The mean, or that of each of R resamples."""
        rows_RN = np.ones((1, self._items)) if weights_RN is None else np.asarray(weights_RN, np.float64)
        is_exact = rows_RN.sum(axis=1).max(initial=0.0) < EXACT_IN_FLOAT32
        weights_NR: NDArray[Any] = rows_RN.T.astype(np.float32 if is_exact else np.float64)
        return mean_of_defined(
            [_precision_at_positives(*rankings, weights_NR) for rankings in self._columns], weights_RN
        )


def _rankings(score_N: Array, is_positive_N: NDArray[np.bool_]) -> tuple[Indices, Indices]:
    """order_N: items by falling score, as far as a positive counts them. rank_3P: of each positive its position there, and how
    many items, and how many positives, score at least as much."""
    order_N = np.argsort(-score_N, kind="stable")
    positive_P = np.flatnonzero(is_positive_N[order_N])
    end_P = np.searchsorted(-score_N[order_N], -score_N[order_N[positive_P]], "right")  # ties are called together
    return order_N[: end_P.max(initial=0)], np.stack([positive_P, end_P, np.searchsorted(positive_P, end_P, "left")])


def _precision_at_positives(order_N: Indices, rank_3P: Indices, weights_NR: NDArray[np.floating[Any]]) -> Array:
    """(R,) mean over the positives of the precision among all that score at least as much."""
    positive_P, end_P, positive_end_P = rank_3P
    sorted_NR = np.take(weights_NR, order_N, axis=0, mode="clip")
    weight_PR = sorted_NR[positive_P].astype(np.float64)
    hits_PR = np.cumsum(weight_PR, axis=0)[positive_end_P - 1]
    cumulate(sorted_NR, cumulated_NR := np.empty_like(sorted_NR))
    items_PR = cumulated_NR[end_P - 1].astype(np.float64)
    precision_PR = np.divide(hits_PR, items_PR, out=np.zeros_like(items_PR), where=items_PR > 0)
    return _divide((weight_PR * precision_PR).sum(axis=0), weight_PR.sum(axis=0))


def _columns(scores: ArrayLike, target: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    """Scores and whether an item is positive, a column a class or label."""
    scores, target = np.asarray(scores, np.float64), np.asarray(target)
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinity, which have no rank")
    if scores.ndim == 1:
        scores = scores[:, None]
        positive_NL = target[:, None] == 1
    else:
        positive_NL = target == 1 if target.ndim == 2 else target[:, None] == np.arange(scores.shape[1])
    if positive_NL.shape != scores.shape:
        raise ValueError(f"expected one target an item, or one a score; found scores {scores.shape}, {target.shape}")
    return scores, positive_NL


# Retrieval


def retrieval_ranks(
    query_QD: ArrayLike, gallery_GD: ArrayLike, pair_query_P: ArrayLike, pair_item_P: ArrayLike
) -> tuple[Indices, Indices, Array]:
    """The rank of each query's best match, its top item and that item's similarity.

    rank = 1 + the number of non-matching items whose similarity is at least the best matching one's, so a tie counts
    against. (pair_query_P, pair_item_P) lists what matches what; every query needs a match. Ranks are counted rather
    than sorted, a block of queries at a time, so that 20,000 × 20,000 needs 64 MB. On a tie the top item is the first
    that does not match, so it matches exactly where the rank is 1.
    """
    query_QD, gallery_GD = np.asarray(query_QD, np.float64), np.asarray(gallery_GD, np.float64)
    order_P = np.argsort(np.asarray(pair_query_P, np.int64), kind="stable")
    pair_query_P, pair_item_P = np.asarray(pair_query_P, np.int64)[order_P], np.asarray(pair_item_P, np.int64)[order_P]
    first_Q = np.searchsorted(pair_query_P, np.arange(len(query_QD) + 1))
    if (np.diff(first_Q) == 0).any():
        raise ValueError(f"query {int(np.argmin(np.diff(first_Q)))} has no matching item: leave it out, it has no rank")

    rank_Q = np.empty(len(query_QD), np.int64)
    top_Q = np.empty(len(query_QD), np.int64)
    top_score_Q = np.empty(len(query_QD))
    step = max(1, _BLOCK // len(gallery_GD))
    for start in range(0, len(query_QD), step):
        stop = min(start + step, len(query_QD))
        scores_BG = similarity(query_QD[start:stop], gallery_GD)
        pairs = slice(first_Q[start], first_Q[stop])
        row_P = pair_query_P[pairs] - start
        matching_P = scores_BG[row_P, pair_item_P[pairs]]
        best_B = np.maximum.reduceat(matching_P, first_Q[start:stop] - first_Q[start])
        matches_at_best_B = np.bincount(row_P, weights=matching_P == best_B[row_P], minlength=stop - start)
        rank_Q[start:stop] = 1 + (scores_BG >= best_B[:, None]).sum(axis=1) - matches_at_best_B.astype(np.int64)
        top_score_Q[start:stop] = scores_BG.max(axis=1)
        # A hair below their ties, which are far apart from everything else: see SCORE_DECIMALS.
        scores_BG[row_P, pair_item_P[pairs]] = np.nextafter(matching_P, -np.inf)
        top_Q[start:stop] = scores_BG.argmax(axis=1)
    return rank_Q, top_Q, top_score_Q


def recall_at_k(rank_Q: ArrayLike, k: int, weights_RN: Array | None = None) -> Value:
    """Share of queries with any matching item among the k best."""
    return _mean(np.asarray(rank_Q) <= k, weights_RN)


# Means


@dataclass(frozen=True, eq=False)
class MeanOfMeans:
    """A metric that is a mean of items, or the mean over C classes of the means of their items; classes without an item do
    not count. It needs of the items only their sums, so that bootstraps compute it from the sums of whole clusters.

    value_NC: of each item in each class. member_NC: bool, whether the item is of the class.
    """

    value_NC: Array
    member_NC: NDArray[np.bool_]

    @classmethod
    def of(cls, value_N: ArrayLike, member_N: ArrayLike | None = None) -> Self:
        """The plain mean of all items, or of some."""
        value_N = np.asarray(value_N, np.float64)
        is_member_N = np.ones(value_N.shape, bool) if member_N is None else np.asarray(member_N, bool)
        return cls(value_N[:, None], is_member_N[:, None])

    def item_scores(self) -> Array:
        """(N,) each item's value, the mean over its classes; NaN of an item that is of none."""
        value_NC = np.where(self.member_NC, self.value_NC, 0.0)
        return _divide(value_NC.sum(axis=1), self.member_NC.sum(axis=1, dtype=np.float64))

    def sums_of(self, cluster_N: Indices, clusters: int) -> tuple[Array, Array]:
        """sum_KC and count_KC, of the values and of the items of each of K clusters."""
        member_NC = self.member_NC.astype(np.float64)
        value_NC = np.where(self.member_NC, self.value_NC, 0.0)
        sum_KC, count_KC = (
            np.stack([np.bincount(cluster_N, column_N, clusters) for column_N in array_NC.T], axis=1).astype(np.float64)
            for array_NC in (value_NC, member_NC)
        )
        return sum_KC, count_KC

    def from_sums(self, sum_RC: Array, count_RC: Array) -> Array:
        """The metric from the sums of R resamples: (R,)."""
        return np.asarray(mean_of_defined(list(_divide(sum_RC, count_RC).T), np.empty(0)), np.float64)

    def __call__(self, weights_RN: Array | None) -> Value:
        if weights_RN is None:
            sum_C = np.where(self.member_NC, self.value_NC, 0.0).sum(axis=0)
            return float(self.from_sums(sum_C[None], self.member_NC.sum(axis=0, dtype=np.float64)[None])[0])
        member_NC = self.member_NC.astype(np.float64)
        return self.from_sums(weights_RN @ (member_NC * np.nan_to_num(self.value_NC)), weights_RN @ member_NC)


def _mean(hit_N: ArrayLike, weights_RN: Array | None) -> Value:
    hit_N = np.asarray(hit_N, np.float64)
    if weights_RN is None:
        return float(hit_N.mean())
    return _divide(weights_RN @ hit_N, weights_RN.sum(axis=1))


def _mean_of(hit_N: ArrayLike, member_N: ArrayLike, weights_RN: Array | None) -> Array:
    rows_RN = np.ones((1, np.size(hit_N))) if weights_RN is None else weights_RN
    member_N = np.asarray(member_N, np.float64)
    return _divide(rows_RN @ (member_N * np.asarray(hit_N)), rows_RN @ member_N)


def mean_of_defined(columns: list[Array], weights_RN: Array | None) -> Value:
    """Mean over columns, (R,) each, where they are defined; a float when there were no weights."""
    values_CR = np.stack(columns)
    defined_CR = ~np.isnan(values_CR)
    mean_R = _divide(np.where(defined_CR, values_CR, 0.0).sum(axis=0), defined_CR.sum(axis=0).astype(np.float64))
    return float(mean_R[0]) if weights_RN is None else mean_R


def _divide(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)
