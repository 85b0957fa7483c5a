"""Metrics by subgroup of the items, the worst group, and equity-scaled metrics, from a task's records.

Legend: N items, R resamples, G groups.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from medvlp.config.evaluation.groupings import NO_NUMBER, NOT_STATED, Grouping
from medvlp.config.evaluation.metric_names import JUDGED, direction
from medvlp.config.evaluation.metric_names import MAIN as MAIN_OF
from medvlp.eval.bootstrap import Bootstrap, MetricValue, percentiles, resampled_values
from medvlp.eval.errors import RecordsError
from medvlp.eval.metrics import Array, MeanOfMeans, Metric
from medvlp.eval.statistics.classification import OnRows
from medvlp.eval.statistics.measures import Measures, Record, measures, part
from medvlp.eval.statistics.reliance import VRS
from medvlp.eval.trained import part_names
from medvlp.eval.vqa.scores import MAIN
from medvlp.jsonl import finite

RARE_VALUES = "(other values)"
MOST_GROUPS = 50
"""Groups of one field with rows of their own, the largest; the items of all others are one more group."""
DISTINCT_NUMBERS = 10
"""A field of numbers with more different ones than this is cut at its quartiles."""
_UNGROUPED = ""
"""Stands for all items where groups are keyed by name: no group has an empty one."""
EQUITY_WEIGHT = 1.0
"""α of the equity-scaled metric, 1 as in the published forms that have none (FairCLIP, Luo 2024)."""

Summary = Callable[[Array, Array], Array]
"""From a metric over all items, value_R, and over each group, value_GR, to R values."""

MAIN_METRICS: dict[str, tuple[str, ...]] = {
    "zero_shot": ("acc1", "mean_per_class_recall", "auroc"),
    "classification": ("acc1", "mean_per_class_recall", "auroc", "map"),
    "probe": ("acc1", "mean_per_class_recall", "auroc", "map", "f1"),
    "multi_label": ("auroc", "map", "f1"),
    "vqa": (*MAIN, VRS, *JUDGED),
    "text": MAIN_OF["text"],
    "error_check": MAIN_OF["error_check"],
}
"""Kind → the metrics that are given by subgroup. A kind that is not listed has all its metrics, of which retrieval's are the
recalls of both directions."""


@dataclass(frozen=True)
class Subgroups:
    """rows: of subgroups.jsonl, without checkpoint, task and split. metrics: worst groups and equity-scaled metrics, for
    results.jsonl."""

    rows: list[dict[str, Any]]
    metrics: list[MetricValue]


def subgroups_of(
    records: Sequence[Record],
    protocol: Mapping[str, Any],
    by: Sequence[Grouping],
    people: Sequence[Grouping],
    bootstrap: Bootstrap,
) -> Subgroups:
    """The main metrics of every group of every field, each with n, clusters and interval, on the resamples of all items.

    Items without the field (all of them, where none has it) are the group `NOT_STATED`, which counts neither as worst nor in
    an equity-scaled metric. A group
    of one cluster has no interval; where a metric is not defined (an AUROC without positives) the value is null.
    """
    groupings = {grouping.text: grouping for grouping in (*by, *people)}
    equitable = {grouping.text for grouping in people}
    rows: list[dict[str, Any]] = []
    values: list[MetricValue] = []
    for measured in measures(records, protocol) if groupings else ():
        wholes = _main(measured, str(protocol["kind"]))
        for grouping in groupings.values():
            names = group_names([_field_of(record, grouping.field) for record in measured.records], grouping)
            groups = {name: _group(wholes, np.array([n == name for n in names]), protocol) for name in ordered(names)}
            of_field, of_people = _measure(wholes, groups, grouping, grouping.text in equitable, bootstrap)
            rows += of_field
            values += of_people
    return Subgroups(rows, values)


# Groups


def group_names(values: Sequence[Any], grouping: Grouping) -> list[str]:
    """The group of each item, by its value of the field; None: the item does not have it.

    Edges make groups of numbers. Without edges a field of numbers alone, more than `DISTINCT_NUMBERS` different ones, is cut
    at its quartiles; every other value is its own group, beyond `MOST_GROUPS` the rarest together.
    """
    numbers = [number_of(value) for value in values]
    edges = grouping.edges
    if not edges and all(
        number is not None for number, value in zip(numbers, values, strict=True) if value is not None
    ):
        distinct = {number for number in numbers if number is not None}
        if len(distinct) > DISTINCT_NUMBERS:
            numbers_stated = [number for number in numbers if number is not None]
            quartiles = np.quantile(numbers_stated, [0.25, 0.5, 0.75], method="inverted_cdf")
            edges = tuple(sorted({float(edge) for edge in quartiles} - {min(distinct)}))
    if edges:
        return [_bin(value, number, edges) for value, number in zip(values, numbers, strict=True)]
    names = [NOT_STATED if value is None else _name(value) for value in values]
    counts = Counter(names)
    if len(counts) <= MOST_GROUPS:
        return names
    most = {name for name, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_GROUPS]} | {
        NOT_STATED
    }
    return [name if name in most else RARE_VALUES for name in names]


def _field_of(record: Record, name: str) -> Any:
    fields = record.get("fields", {})
    if not isinstance(fields, Mapping):
        raise RecordsError(f"fields of record {record.get('id')!r} are no object of names and values: {fields!r:.60}")
    return fields.get(name)


def number_of(value: Any) -> float | None:
    """A field's value as a number: 45, "45", and "90+" of ages; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        try:
            return float(value) if math.isfinite(value) else None
        except OverflowError:  # an integer beyond float64
            return None
    match = re.fullmatch(r"\s*([+-]?\d+(?:\.\d+)?)\+?\s*", str(value)) if value is not None else None
    number = float(match.group(1)) if match else math.inf
    return number if math.isfinite(number) else None


def ordered(names: Sequence[str]) -> list[str]:
    """The groups that occur: bins by their numbers, other names by the alphabet, those in brackets last."""

    def rank(name: str) -> tuple[bool, float, str]:
        digits = re.search(r"-?\d+(?:\.\d+)?", name) if name.startswith(("under ", "from ")) else None
        number = -math.inf if name.startswith("under ") else float(digits.group()) if digits else number_of(name)
        return name in (NOT_STATED, NO_NUMBER, RARE_VALUES), math.inf if number is None else number, name

    return sorted(set(names), key=rank)


def _bin(value: Any, number: float | None, edges: Sequence[float]) -> str:
    if number is None:
        return NOT_STATED if value is None else NO_NUMBER
    position = int(np.searchsorted(edges, number, side="right"))
    if position == 0:
        return f"under {edges[0]:g}"
    if position == len(edges):
        return f"from {edges[-1]:g}"
    return f"from {edges[position - 1]:g} to under {edges[position]:g}"


def _name(value: Any) -> str:
    return str(value).strip() if not isinstance(value, bool) else str(value).lower()


# Metrics


def _main(measured: Measures, kind: str) -> Measures:
    """Only the metrics that are given by subgroup, over all items."""
    is_part = tuple(part_names())
    names = MAIN_METRICS.get(kind) or [name for name in measured.metrics if not name.endswith(is_part)]
    main = {name: metric for name, metric in measured.metrics.items() if name in names}
    return replace(measured, metrics=main, counts={name: measured.counts[name] for name in main})


def _group(wholes: Measures, member_N: Array, protocol: Mapping[str, Any]) -> tuple[Measures, dict[str, int]]:
    """The metrics of a group, and the clusters of the items that each averages over."""
    measured = part(wholes, member_N)
    rows = np.asarray(np.flatnonzero(member_N), np.int64)
    members = [measured.records[row] for row in rows.tolist()]
    by_rows = {
        name: metric
        for measured_group in measures(members, protocol)
        for name, metric in measured_group.metrics.items()
    }
    by_name: dict[str, Metric] = {}
    clusters: dict[str, int] = {}
    for name, metric in measured.metrics.items():
        counted = rows
        if isinstance(metric, MeanOfMeans):
            counted = np.asarray(np.flatnonzero(metric.member_NC.any(axis=1)), np.int64)
            by_name[name] = metric
        else:
            by_name[name] = OnRows.of(by_rows[name], rows, len(member_N)) if name in by_rows else metric
        clusters[name] = len({measured.groups[row] for row in counted.tolist()})
    return replace(measured, metrics=by_name), clusters


def _measure(
    wholes: Measures,
    groups: Mapping[str, tuple[Measures, dict[str, int]]],
    grouping: Grouping,
    is_of_people: bool,
    bootstrap: Bootstrap,
) -> tuple[list[dict[str, Any]], list[MetricValue]]:
    """Rows of all groups of a field and, of people, the worst group and the equity-scaled metric of each metric."""
    by_group = {
        (name, group): metric
        for group, (measured_group, _) in groups.items()
        for name, metric in measured_group.metrics.items()
    }
    if is_of_people:
        by_group |= {(name, _UNGROUPED): metric for name, metric in wholes.metrics.items()}
    keys = {f"{number}": key for number, key in enumerate(by_group)}
    resamples = resampled_values(
        {text: by_group[key] for text, key in keys.items()}, wholes.groups, bootstrap.resamples, bootstrap.seed
    )
    value_R_of = {key: resamples[text] for text, key in keys.items()}
    point_of = {key: float(metric(None)) for key, metric in by_group.items()}
    rows, values = [], []
    for name in wholes.metrics:
        of_metric = [group for group in groups if (name, group) in by_group]
        for group in of_metric:
            measured_group, clusters = groups[group]
            low, high = percentiles(value_R_of[name, group]) if clusters[name] > 1 else (math.nan, math.nan)
            rows.append(
                {
                    "metric": name,
                    "by": grouping.text,
                    "group": group,
                    "value": finite(point_of[name, group]),
                    "ci_low": finite(low),
                    "ci_high": finite(high),
                    "n": measured_group.counts[name],
                    "clusters": clusters[name],
                }
            )
        people_groups = [group for group in of_metric if group not in (NOT_STATED, NO_NUMBER)]
        if is_of_people and people_groups:
            point_and_R = np.array([point_of[name, _UNGROUPED]]), value_R_of[name, _UNGROUPED]
            pairs = [(np.array([point_of[name, group]]), value_R_of[name, group]) for group in people_groups]
            n = sum(groups[group][0].counts[name] for group in people_groups)
            summaries: dict[str, Summary] = {"worst_group": partial(worst_group, sign=direction(name))}
            if direction(name) > 0:
                summaries = {"equity_scaled": equity_scaled, **summaries}
            for label, function in summaries.items():
                point, value_R = (function(point_and_R[i], np.stack([pair[i] for pair in pairs])) for i in (0, 1))
                values.append(
                    MetricValue(f"{name}/{label}[{grouping.text}]", float(point[0]), *percentiles(value_R), n)
                )
    return rows, values


def equity_scaled(value_R: Array, value_GR: Array, weight: float = EQUITY_WEIGHT) -> Array:
    """ES-M = M / (1 + α·Σ_g |M − M_g|) of a metric M that is better the higher it is (Luo et al., CVPR 2024).

    Groups in which M is not defined, in this resample, add nothing; where it is defined in none, the value is NaN.
    """
    gap_GR = np.abs(value_R - value_GR)
    scaled_R = value_R / (1 + weight * np.where(np.isnan(gap_GR), 0.0, gap_GR).sum(axis=0))
    return np.where(np.isnan(gap_GR).all(axis=0), np.nan, scaled_R)


def worst_group(value_R: Array, value_GR: Array, sign: int = 1) -> Array:
    """The lowest value of any group, or with sign = -1 (of an error) the highest; NaN where none is defined."""
    lowest_R = np.where(np.isnan(value_GR), np.inf, sign * value_GR).min(axis=0)
    return np.where(np.isinf(lowest_R), np.nan, sign * lowest_R)
