"""Statistics of one result from its records: subgroups, and the calibration of its probabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medvlp.config.evaluation.groupings import Grouping
from medvlp.eval.bootstrap import Bootstrap, MetricValue
from medvlp.eval.statistics.calibration import calibration_measures, calibration_row
from medvlp.eval.statistics.measures import naming_damage
from medvlp.eval.statistics.subgroups import subgroups_of


@dataclass(frozen=True)
class RecordStatistics:
    """What a result's records say beyond the task's own metrics.

    metrics: for results.jsonl. subgroups, calibration: rows of the files of these names, without checkpoint, task and split.
    """

    metrics: list[MetricValue] = field(default_factory=list)
    subgroups: list[dict[str, Any]] = field(default_factory=list)
    calibration: list[dict[str, Any]] = field(default_factory=list)


def record_statistics(
    records: Sequence[Mapping[str, Any]],
    protocol: Mapping[str, Any],
    bootstrap: Bootstrap,
    by: Sequence[Grouping] = (),
    people: Sequence[Grouping] = (),
    specificity: float = 0.95,
) -> RecordStatistics:
    """Calibration metrics where the records have probabilities, then worst groups and equity-scaled metrics of people."""
    with naming_damage(protocol):
        measured, row = calibration_measures(records, protocol, specificity), calibration_row(records, protocol)
    values = bootstrap.measure([measured]) if measured is not None else []
    groups = subgroups_of(records, protocol, by, people, bootstrap)
    return RecordStatistics(values + groups.metrics, groups.rows, [row] if row else [])
