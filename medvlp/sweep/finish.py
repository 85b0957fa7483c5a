"""The end of a sweep: comparisons of models, other programs' formats, the table and the report."""

from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.statistics.comparisons import compare_folder
from medvlp.jsonl import Row
from medvlp.report import results_table, write_run_report
from medvlp.sweep.measure import Measurement


def finish(measurement: Measurement, rows: list[Row]) -> None:
    """What all cells together give. rows: this sweep's in results.jsonl."""
    folder = measurement.folder.folder
    if not rows:
        return
    compare_folder(folder, Bootstrap(measurement.config.resamples, measurement.config.seed))
    print(results_table(rows))
    print(f"results: {folder / 'results.jsonl'}\nreport: {write_run_report(folder)}", flush=True)
