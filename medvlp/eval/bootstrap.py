"""Uncertainty of a metric over the items it was measured on.

Legend: N items, K clusters, R resamples.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from medvlp.eval.metrics import Array, Value

LEVEL = 0.95

_BLOCK = 2**21
"""Weights held at a time: 16 MB in float64; a metric holds a few arrays of this size besides."""

Interval = tuple[float, float]


def bootstrap_intervals(
    metrics: Mapping[str, Callable[[Array], Value]],
    clusters: Sequence[Hashable],
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile bootstrap intervals at 95% (Efron 1979), clustered.

    Items of one patient or article are not independent, so whole clusters are sampled with replacement: `clusters` names
    the cluster of each of the N items, and each metric maps weights_RN, how often an item was sampled, to R values. All
    metrics see the same resamples. A resample in which a metric is not defined (NaN) does not count for it. With fewer
    than two clusters there is nothing to resample, and the bounds are NaN. A metric that is 0 (or 1) on every item is
    so on every resample: its interval has no width, which is a limit of the bootstrap and no certainty.
    """
    cluster_N = np.unique(np.asarray([str(name) for name in clusters]), return_inverse=True)[1]
    count = int(cluster_N.max()) + 1 if len(cluster_N) else 0
    if count < 2 or resamples < 1:
        return {name: (float("nan"), float("nan")) for name in metrics}
    generator = np.random.default_rng(seed)
    step = max(1, _BLOCK // len(cluster_N))
    values: dict[str, list[Array]] = {name: [] for name in metrics}
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        cluster_RK = generator.integers(0, count, size=(rows, count))
        cluster_RK += count * np.arange(rows)[:, None]  # one bincount for all rows: each counts in its own stretch
        times_RK = np.bincount(cluster_RK.ravel(), minlength=rows * count).reshape(rows, count)
        weights_RN = times_RK.astype(np.float64)[:, cluster_N]
        for name, metric in metrics.items():
            values[name].append(np.asarray(metric(weights_RN)))
    return {name: _percentiles(np.concatenate(parts)) for name, parts in values.items()}


def _percentiles(value_R: Array) -> Interval:
    value_R = value_R[~np.isnan(value_R)]
    if not len(value_R):
        return float("nan"), float("nan")
    low, high = np.quantile(value_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
