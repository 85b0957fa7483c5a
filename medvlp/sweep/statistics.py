"""Statistics of a cell that are computed from its records when it ends: subgroups and calibration."""

from medvlp.config import EvalConfig
from medvlp.eval.task import TaskResult
from medvlp.sweep.cells import CellStatistics


def statistics_of(result: TaskResult, config: EvalConfig) -> CellStatistics:
    """What a cell's records say beyond the task's own metrics."""
    return CellStatistics()
