"""Differences between models on the same items: paired, clustered, with a p-value, and Holm's correction for a family.

Legend: N items, R resamples.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medvlp.config.evaluation.metric_names import direction
from medvlp.eval.bootstrap import Bootstrap, percentiles, resampled_values
from medvlp.eval.metrics import Array, MeanOfMeans, Metric
from medvlp.eval.statistics.measures import Measures

FEW = 10
"""Resamples beyond zero below which their share says little of a p-value: the normal tail takes over."""


@dataclass(frozen=True)
class PairedDifference:
    """One metric of model a minus that of model b, on the items that both have.

    difference, ci_low, ci_high: NaN bounds where there is nothing to resample. p: two-sided; NaN likewise.
    wins, ties, losses: items on which a is better, equal, worse; None for a metric that items have no score of (AUROC).
    """

    metric: str
    a: str
    b: str
    difference: float
    ci_low: float
    ci_high: float
    p: float
    n: int
    clusters: int
    wins: int | None
    ties: int | None
    losses: int | None
    p_holm: float = float("nan")


def paired_differences(
    models: Mapping[str, Measures], pairs: Iterable[tuple[str, str]], names: Sequence[str], bootstrap: Bootstrap
) -> list[PairedDifference]:
    """The differences of some metrics between pairs of models, all measured on the same items in the same order.

    All models see the same resamples of clusters, so that what they share does not widen a difference.

    Args:
        models: name → its metrics; their keys must be equal.
        pairs: (a, b): names of models.
        names: of the metrics; those that both models of a pair have are compared.

    Raises:
        ValueError: two models were measured on different items.
    """
    first = next(iter(models.values()))
    if any(list(measured.keys) != list(first.keys) for measured in models.values()):
        raise ValueError("the models were measured on different items, or in another order: align them first")
    by_name: dict[str, Metric] = {
        f"{metric}\0{model}": measured.metrics[metric]
        for model, measured in models.items()
        for metric in names
        if metric in measured.metrics
    }
    values = resampled_values(by_name, first.groups, bootstrap.resamples, bootstrap.seed)
    points = {name: float(metric(None)) for name, metric in by_name.items()}
    clusters = len(set(first.groups))
    differences = []
    for a, b in pairs:
        for metric in names:
            of_a, of_b = f"{metric}\0{a}", f"{metric}\0{b}"
            if of_a not in by_name or of_b not in by_name:
                continue
            difference_R = values[of_a] - values[of_b]
            difference = points[of_a] - points[of_b]
            informative = differing_clusters(by_name[of_a], by_name[of_b], first.groups)
            differences.append(
                PairedDifference(
                    metric,
                    a,
                    b,
                    difference,
                    *percentiles(difference_R),
                    two_sided_p(difference, difference_R, clusters if informative is None else informative),
                    models[a].counts[metric],
                    clusters,
                    *wins_ties_losses(by_name[of_a], by_name[of_b], direction(metric)),
                )
            )
    return differences


def two_sided_p(difference: float, difference_R: Array, informative: int) -> float:
    """The p-value of no difference, from resampled differences: twice the smaller share that lies on either side of zero.

    Zeros count on both sides, and one resample is added to each (Davison and Hinkley 1997). Where fewer than `FEW`
    resamples lie beyond zero, their share is coarse, and the smaller of it and of the normal tail, with the resamples' own
    standard deviation, is taken: corrections for many comparisons need small values. No p is smaller than that of the
    exact sign test over the clusters that tell the models apart, 2^(1 − clusters): with few of them, resamples that hold
    none or all the same are too sure.

    Args:
        difference: on the items themselves.
        informative: clusters in which the two models differ.
    """
    difference_R = difference_R[~np.isnan(difference_R)]
    if not len(difference_R) or math.isnan(difference):
        return float("nan")
    if not informative:
        return 1.0
    beyond = min(int((difference_R <= 0).sum()), int((difference_R >= 0).sum()))
    p = 2 * (beyond + 1) / (len(difference_R) + 1)
    deviation = float(difference_R.std())
    if beyond < FEW and deviation > 0:
        p = min(p, math.erfc(abs(difference) / deviation / math.sqrt(2)))
    return min(1.0, max(p, 2.0 ** (1 - informative)))


def differing_clusters(a: Metric, b: Metric, groups: Sequence[str]) -> int | None:
    """Clusters whose items give two means different sums; None for metrics that are no means of items."""
    if not isinstance(a, MeanOfMeans) or not isinstance(b, MeanOfMeans):
        return None
    if a.value_NC.shape != b.value_NC.shape:
        return None
    cluster_N = np.unique(np.asarray(groups), return_inverse=True)[1]
    clusters = int(cluster_N.max()) + 1
    pairs = zip(a.sums_of(cluster_N, clusters), b.sums_of(cluster_N, clusters), strict=True)
    return int(np.any([(of_a != of_b).any(axis=1) for of_a, of_b in pairs], axis=0).sum())


def wins_ties_losses(a: Metric, b: Metric, sign: int = 1) -> tuple[int | None, int | None, int | None]:
    """Items on which a is better, as good, and worse; None for metrics that are no means of items.

    sign: 1 where higher is better, -1 where lower is.
    """
    if not isinstance(a, MeanOfMeans) or not isinstance(b, MeanOfMeans):
        return None, None, None
    better_N = sign * np.sign(a.item_scores() - b.item_scores())
    counts = [int((better_N == outcome).sum()) for outcome in (1, 0, -1)]  # NaN: an item that the metric does not have
    return counts[0], counts[1], counts[2]


def holm(differences: Sequence[PairedDifference]) -> list[PairedDifference]:
    """The same with `p_holm`, the p-values corrected for all comparisons of the family (Holm 1979), NaN where p is."""
    order = [row for row, difference in enumerate(differences) if not math.isnan(difference.p)]
    order.sort(key=lambda row: differences[row].p)
    corrected = list(differences)
    largest = 0.0
    for rank, row in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * differences[row].p))
        corrected[row] = replace(differences[row], p_holm=largest)
    return corrected
