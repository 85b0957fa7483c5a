"""What a probe fits: a regression on all training samples, regressions on draws of a few, and neighbours' votes.

Legend: N training samples, K samples that are scored, D embedding width, E draws, C classes, L labels or classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medvlp.config import ProbeConfig
from medvlp.eval.metrics import Array
from medvlp.eval.probes import draws
from medvlp.eval.probes.logistic import Regression
from medvlp.eval.probes.neighbours import vote_shares
from medvlp.eval.probes.samples import LabelledSamples
from medvlp.eval.probes.search import Choice, Score, accuracy_score, auroc_score, choose_strength
from medvlp.eval.statistics.classification import best_f1_thresholds

DIGITS = 7
"""Digits of logits in records, after the first of the largest difference between samples: finer than a solution is exact,
coarser than rounding errors."""
_MOST_DECIMALS, _ROUNDING = 15, 1e-13
"""Beyond which intercepts, and shares of the largest logits below which differences, are rounding errors."""


@dataclass(frozen=True)
class Fitted:
    """What one fit gives. logit_EKL: of the scored samples, for each draw. protocol: how it was chosen, as JSON values."""

    logit_EKL: Array
    protocol: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Probing:
    """The samples of one model on one task. fit: to fit. valid: to choose on. scored: to score. classes: as targets have
    them."""

    config: ProbeConfig
    classes: Sequence[str]
    fit: LabelledSamples
    valid: LabelledSamples
    scored: LabelledSamples

    def full(self) -> Fitted:
        """The regression on all samples: C is chosen on valid, and the regression of the chosen C is fitted on both (Radford
        2021, A.3). Of several labels, thresholds are those with the highest F1 on valid before that."""
        regression = self._regression([self.fit])
        choice = self._choose(regression)
        protocol: dict[str, Any] = {
            **self._row(choice, 0),
            "tried": choice.visited[0],
            "n": len(self.fit) + len(self.valid),
        }
        if self.config.multi_label:
            logit_EVL = rounded_logits(regression, choice.weight_EMPR, regression.rotate(self.valid.embedding_ND))
            protocol["threshold"] = best_f1_thresholds(self.classes, logit_EVL[0], self.valid.target_NL)
        union = self._regression([self.fit.joined(self.valid)])
        return Fitted(self._scored_logits(union, union.solve(choice.strength_E)), protocol)

    def few_shot(self, shots: int) -> Fitted:
        """Regressions on draws of so many samples a class, C of each chosen on all of valid; not fitted on valid."""
        rows = [
            draws.shots(self.fit.items, self.fit.target_NL, shots, self.config.seed, draw)
            for draw in range(self.config.draws)
        ]
        regression = self._regression([self.fit.take(rows_of_draw) for rows_of_draw in rows])
        choice = self._choose(regression)
        of_draws = [{**self._row(choice, draw), "n": len(rows[draw])} for draw in range(len(rows))]
        columns = {name: [row[name] for row in of_draws] for name in of_draws[0]}
        return Fitted(self._scored_logits(regression, choice.weight_EMPR), columns)

    def neighbours(self) -> Fitted:
        """Shares of the votes of the most similar samples of fit and valid; how many neighbours vote is chosen on valid, where
        those of fit alone vote."""
        counts = self.config.neighbours
        of_valid = vote_shares(self.valid.embedding_ND, self.fit.embedding_ND, self.fit.target_NL, counts)
        value_of = {count: float(self._score(share_KL[None])[0]) for count, share_KL in of_valid.items()}
        best = max(counts, key=lambda count: value_of[count])  # of equals the first
        union = self.fit.joined(self.valid)
        share_KL = vote_shares(self.scored.embedding_ND, union.embedding_ND, union.target_NL, [best])[best]
        values = {str(count): value for count, value in value_of.items()}
        return Fitted(share_KL[None], {"neighbours": best, "valid": values, "n": len(union)})

    def _regression(self, sets: Sequence[LabelledSamples]) -> Regression:
        """Of several training sets, those with fewer samples filled up with none."""
        count, (width, labels) = max(map(len, sets)), (self.fit.embedding_ND.shape[1], self.fit.target_NL.shape[1])
        feature_END = np.zeros((len(sets), count, width))
        target_ENL = np.full((len(sets), count, labels), np.nan)
        for number, samples in enumerate(sets):
            feature_END[number, : len(samples)] = samples.embedding_ND
            target_ENL[number, : len(samples)] = samples.target_NL
        if self.config.multi_label:
            return Regression.of_labels(feature_END, target_ENL)
        is_item_EN = ~np.isnan(target_ENL[:, :, 0])
        class_EN = np.where(is_item_EN, np.nan_to_num(target_ENL).argmax(axis=2), -1)
        return Regression.of_classes(feature_END, class_EN, labels)

    @property
    def _score(self) -> Score:
        if self.config.multi_label:
            return auroc_score(self.valid.target_NL)
        return accuracy_score(self.valid.target_NL.argmax(axis=1))

    def _choose(self, regression: Regression) -> Choice:
        item_EKR = regression.rotate(self.valid.embedding_ND)
        return choose_strength(regression, item_EKR, self._score, self.config.strengths, self.config.halvings)

    def _scored_logits(self, regression: Regression, weight_EMPR: Array) -> Array:
        return rounded_logits(regression, weight_EMPR, regression.rotate(self.scored.embedding_ND))

    def _row(self, choice: Choice, number: int) -> dict[str, Any]:
        return {"C": float(f"{choice.strength_E[number]:.6g}"), "valid": float(choice.value_E[number])}


def rounded_logits(regression: Regression, weight_EMPR: Array, item_EKR: Array) -> Array:
    """logit_EKL without the digits in which a solution is not exact, so that samples with equal embeddings tie.

    Each class of each draw is rounded by how far its samples lie apart: with a small C that is far less than its intercept.

    Args:
        item_EKR: as `Regression.rotate` gives them.
    """
    is_intercept_R = np.arange(item_EKR.shape[2]) == item_EKR.shape[2] - 1
    intercept_E1L = regression.logits(weight_EMPR * is_intercept_R, item_EKR[:, :1])
    logit_EKL = regression.logits(weight_EMPR * ~is_intercept_R, item_EKR)
    spread_E1L = np.abs(logit_EKL - np.median(logit_EKL, axis=1, keepdims=True)).max(axis=1, keepdims=True)
    least_E1L = 10.0**DIGITS * _ROUNDING * np.abs(logit_EKL).max(axis=1, keepdims=True)
    size_E1L = np.maximum(spread_E1L, least_E1L)
    exponent_E1L = np.floor(np.log10(size_E1L, out=np.zeros_like(size_E1L), where=size_E1L > 0))
    unit_E1L = 10.0 ** np.minimum(DIGITS - exponent_E1L, _MOST_DECIMALS)  # divided by, as decimals are exact
    return np.asarray((np.rint(logit_EKL * unit_E1L) + np.rint(intercept_E1L * unit_E1L)) / unit_E1L, np.float64)
