"""Metrics of probes from their records: of all training samples, of few shots over draws, and of neighbours.

Legend: N items, S draws, C classes, L labels, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medvlp.eval import metrics
from medvlp.eval.metrics import Array, Indices, MeanOfMeans, Metric, Value
from medvlp.eval.statistics.classification import multi_label_metrics, ranking_metrics, single_label_metrics

Record = Mapping[str, Any]
FEW_SHOT, NEIGHBOURS = "few_shot", "neighbours"
"""Of a record: number of shots → `logits` of each draw, or `ranks` of the right class where classes are many; and the shares
of its neighbours' votes."""
DRAW_METRICS = ("acc1", "mean_per_class_recall", "auroc", "map")
"""Metrics of few shots and of neighbours."""


@dataclass(frozen=True)
class OverDraws:
    """The mean of a metric over draws, or their standard deviation (of a sample), in each resample for itself."""

    by_draw: tuple[Metric, ...]
    is_spread: bool = False

    def __call__(self, weights_RN: Array | None) -> Value:
        value_SR = np.stack([np.atleast_1d(metric(weights_RN)) for metric in self.by_draw])
        value_R = value_SR.std(axis=0, ddof=1) if self.is_spread else value_SR.mean(axis=0)
        return float(value_R[0]) if weights_RN is None else np.asarray(value_R, np.float64)

    @property
    def member_N(self) -> Any:
        """Whether each item counts: the same ones in every draw."""
        return getattr(self.by_draw[0], "member_N", True)


def single_label_extras(records: Sequence[Record], target_N: Indices) -> dict[str, Metric]:
    """`<k>shot_…` and `knn_…` of items of one class each."""
    by_name: dict[str, Metric] = {}
    for shots in _shots_of(records):
        entries = [record[FEW_SHOT][shots] for record in records]
        if "logits" in entries[0]:
            logit_NSC = np.array([entry["logits"] for entry in entries], np.float64)
            draws = [single_label_metrics(logit_NC, target_N) for logit_NC in logit_NSC.transpose(1, 0, 2)]
        else:
            rank_NS = np.array([entry["ranks"] for entry in entries], np.int64)
            draws = [ranking_metrics(rank_N, target_N) for rank_N in rank_NS.T]
        by_name |= over_draws(shots, draws)
    if all(NEIGHBOURS in record for record in records):
        share_NC = np.array([record[NEIGHBOURS] for record in records], np.float64)
        of_neighbours = single_label_metrics(share_NC, target_N) | {"auroc": metrics.Auroc(share_NC, target_N)}
        by_name |= {f"knn_{name}": metric for name, metric in of_neighbours.items() if name in DRAW_METRICS}
    return by_name


def multi_label_extras(records: Sequence[Record], target_NL: Array, classes: Sequence[str]) -> dict[str, Metric]:
    """`<k>shot_…` and `knn_…` of items with several labels: means over the classes."""
    by_name: dict[str, Metric] = {}
    for shots in _shots_of(records):
        logit_NSL = np.array([record[FEW_SHOT][shots]["logits"] for record in records], np.float64)
        draws = [multi_label_metrics(logit_NL, target_NL, classes)[0] for logit_NL in logit_NSL.transpose(1, 0, 2)]
        by_name |= over_draws(shots, draws)
    if all(NEIGHBOURS in record for record in records):
        share_NL = np.array([record[NEIGHBOURS] for record in records], np.float64)
        of_neighbours = multi_label_metrics(share_NL, target_NL, classes)[0]
        by_name |= {f"knn_{name}": metric for name, metric in of_neighbours.items() if name in DRAW_METRICS}
    return by_name


def over_draws(shots: str, draws: Sequence[Mapping[str, Metric]]) -> dict[str, Metric]:
    """The mean of each metric over draws, and of the first the standard deviation."""
    by_name: dict[str, Metric] = {}
    main = next(iter(draws[0]))
    for name in DRAW_METRICS:
        by_draw = [draw[name] for draw in draws if name in draw]
        if not by_draw:
            continue
        by_name[f"{shots}shot_{name}"] = _mean(by_draw)
        if name == main and len(by_draw) > 1:
            by_name[f"{shots}shot_{name}/draws_sd"] = OverDraws(tuple(by_draw), is_spread=True)
    return by_name


def _mean(by_draw: Sequence[Metric]) -> Metric:
    """Means of items are one mean of the items' means, which bootstraps take from the sums of clusters."""
    means = [metric for metric in by_draw if isinstance(metric, MeanOfMeans)]
    if len(means) < len(by_draw):
        return OverDraws(tuple(by_draw))
    return MeanOfMeans(np.mean([mean.value_NC for mean in means], axis=0), means[0].member_NC)


def _shots_of(records: Sequence[Record]) -> list[str]:
    """Numbers of shots, rising."""
    return sorted(records[0].get(FEW_SHOT, {}), key=int) if records else []
