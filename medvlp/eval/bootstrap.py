"""Uncertainty of a metric over the items it was measured on.

Legend: N items, K clusters, R resamples, B resamples held at a time, C classes, M columns of sums.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medvlp.eval.metrics import Array, Indices, MeanOfMeans, Metric

if TYPE_CHECKING:
    from medvlp.eval.statistics.measures import Measures

LEVEL = 0.95

_BLOCK = 2**19
"""Weights held at a time: 4 MB in float64, so that they stay in a processor's cache; a metric holds a few such arrays."""
_LEAST = 16
"""Resamples held at a time at least: with fewer side by side, arrays are walked item by item."""
_MOST_COUNTS = 2**26
"""Counts of resamples that a process keeps, a byte each: 64 MB; 10,000 resamples of 2,000 clusters are 20 MB."""

Interval = tuple[float, float]
Counts = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class MetricValue:
    """One metric as a fraction, with its 95% interval; NaN bounds where there is none."""

    name: str
    value: float
    ci_low: float
    ci_high: float
    n: int
    """Items that the metric averages over."""


@dataclass(frozen=True)
class Bootstrap:
    """Intervals by the bootstrap over clusters of items."""

    resamples: int = 10_000
    """0 leaves the intervals out, for a quick look during training."""
    seed: int = 0

    def measure(self, parts: Sequence["Measures"]) -> list[MetricValue]:
        """Each metric over all items of its part, and over resampled clusters of them."""
        values = []
        for part in parts:
            intervals = bootstrap_intervals(part.metrics, part.groups, self.resamples, self.seed)
            values += [
                MetricValue(name, float(metric(None)), *intervals[name], part.counts[name])
                for name, metric in part.metrics.items()
            ]
        return values

    def metadata(self, groups: Sequence[str], kinds: Sequence[str]) -> dict[str, Any]:
        """Its part of a protocol. groups and kinds: of each item, its cluster and what that is (patient, article)."""
        names = sorted({kind or "kind not stated" for kind in kinds})
        return {
            "method": "percentile bootstrap over clusters of items",
            "level": LEVEL,
            "resamples": self.resamples,
            "seed": self.seed,
            "cluster": f"group ({' or '.join(names)})",
            "clusters": len(set(groups)),
        }


def bootstrap_intervals(
    metrics: Mapping[str, Metric], clusters: Sequence[Hashable], resamples: int = 10_000, seed: int = 0
) -> dict[str, Interval]:
    """Percentile bootstrap intervals at 95% (Efron 1979), clustered: see `resampled_values`.

    A resample in which a metric is not defined (NaN) does not count for it. With fewer than two clusters there is nothing
    to resample, and the bounds are NaN. A metric that is 0 (or 1) on every item is so on every resample: its interval has
    no width, which is a limit of the bootstrap and no certainty.
    """
    values = resampled_values(metrics, clusters, resamples, seed)
    return {name: percentiles(value_R) for name, value_R in values.items()}


def resampled_values(
    metrics: Mapping[str, Metric], clusters: Sequence[Hashable], resamples: int = 10_000, seed: int = 0
) -> dict[str, Array]:
    """Name → the metric's values on R resamples of the items; none with fewer than two clusters.

    Items of one patient or article are not independent, so whole clusters are sampled with replacement: `clusters` names
    the cluster of each of the N items. All metrics see the same resamples, so that differences of two are paired.
    """
    cluster_N = np.unique(np.asarray([str(name) for name in clusters]), return_inverse=True)[1]
    count = int(cluster_N.max()) + 1 if len(cluster_N) else 0
    if count < 2 or resamples < 1:
        return {name: np.empty(0) for name in metrics}
    step = max(_LEAST, _BLOCK // len(cluster_N))
    sums = _Sums({name: metric for name, metric in metrics.items() if isinstance(metric, MeanOfMeans)}, cluster_N)
    is_in_order = np.array_equal(cluster_N, np.arange(count))  # each item is its own cluster
    values = {name: np.empty(resamples) for name in metrics}
    start = 0
    for counts_KB in _draws(count, resamples, seed, step):
        times_KB = counts_KB.astype(np.float64)
        of_block = sums.values(times_KB.T)
        weights_NB = times_KB
        if len(of_block) < len(metrics) and not is_in_order:
            weights_NB = np.take(times_KB, cluster_N, axis=0, mode="clip")  # all are in range; "raise" would copy first
        stop = start + counts_KB.shape[1]
        for name, metric in metrics.items():
            values[name][start:stop] = of_block[name] if name in of_block else metric(weights_NB.T)
        start = stop
    return values


_blocks_of: "OrderedDict[tuple[int, int, int, int], list[Counts]]" = OrderedDict()
"""(clusters, resamples, seed, step) → what was drawn, the latest last: all metrics, models and tasks over as many clusters
see the same resamples."""


def _draws(clusters: int, resamples: int, seed: int, step: int) -> Iterator[Counts]:
    """counts_KB, how often each cluster occurs in each of B resamples; blocks of `step` resamples until there are R."""
    key = clusters, resamples, seed, step
    if key in _blocks_of:
        _blocks_of.move_to_end(key)
        yield from list(_blocks_of[key])
        return
    generator = np.random.default_rng(seed)
    blocks: list[Counts] = []
    is_kept = clusters * resamples <= _MOST_COUNTS
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        cluster_BK = generator.integers(0, clusters, size=(rows, clusters))
        cluster_BK += clusters * np.arange(rows)[:, None]  # one bincount for all rows: each counts in its own stretch
        times_BK = np.bincount(cluster_BK.ravel(), minlength=rows * clusters).reshape(rows, clusters)
        narrow = np.uint8 if times_BK.max() <= np.iinfo(np.uint8).max else np.uint32
        counts_KB = np.ascontiguousarray(times_BK.astype(narrow).T)  # the resamples of a cluster side by side
        is_kept = is_kept and narrow is np.uint8
        if is_kept:
            blocks.append(counts_KB)
        yield counts_KB
    if is_kept:
        _blocks_of[key] = blocks
        while sum(clusters * resamples for clusters, resamples, *_ in _blocks_of) > _MOST_COUNTS:
            _blocks_of.popitem(last=False)


class _Sums:
    """Means of items from sums of clusters: one matrix product for all of them."""

    def __init__(self, means: Mapping[str, MeanOfMeans], cluster_N: Indices) -> None:
        self.means = means
        pairs = [mean.sums_of(cluster_N, int(cluster_N.max()) + 1) for mean in means.values()]
        self.sums_KM = np.concatenate([array for pair in pairs for array in pair], axis=1) if pairs else None

    def values(self, times_BK: Array) -> dict[str, Array]:
        if self.sums_KM is None:
            return {}
        sums_BM, column, values = times_BK @ self.sums_KM, 0, {}
        for name, mean in self.means.items():
            classes = mean.value_NC.shape[1]
            values[name] = mean.from_sums(*np.split(sums_BM[:, column : column + 2 * classes], 2, axis=1))
            column += 2 * classes
        return values


def percentiles(value_R: Array, level: float = LEVEL) -> Interval:
    """The bounds that hold the middle share of the values that are defined; NaN where none is."""
    value_R = value_R[~np.isnan(value_R)]
    if not len(value_R):
        return float("nan"), float("nan")
    low, high = np.quantile(value_R, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
