"""Metrics of verdicts that are no means of items: relative scores, and the agreement of two judges beyond chance.

Legend: N items, R resamples, C classes of verdicts, M numbers an item.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medvlp.eval.judge.verdicts import FIELDS, grade_of
from medvlp.eval.metrics import Array, Metric
from medvlp.eval.text.corpus import OfCorpus

Record = Mapping[str, Any]


class RatioOfSums(OfCorpus):
    """The sum of one number over that of another."""

    def from_sums(self, sums_RM: Array) -> Array:
        """NaN where the second sum is 0."""
        numerator_R, denominator_R = sums_RM[:, 0], sums_RM[:, 1]
        return np.divide(numerator_R, denominator_R, out=np.full_like(numerator_R, np.nan), where=denominator_R > 0)


class CohenKappa(OfCorpus):
    """Cohen's kappa (1960) of two raters: (observed - expected agreement) / (1 - expected).

    numbers_NM: of each item a 1 at its pair of classes, of C × C.
    """

    def from_sums(self, sums_RM: Array) -> Array:
        """NaN where both raters know one class only, the same: agreement by chance is then certain."""
        size = int(np.sqrt(sums_RM.shape[1]))
        counts_RCC = sums_RM.reshape(-1, size, size)
        total_R = counts_RCC.sum(axis=(1, 2))
        observed_R = np.trace(counts_RCC, axis1=1, axis2=2)
        expected_R = np.einsum("rc,rc->r", counts_RCC.sum(axis=2), counts_RCC.sum(axis=1)) / np.where(
            total_R > 0, total_R, 1
        )
        gap_R = total_R - expected_R
        is_defined_R = gap_R > 1e-9 * np.maximum(total_R, 1)
        return np.divide(observed_R - expected_R, gap_R, out=np.full_like(gap_R, np.nan), where=is_defined_R)


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
    names = sorted({name for pair in verdicts for name in pair if name})
    member_N = np.array([None not in pair for pair in verdicts], bool)
    if member_N.any():
        numbers_NM = np.zeros((len(records), len(names) ** 2))
        for i in np.flatnonzero(member_N):
            first, second = verdicts[i]
            numbers_NM[i, names.index(str(first)) * len(names) + names.index(str(second))] = 1
        by_name["judge_kappa"] = CohenKappa(numbers_NM, member_N)
    return dict(by_name), {name: int(metric.member_N.sum()) for name, metric in by_name.items()}


def _class_of(record: Record, field: str) -> str | None:
    return grade_of(record[field]) if field in record else None
