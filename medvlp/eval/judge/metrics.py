"""Metrics of verdicts that are no means of items: relative scores, and the agreement of two judges beyond chance.

Legend: N items, R resamples, C classes of verdicts, M numbers an item.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medvlp.eval.judge.verdicts import (
    CORRECT,
    FIELDS,
    INCORRECT,
    LOSS,
    NOT_ATTEMPTED,
    TIE,
    WIN,
    grade_of,
)
from medvlp.eval.metrics import Array, Metric
from medvlp.eval.text.corpus import OfCorpus

Record = Mapping[str, Any]
ORDERED = ((INCORRECT, NOT_ATTEMPTED, CORRECT), (LOSS, TIE, WIN))
"""Classes of verdicts of each scale, from bad to good, as weighted kappa has them."""


class RatioOfSums(OfCorpus):
    """The sum of one number over that of another."""

    def from_sums(self, sums_RM: Array) -> Array:
        """NaN where the second sum is 0."""
        numerator_R, denominator_R = sums_RM[:, 0], sums_RM[:, 1]
        return np.divide(numerator_R, denominator_R, out=np.full_like(numerator_R, np.nan), where=denominator_R > 0)


@dataclass(frozen=True, eq=False)
class CohenKappa(OfCorpus):
    """Cohen's kappa (1960) of two raters: 1 - observed disagreement / disagreement by chance.

    numbers_NM: of each item a 1 at its pair of classes, of C × C. power: disagreements weigh the distance of their classes to
    this power (Cohen 1968; 2: quadratic); 0: all the same.
    """

    power: int = 0

    def from_sums(self, sums_RM: Array) -> Array:
        """NaN where both raters know one class only, the same: agreement by chance is then certain."""
        size = int(np.sqrt(sums_RM.shape[1]))
        counts_RCC = sums_RM.reshape(-1, size, size)
        total_R = np.maximum(counts_RCC.sum(axis=(1, 2)), 1e-300)
        distance_CC = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
        weight_CC = np.where(distance_CC > 0, distance_CC.astype(np.float64) ** self.power, 0.0)
        observed_R = np.einsum("rcd,cd->r", counts_RCC, weight_CC)
        chance_R = np.einsum("rc,rd,cd->r", counts_RCC.sum(axis=2), counts_RCC.sum(axis=1), weight_CC) / total_R
        is_defined_R = chance_R > 1e-9 * total_R
        ratio_R = np.divide(observed_R, chance_R, out=np.full_like(chance_R, np.nan), where=is_defined_R)
        return 1 - ratio_R


def judge_metrics(records: Sequence[Record]) -> tuple[dict[str, Metric], dict[str, int]]:
    """Name → metric, and name → the answers that it is over: of records without verdicts none."""
    by_name: dict[str, OfCorpus] = {}
    for field in FIELDS:
        pairs = [
            (record["scores"].get(f"{field}_score"), record["scores"].get(f"{field}_reference_score"))
            for record in records
        ]
        member_N = np.array([None not in pair for pair in pairs], bool)
        if member_N.any():
            numbers_N2 = np.array([pair if None not in pair else (0, 0) for pair in pairs], np.float64)
            by_name[f"{field}_relative"] = RatioOfSums(numbers_N2, member_N)
    verdicts = [tuple(_class_of(record, field) for field in FIELDS) for record in records]
    classes = next((scale for scale in ORDERED if any(pair[0] in scale for pair in verdicts)), ORDERED[0])
    member_N = np.array([None not in pair for pair in verdicts], bool)
    if member_N.any():
        numbers_NM = np.zeros((len(records), len(classes) ** 2))
        for i in np.flatnonzero(member_N):
            first, second = (classes.index(str(name)) for name in verdicts[i])
            numbers_NM[i, first * len(classes) + second] = 1
        by_name["judge_kappa"] = CohenKappa(numbers_NM, member_N)
        by_name["judge_weighted_kappa"] = CohenKappa(numbers_NM, member_N, 2)
    return dict(by_name), {name: int(metric.member_N.sum()) for name, metric in by_name.items()}


def _class_of(record: Record, field: str) -> str | None:
    return grade_of(record[field]) if field in record else None
