"""CPU time of the few-shot table of four models on ROCOv2's modality (1, 2, 4, 8 and 16 shots × 5 draws, C of each of the 25
probes chosen on valid as CLIP's are), against a loop over scikit-learn's LogisticRegression on the same embeddings and draws.

Both search C alike: seven values, then four halvings of the interval around the best (Radford 2021, A.3). The loop is run
twice. `lbfgs` is scikit-learn as it comes, which the published protocol uses; `ratio` is against it. It stops before the
optimum at both ends of the range of C, and chooses another C for that: how far its accuracies are from ours is printed.
`newton-cg` with a tolerance of 1e-12 solves the same regressions to their optimum. Asserted against it, for every model and
number of shots: the mean accuracy on test over the draws is within 0.01. Embeddings are computed before, and are not part of
the times; neither is drawing the samples for the loop.

    MEDVLP_DATA=<prepared data, with rocov2> MEDVLP_MODELS=<a.ckpt,b.ckpt,c.ckpt,d.ckpt> python -m benchmarks.probe
"""

import os
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import interleaved, report
from medvlp.config import load_task
from medvlp.eval.probes import draws
from medvlp.eval.probes.fitting import Probing
from medvlp.eval.probes.search import accuracy_score

ROUNDS = int(os.environ.get("MEDVLP_BENCHMARK_ROUNDS", "3"))
LIMIT = 0.01
"""Of the difference between two mean accuracies."""
PUBLISHED, EXACT = "lbfgs", "newton-cg"
SOLVERS: dict[str, dict[str, Any]] = {PUBLISHED: {}, EXACT: {"solver": "newton-cg", "tol": 1e-12}}
"""Loop → the regression's arguments, besides C and max_iter."""

Table = dict[str, dict[int, float]]
"""Model → shots → mean accuracy on test."""


def probings(models: list[str]) -> dict[str, Probing]:
    """Model → its embeddings of train, valid and test with their classes."""
    from medvlp.builders.models import open_model
    from medvlp.builders.tasks import build_task
    from medvlp.config import EvalConfig
    from medvlp.config.model_names import expand_model_names
    from medvlp.eval.probes.task import Probe
    from medvlp.eval.task import TaskSettings

    task: Any = build_task(load_task("rocov2_modality_probe"), TaskSettings())
    assert isinstance(task, Probe)
    config = EvalConfig(checkpoints=models, tasks=[task.name])
    return {
        name.text: task.probing(open_model(name, "cpu", config))
        for name in expand_model_names(models, lambda line: None)
    }


def ours(samples: dict[str, Probing]) -> Table:
    """The table."""
    return {
        name: {
            shots: float(
                accuracy_score(probing.scored.target_NL.argmax(axis=1))(probing.few_shot(shots).logit_EKL).mean()
            )
            for shots in probing.config.shots
        }
        for name, probing in samples.items()
    }


def loop(samples: dict[str, Probing], rows: dict[int, list[NDArray[np.int64]]], arguments: dict[str, Any]) -> Table:
    """The table by scikit-learn. rows: shots → the samples of each draw."""
    table: Table = {}
    for name, probing in samples.items():
        fit, valid, scored = (
            (part.embedding_ND, part.target_NL.argmax(axis=1)) for part in (probing.fit, probing.valid, probing.scored)
        )
        table[name] = {
            shots: float(
                np.mean(
                    [
                        best_model(fit[0][row_N], fit[1][row_N], *valid, probing, arguments).score(*scored)
                        for row_N in rows[shots]
                    ]
                )
            )
            for shots in probing.config.shots
        }
    return table


def best_model(
    feature_ND: NDArray[np.float64],
    target_N: NDArray[np.int64],
    valid_KD: NDArray[np.float64],
    valid_K: NDArray[np.int64],
    probing: Probing,
    arguments: dict[str, Any],
) -> Any:
    """The regression with the highest accuracy on valid, of equals the one with the smallest C."""
    from sklearn.linear_model import LogisticRegression

    tried: dict[float, tuple[float, Any]] = {}

    def visit(strength: float) -> None:
        model = LogisticRegression(C=strength, max_iter=1000, **arguments).fit(feature_ND, target_N)
        tried[strength] = model.score(valid_KD, valid_K), model

    def best() -> float:
        return max(tried, key=lambda strength: (tried[strength][0], -strength))

    for strength in probing.config.strengths:
        visit(strength)
    for _ in range(probing.config.halvings):
        center = best()
        for neighbours in ([s for s in tried if s < center], [s for s in tried if s > center]):
            if neighbours:
                nearest = min(neighbours, key=lambda strength: abs(np.log(strength / center)))
                visit(float(np.sqrt(nearest * center)))
    return tried[best()][1]


def largest_difference(a: Table, b: Table) -> float:
    """Between the accuracies of two tables."""
    return max(abs(a[name][shots] - b[name][shots]) for name in a for shots in a[name])


def main() -> int:
    """Run the benchmark and print its report."""
    models = [name for name in os.environ.get("MEDVLP_MODELS", "").split(",") if name]
    if not models or not (Path(os.environ.get("MEDVLP_DATA", "data")) / "rocov2").is_dir():
        print("set MEDVLP_DATA and MEDVLP_MODELS (see the module's docstring)", file=sys.stderr)
        return 1
    warnings.simplefilter("ignore")  # scikit-learn tells of each regression that reached max_iter
    samples = probings(models)
    config, fit = next((probing.config, probing.fit) for probing in samples.values())
    rows = {
        shots: [draws.shots(fit.items, fit.target_NL, shots, config.seed, draw) for draw in range(config.draws)]
        for shots in config.shots
    }
    loops = {name: partial(loop, samples, rows, arguments) for name, arguments in SOLVERS.items()}
    tables = {"ours": ours(samples), **{name: run() for name, run in loops.items()}}
    differences = {name: largest_difference(tables["ours"], tables[name]) for name in loops}
    assert differences[EXACT] <= LIMIT, f"mean accuracies differ by {differences}"
    seconds = interleaved({"ours": partial(ours, samples), **loops}, ROUNDS)
    ratios = {name: seconds[name] / seconds["ours"] for name in loops}
    lines = [
        (name, ", ".join(f"{shots} shots {value:.3f}" for shots, value in row.items()))
        for name, row in tables["ours"].items()
    ]
    lines += [("ours", f"{seconds['ours']:.2f} s")]
    lines += [
        (
            f"scikit-learn, {name}",
            f"{seconds[name]:.2f} s: {ratios[name]:.1f}×; accuracies within {differences[name]:.3f}",
        )
        for name in loops
    ]
    values = {"ratio": ratios[PUBLISHED], "ratios": ratios, "seconds": seconds, "differences": differences}
    report("probe", lines, {**values, "accuracies": tables})
    return 0


if __name__ == "__main__":
    sys.exit(main())
