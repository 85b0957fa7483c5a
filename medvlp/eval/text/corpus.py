"""Metrics of all texts together, from whole numbers that each text's record holds: BLEU, chrF, scores of findings.

Legend: N items, R resamples, M numbers a text, L findings.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvlp.eval.metrics import Array, Metric, Value

BLEU_ORDERS = 4
CHRF_ORDERS = 6
CHRF_BETA = 2


@dataclass(frozen=True, eq=False)
class OfCorpus:
    """A metric computed from the sums of its items' numbers; NaN in a resample without an item.

    sums_NM: the numbers of each item, 0 of one that does not count. member_N: whether it does.
    """

    numbers_NM: Array
    member_N: NDArray[np.bool_]

    def __call__(self, weights_RN: Array | None) -> Value:
        rows_RN = np.ones((1, len(self.member_N))) if weights_RN is None else np.asarray(weights_RN, np.float64)
        value_R = self.from_sums(rows_RN @ self.numbers_NM)
        value_R = np.where(rows_RN @ self.member_N.astype(np.float64) > 0, value_R, np.nan)
        return float(value_R[0]) if weights_RN is None else value_R

    def from_sums(self, sums_RM: Array) -> Array:
        """(R,) the metric from sums."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Bleu(OfCorpus):
    """Corpus BLEU (Papineni 2002) up to n-grams of `order`, as sacrebleu has it with its exponential smoothing.

    numbers_NM: the text's length, the closest reference's, then matches and n-grams of each of `BLEU_ORDERS`.
    """

    order: int = BLEU_ORDERS

    def from_sums(self, sums_RM: Array) -> Array:
        """As sacrebleu: 0 without a match, or without an n-gram of the order."""
        length_R, reference_R = sums_RM[:, 0], sums_RM[:, 1]
        match_RO = sums_RM[:, 2 : 2 + self.order]
        total_RO = sums_RM[:, 2 + BLEU_ORDERS : 2 + BLEU_ORDERS + self.order]
        # Each order without a match halves the precision that is assumed for it once more.
        halvings_RO = np.cumsum(match_RO == 0, axis=1)
        assumed_RO = np.where(match_RO > 0, match_RO, 0.5**halvings_RO)
        is_scored_R = match_RO.any(axis=1) & (total_RO > 0).all(axis=1)
        precision_RO = assumed_RO / np.where(total_RO > 0, total_RO, 1)
        shortness_R = np.maximum(0.0, reference_R / np.where(length_R > 0, length_R, 1) - 1)
        return np.where(is_scored_R, np.exp(np.log(precision_RO).mean(axis=1) - shortness_R), 0.0)


@dataclass(frozen=True, eq=False)
class Chrf(OfCorpus):
    """Corpus chrF (Popović 2015) of characters up to 6-grams with β = 2, as sacrebleu has it.

    numbers_NM: for each order the n-grams of the text, those of its best reference, and the matches.
    """

    def from_sums(self, sums_RM: Array) -> Array:
        """F of the mean precision and the mean recall over the orders that both sides have."""
        text_RO, reference_RO, match_RO = (sums_RM[:, start::3] for start in range(3))
        counts_RO = (text_RO > 0) & (reference_RO > 0)
        orders_R = np.maximum(1, counts_RO.sum(axis=1))
        precision_R, recall_R = (
            np.where(counts_RO, match_RO / np.maximum(1, side_RO), 0.0).sum(axis=1) / orders_R
            for side_RO in (text_RO, reference_RO)
        )
        weighted_R = CHRF_BETA**2 * precision_R + recall_R
        product_R = (1 + CHRF_BETA**2) * precision_R * recall_R
        return np.divide(product_R, weighted_R, out=np.zeros_like(product_R), where=weighted_R > 0)


@dataclass(frozen=True, eq=False)
class FindingScore(OfCorpus):
    """Precision, recall or F1 of findings that texts state.

    numbers_NM: for each of L findings whether text and reference state it (hits), then whether the text does, then whether
    the reference does. part: precision, recall or f1. average: micro over all statements; macro over the findings that any
    reference states, 0 for one that is never found.
    """

    part: str = "f1"
    average: str = "micro"

    def from_sums(self, sums_RM: Array) -> Array:
        """NaN where no reference states a finding; precision without a statement is 0."""
        hit_RL, text_RL, reference_RL = np.split(sums_RM, 3, axis=1)
        is_stated_RL = reference_RL > 0
        if self.average == "micro":
            hit_RL, text_RL, reference_RL = (a.sum(axis=1, keepdims=True) for a in (hit_RL, text_RL, reference_RL))
            is_stated_RL = reference_RL > 0
        over_RL = {"precision": text_RL, "recall": reference_RL, "f1": (text_RL + reference_RL) / 2}[self.part]
        value_RL = np.divide(hit_RL, over_RL, out=np.zeros_like(hit_RL), where=over_RL > 0)
        findings_R = is_stated_RL.sum(axis=1).astype(np.float64)
        total_R = np.where(is_stated_RL, value_RL, 0.0).sum(axis=1)
        return np.divide(total_R, findings_R, out=np.full_like(total_R, np.nan), where=findings_R > 0)


@dataclass(frozen=True, eq=False)
class Difference:
    """One metric of the corpus minus another, over the items that both have."""

    a: OfCorpus
    b: OfCorpus
    member_N: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "member_N", self.a.member_N & self.b.member_N)

    def __call__(self, weights_RN: Array | None) -> Value:
        member_N = self.member_N.astype(np.float64)
        rows_RN = member_N[None] if weights_RN is None else weights_RN * member_N
        value_R = np.asarray(self.a(rows_RN)) - np.asarray(self.b(rows_RN))
        return float(value_R[0]) if weights_RN is None else value_R


def corpus_metrics(name: str, numbers_NM: ArrayLike, member_N: NDArray[np.bool_]) -> dict[str, Metric]:
    """The metrics that are computed from numbers that records hold under a name: bleu, chrf or findings."""
    numbers_NM = np.asarray(numbers_NM, np.float64)
    if name == "bleu":
        return {f"bleu_{order}": Bleu(numbers_NM, member_N, order) for order in range(1, BLEU_ORDERS + 1)}
    if name == "chrf":
        return {"chrf": Chrf(numbers_NM, member_N)}
    averages = [(part, average) for average in ("micro", "macro") for part in ("precision", "recall", "f1")]
    return {
        f"findings_{part}_{average}": FindingScore(numbers_NM, member_N, part, average) for part, average in averages
    }
