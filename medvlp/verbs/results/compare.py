"""`medvlp compare <folder> [<folder> ...]`: paired differences between models from their results and records alone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from medvlp.cli import run_verb
from medvlp.errors import UsageError
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.errors import RecordsError
from medvlp.eval.statistics.comparisons import compare
from medvlp.eval.statistics.result_files import RESULTS, StoredResult, distinct, find_results
from medvlp.jsonl import encode_row
from medvlp.process import tell
from medvlp.report.comparisons import comparison_table
from medvlp.report.sweep.evaluation import check_results
from medvlp.report.sweep.marks import trained_mark
from medvlp.report.sweep.scores import checkpoint_names

USAGE = """usage: medvlp compare <results>[:<model>] [<results>[:<model>] ...] [key=value ...]

Compares models on the items that they share: paired differences with 95% intervals (bootstrap over clusters of
items), p-values with Holm's correction over all pairs and main metrics of a task, and items won, tied and lost.
It reads results.jsonl and samples/ of folders that `medvlp eval` made, and needs no models.

  <results>         a folder of `medvlp eval`: all its models
  <results>:<model> one of them, by its name in results.jsonl or a part of it that no other has

  task=<name>       only this task, or [several,tasks]
  split=<name>      only this split
  metric=<name>     this metric instead of the main ones, or [several,metrics]
  resamples=10000   bootstrap resamples
  seed=0            seeds them
  format=table      or json: a line a comparison, as in comparisons.jsonl

Results are compared where their protocol cards agree; otherwise the line that differs is named.
Exit code 0: compared; 1: results or records that cannot be read, or nothing to compare; 2: usage.
Research use only; not for clinical use."""

OVER_GROUPS = re.compile(r"/(worst_group|equity_scaled)\[")
"""In the names of metrics that no record has a part in."""
KEYS = ("task", "split", "metric", "resamples", "seed", "format")


@dataclass(frozen=True)
class CompareOptions:
    """What `medvlp compare` is asked."""

    sources: list[str]
    tasks: list[str]
    splits: list[str]
    metrics: list[str]
    bootstrap: Bootstrap
    is_json: bool


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp compare`; returns the exit code."""
    return run_verb("compare", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    return USAGE


def parse(args: list[str]) -> CompareOptions:
    """Folders and options. Raises UsageError."""
    options: dict[str, str] = {}
    sources = []
    for arg in args:
        key, equals, value = arg.partition("=")
        if equals and key in KEYS:
            options[key] = value
        elif arg.startswith("-") or (equals and key.isidentifier() and not Path(arg).exists()):
            close = get_close_matches(key.strip("-"), KEYS, n=1)
            raise UsageError(
                f"medvlp compare: {arg!r} is no option{f'; did you mean {close[0]}=?' if close else ''}\n{USAGE}"
            )
        else:
            sources.append(arg)
    if not sources:
        raise UsageError
    numbers = {"resamples": 10_000, "seed": 0}
    for key in numbers:
        if key in options and not options[key].isdecimal():
            raise UsageError(f"medvlp compare: {key}={options[key]} is no whole number")
        numbers[key] = int(options.get(key, numbers[key]))
    if options.get("format", "table") not in ("table", "json"):
        raise UsageError(f"medvlp compare: format={options['format']} is neither table nor json")
    tasks, splits, metrics = (_names(options.get(key, "")) for key in KEYS[:3])
    return CompareOptions(
        sources,
        tasks,
        splits,
        metrics,
        Bootstrap(numbers["resamples"], numbers["seed"]),
        options.get("format") == "json",
    )


def _names(text: str) -> list[str]:
    """`name` or `[several,names]`; names may have brackets of their own (`acc1/worst_group[sex]`)."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return [name.strip() for name in inner.split(",") if name.strip()]


def work(options: CompareOptions) -> int:
    """Print the comparisons; 1 where the records of a model cannot be read, or lack a metric that is asked for.

    Raises:
        NotARun: a row of results.jsonl has another shape.
        RecordsError: a folder without results, a model or a metric that is not there, or no two results of one task.
    """
    results = distinct([result for source in options.sources for result in find_results(source)])
    for folder in dict.fromkeys(result.folder for result in results):
        check_results(folder)
    of_options = [
        result
        for result in results
        if result.task in (options.tasks or [result.task]) and result.split in (options.splits or [result.split])
    ]
    check_shared(results, of_options, options)
    comparisons = compare(of_options, options.bootstrap, options.metrics)
    rows = [comparison.row() for comparison in comparisons]
    if options.is_json:
        print(b"".join(map(encode_row, rows)).decode(), end="")
    else:
        names = checkpoint_names([{"checkpoint": result.model} for result in of_options])
        marks = {(result.model, result.task, result.split): trained_mark(result.protocol) for result in of_options}
        print(comparison_table(rows, names, marks))
    unread = dict.fromkeys(
        f"{comparison.task}, {comparison.a} and {comparison.b}: {problem}" if problem in comparison.absent else problem
        for comparison in comparisons
        for problem in (*comparison.unread, *comparison.absent)
    )
    return max((tell("compare", RecordsError(problem)) for problem in unread), default=0)


def check_shared(results: Sequence[StoredResult], of_options: Sequence[StoredResult], options: CompareOptions) -> None:
    """Two models share a task, and the metrics that are asked for are theirs.

    Raises:
        RecordsError: with what there is.
    """
    tasks: dict[tuple[str, str], list[StoredResult]] = {}
    for result in of_options:
        tasks.setdefault((result.task, result.split), []).append(result)
    families = [of_task for of_task in tasks.values() if len(of_task) > 1]
    if not families:
        lines = [f"  {result.model}: {result.task} on {result.split}" for result in results]
        raise RecordsError("no two models were measured on one task and split of those:\n" + "\n".join(lines))
    names = {row["metric"] for of_task in families for result in of_task for row in result.rows}
    for metric in options.metrics:
        if metric in names and OVER_GROUPS.search(metric):
            raise RecordsError(
                f"metric={metric} is over groups of items, and models are compared item by item; its interval is in {RESULTS}, "
                f"and metric={metric.partition('/')[0]} is compared"
            )
        if metric not in names:
            close = get_close_matches(metric, names, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise RecordsError(f"metric={metric}: no result has it{hint} There are {', '.join(sorted(names))}")
