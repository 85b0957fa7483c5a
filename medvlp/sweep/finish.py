"""The end of a sweep: comparisons of models, other programs' formats, the table and the report."""

from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.statistics.comparisons import compare_folder
from medvlp.jsonl import Row, read_rows
from medvlp.report import results_table, write_run_report
from medvlp.sweep.cells import FAILURES
from medvlp.sweep.measure import Measurement


def finish(measurement: Measurement, rows: list[Row]) -> int:
    """What all cells together give. rows: this sweep's in results.jsonl. Returns 0.

    Raises:
        UserError: a row or a record of an earlier evaluation cannot be read.
    """
    folder = measurement.folder.folder
    if not rows:
        return 0
    comparisons = compare_folder(folder, Bootstrap(measurement.config.resamples, measurement.config.seed))
    print(results_table(rows, comparisons, list(read_rows(folder / FAILURES))))
    print(f"results: {folder / 'results.jsonl'}\nreport: {write_run_report(folder)}", flush=True)
    return 0
