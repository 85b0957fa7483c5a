"""CPU time of 10,000 paired resamples of the AUROC of two models, against a loop that calls scikit-learn on each resample.

Scores are rounded to three decimals, so that some tie; three in ten items are positive. Both ways see the same resamples, and
every value of the loop is equal to ours (asserted within 1e-12). At the sizes other than the first the loop is run on fewer
resamples, and its time scaled; each of its calls costs the same. It does not show the time that reading records takes.
"""

import tracemalloc
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import interleaved, report
from medvlp.eval.bootstrap import resampled_values
from medvlp.eval.metrics import Auroc

RESAMPLES, ROUNDS = 10_000, 3
SIZES = {1_000: RESAMPLES, 300: 500, 5_000: 300, 20_000: 200}
"""Items → resamples of the loop."""

Scores = dict[str, NDArray[np.float64]]


def two_models(items: int) -> tuple[Scores, NDArray[np.int64]]:
    """Scores of two models that agree in part, and whether an item is positive."""
    rng = np.random.default_rng(items)
    target_N = (rng.random(items) < 0.3).astype(np.int64)
    common_N = rng.normal(size=items) + target_N
    scores = {
        name: np.round(common_N + rng.normal(size=items) + shift * target_N, 3)
        for name, shift in (("a", 0.3), ("b", 0))
    }
    return scores, target_N


def ours(scores: Scores, target_N: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The values of both models on all resamples."""
    metrics = {name: Auroc(score_N, target_N) for name, score_N in scores.items()}
    clusters = [f"{item:09d}" for item in range(len(target_N))]  # each item is one, in the order of their names
    return resampled_values(metrics, clusters, RESAMPLES, seed=0)


def loop(scores: Scores, target_N: NDArray[np.int64], resamples: int) -> dict[str, list[float]]:
    """The values of both models on the first resamples, one call of scikit-learn each."""
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(0)
    values: dict[str, list[float]] = {name: [] for name in scores}
    for _ in range(resamples):
        item_N = generator.integers(0, len(target_N), size=len(target_N))
        for name, score_N in scores.items():
            values[name].append(float(roc_auc_score(target_N[item_N], score_N[item_N])))
    return values


def assert_equal(scores: Scores, target_N: NDArray[np.int64], resamples: int) -> float:
    """The largest difference between the two ways; fails beyond 1e-12."""
    by_ours, by_loop = ours(scores, target_N), loop(scores, target_N, resamples)
    largest = max(float(np.abs(by_ours[name][:resamples] - by_loop[name]).max()) for name in scores)
    assert largest < 1e-12, f"the two ways differ by {largest}"
    return largest


def peak_megabytes(scores: Scores, target_N: NDArray[np.int64]) -> float:
    """What our way allocates at most, in MB."""
    tracemalloc.start()
    ours(scores, target_N)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def main() -> None:
    """Run the benchmark and print its report."""
    rows, values, ratio = [], [], 0.0
    for items, resamples in SIZES.items():
        scores, target_N = two_models(items)
        largest = assert_equal(scores, target_N, min(resamples, 500))
        runs = {"ours": partial(ours, scores, target_N), "loop": partial(loop, scores, target_N, resamples)}
        seconds = interleaved(runs, ROUNDS)
        of_loop = seconds["loop"] * RESAMPLES / resamples
        ratio = ratio or of_loop / seconds["ours"]
        peak = peak_megabytes(scores, target_N)
        rows.append(
            (
                f"{items} items",
                f"ours {seconds['ours']:.2f} s, loop {of_loop:.0f} s: {of_loop / seconds['ours']:.0f}×; "
                f"peak {peak:.0f} MB, largest difference {largest:.0e}",
            )
        )
        values.append({"items": items, "ours_s": seconds["ours"], "loop_s": of_loop, "peak_mb": peak})
    report("bootstrap", rows, {"ratio": ratio, "resamples": RESAMPLES, "sizes": values})


if __name__ == "__main__":
    main()
