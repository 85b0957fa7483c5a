"""The end of a sweep: comparisons of models, other programs' formats, the table and the report."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.statistics.comparisons import compare_folder
from medvlp.eval.statistics.result_files import RESULTS
from medvlp.jsonl import Row, read_rows
from medvlp.report import results_table, write_run_report
from medvlp.sweep.cells import COMPARISONS, FAILURES
from medvlp.sweep.lm_eval import write_lm_eval
from medvlp.sweep.measure import Measurement

MADE_OF_RESULTS = ("comparisons.jsonl", "leaderboard.md", "leaderboard.tex", "results.csv")


def finish(measurement: Measurement, rows: list[Row]) -> int:
    """What all cells together give. rows: this sweep's in results.jsonl. Returns 0.

    Raises:
        UserError: a row or a record of an earlier evaluation cannot be read.
    """
    folder = measurement.folder.folder
    if not (folder / RESULTS).exists():
        return 0
    config, contents = measurement.config, measurement.contents
    comparisons: list[Row] = []
    if any(True for _ in read_rows(folder / RESULTS)):
        comparisons = compare_folder(folder, Bootstrap(config.resamples, config.seed), folder / COMPARISONS)
    else:  # the rows of earlier commands have given way to failures, and so does what was made of them
        for name in MADE_OF_RESULTS:
            (folder / name).unlink(missing_ok=True)
    if rows:
        print(results_table(rows, comparisons, list(read_rows(folder / FAILURES))))
        for line in usage_lines(rows):
            print(line)
    print(f"results: {folder / RESULTS}\nreport: {write_run_report(folder)}", flush=True)
    if config.lm_eval and rows:
        finished = [(cell, contents[cell.id]) for cell in measurement.plan.cells if cell.id in contents]
        write_lm_eval(folder, finished, config)
    return 0


def usage_lines(rows: Sequence[Row]) -> list[str]:
    """For each model behind a server, what its answers to all tasks took, whenever they were given. rows: of results.jsonl."""
    by_model: dict[str, dict[tuple[str, str], Row]] = defaultdict(dict)
    for row in rows:
        if usage := row["protocol"].get("usage"):
            by_model[row["checkpoint"]][row["task"], row["protocol"]["split"]] = usage
    lines = []
    for model, by_task in by_model.items():
        total = Counter[str]()
        for usage in by_task.values():
            total.update(usage)
        lines.append(
            f"usage of {model}: {total['requests']:,} requests ({total['retries']:,} of them again), "
            f"{total['prompt_tokens']:,} tokens of prompts, {total['completion_tokens']:,} of answers"
        )
    return lines
