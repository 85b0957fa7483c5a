"""Statistics of a cell that are computed from its records when it ends: subgroups and calibration."""

from medvlp.config import EvalConfig
from medvlp.config.evaluation.groupings import parse_groupings
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.results import value_rows
from medvlp.eval.statistics.cell import record_statistics
from medvlp.eval.task import TaskResult
from medvlp.sweep.cells import CellStatistics


def statistics_of(result: TaskResult, config: EvalConfig) -> CellStatistics:
    """What a cell's records say beyond the task's own metrics."""
    statistics = record_statistics(
        result.records,
        result.protocol,
        Bootstrap(config.resamples, config.seed),
        parse_groupings(config.by, "by"),
        parse_groupings(config.people, "people"),
        config.specificity,
    )
    return CellStatistics(value_rows(statistics.metrics), statistics.subgroups, statistics.calibration)
