"""What a task leaves behind: metrics with intervals, one record an item, and the protocol that produced them.

`results.jsonl` holds an object a (checkpoint, task, split, metric), `samples/*.jsonl` the records behind it.
"""

import hashlib
import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from medvlp.eval.bootstrap import LEVEL, bootstrap_intervals
from medvlp.eval.embeddings import EmbeddingCache, Encoder, ImageEmbeddings, Item
from medvlp.eval.metrics import TIE_RULE, Array, Value
from medvlp.eval.trained import Trained, by_part
from medvlp.jsonl import read_rows, write_rows
from medvlp.shards import ShardDataset, ShardError

RESEARCH_USE = "research use only; not for clinical use"

NAMED_BAD_SAMPLES = 20
"""Bad samples are all counted in a protocol; this many are named, so that a ruined dataset leaves readable results."""


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
class Outcome:
    """A task's result for one checkpoint."""

    task: str
    metrics: list[MetricValue]
    records: list[dict[str, Any]]
    """One an item: id, group, prediction, target, score, and what the kind of task adds."""
    protocol: dict[str, Any]
    """Everything that someone needs to reproduce the numbers, as JSON values."""


class Identified(Protocol):
    """A model by its weights."""

    @property
    def identity(self) -> str:
        """Hash of the weights, and of all else that decides what the model gives."""


class Task(Protocol):
    """An evaluation of embeddings: `ZeroShot`, `Retrieval`."""

    @property
    def name(self) -> str:
        """What results.jsonl calls it."""

    def run(self, encoder: Encoder, cache: EmbeddingCache) -> Outcome:
        """Measure one model."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn."""

    resamples: int = 10_000
    """0 leaves the intervals out, for a quick look during training."""
    seed: int = 0

    def measure(
        self,
        metrics: Mapping[str, Callable[[Array | None], Value]],
        groups: Sequence[Hashable],
        trained_N: Array | None = None,
    ) -> list[MetricValue]:
        """Each metric over all items and over resampled clusters of items; groups names each item's cluster.

        trained_N: (N,) bool, items that the model was trained on; each metric is given of these and of the others too.
        """
        parts = by_part(metrics, trained_N)
        intervals = bootstrap_intervals(
            {name: of for name, (of, _) in parts.items()}, groups, self.resamples, self.seed
        )
        return [
            MetricValue(name, float(of(None)), *intervals[name], len(groups) if n is None else n)
            for name, (of, n) in parts.items()
        ]

    def card(self, used: Sequence[Item]) -> dict[str, Any]:
        """Its part of a protocol."""
        kinds = sorted({item.group_kind or "kind not stated" for item in used})
        return {
            "method": "percentile bootstrap over clusters of items",
            "level": LEVEL,
            "resamples": self.resamples,
            "seed": self.seed,
            "cluster": f"group ({' or '.join(kinds)})",
            "clusters": len({item.group for item in used}),
        }


def protocol(
    kind: str,
    dataset: ShardDataset,
    model: Identified,
    images: ImageEmbeddings,
    used: Sequence[Item],
    excluded: Mapping[str, int],
    bootstrap: Bootstrap,
    trained: Trained | None = None,
) -> dict[str, Any]:
    """What every task states about its data, its model and its statistics."""
    keys = {item.key for item in used}
    hashes = zip(dataset.column("key"), dataset.column("sha256"), strict=True)
    return {
        "kind": kind,
        "data": str(dataset.folder),
        "split": dataset.manifest.split,
        "split_hash": dataset.manifest_hash,
        "samples": len(dataset),
        "n": len(used),
        "unique_images": len({sha256 for key, sha256 in hashes if key in keys}),
        "excluded": dict(sorted(excluded.items())),
        "bad": images.bad_counts(),
        "bad_keys": sorted(images.bad)[:NAMED_BAD_SAMPLES],
        "in_train": trained.card([item.key for item in used]) if trained is not None else None,
        "weights": model.identity,
        "tie_rule": TIE_RULE,
        "bootstrap": bootstrap.card(used),
        "use": RESEARCH_USE,
    }


def results_rows(checkpoint: str, outcome: Outcome) -> list[dict[str, Any]]:
    """The rows of results.jsonl: fractions, and null where a value or a bound is not defined."""
    return [
        {
            "checkpoint": checkpoint,
            "task": outcome.task,
            "metric": metric.name,
            "value": _defined(metric.value),
            "ci_low": _defined(metric.ci_low),
            "ci_high": _defined(metric.ci_high),
            "n": metric.n,
            "protocol": outcome.protocol,
        }
        for metric in outcome.metrics
    ]


def write_outcome(folder: Path, checkpoint: str, outcome: Outcome) -> list[dict[str, Any]]:
    """Add one outcome to `results.jsonl` and write its records to `samples/`; returns the rows.

    Rows of the same checkpoint, task and split are replaced, so a repeated evaluation does not count twice. Two
    checkpoints of one base name do not collide: the records' file, named in the protocol as `records`, carries a hash
    of the path.
    """
    split = outcome.protocol["split"]
    parts = (split, *Path(checkpoint).with_suffix("").parts[-3:])
    stem = "-".join(re.sub(r"[^A-Za-z0-9_.-]+", "-", part) for part in parts)
    digest = hashlib.sha256(checkpoint.encode()).hexdigest()[:8]
    records = Path("samples") / f"{outcome.task}--{stem.strip('-')[-80:]}-{digest}.jsonl"
    rows = results_rows(checkpoint, outcome)
    for row in rows:
        row["protocol"] = {**outcome.protocol, "records": records.as_posix()}
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    write_rows(folder / records, outcome.records)
    results = folder / "results.jsonl"
    replaced = (checkpoint, outcome.task, split)
    write_rows(results, [row for row in read_rows(results) if _scored(row, results) != replaced], rows)
    return rows


def _scored(row: Mapping[str, Any], path: Path) -> tuple[str, str, str]:
    """What a row of results.jsonl is of: (checkpoint, task, split)."""
    try:
        return row["checkpoint"], row["task"], row["protocol"]["split"]
    except (KeyError, TypeError) as error:
        raise ShardError(
            f"{path} has a row that is not a result ({type(error).__name__}: {error}); remove the row, or give another output"
        ) from None


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
