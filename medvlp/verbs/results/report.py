"""`medvlp report <folder ...>`: one self-contained page for a run, an evaluation or a prepared source."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from medvlp.cli import run_verb
from medvlp.errors import UsageError
from medvlp.process import attempt
from medvlp.report import read_evaluation, results_table, write_prep_report, write_run_report

USAGE = """usage: medvlp report <folder> [<folder> ...]

Writes report.html into each folder and prints its path and, where there is one, the table of results.
Of an evaluation it also writes leaderboard.md, leaderboard.tex and results.csv.
A folder is what `medvlp train`, `medvlp eval` or `medvlp prep` made.
Research use only; not for clinical use."""


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp report`; returns the exit code."""
    return run_verb("report", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    return USAGE


def parse(args: list[str]) -> list[Path]:
    """The folders. Raises UsageError without any."""
    if not args:
        raise UsageError
    return list(map(Path, args))


def work(folders: list[Path]) -> int:
    """Write every folder's page; 1 where one is no run or cannot be written (the others still are)."""
    return max(attempt("report", partial(write_page, folder)) for folder in folders)


def write_page(folder: Path) -> int:
    """Write one folder's page.

    Raises:
        NotARun: the folder is no run, or its files cannot be read.
    """
    prepared = (folder / "ledger.json").is_file()
    print(write_prep_report(folder) if prepared else write_run_report(folder))
    if (folder / "results.jsonl").is_file():
        evaluation = read_evaluation(folder)
        print(results_table(evaluation.results, evaluation.comparisons, evaluation.failures))
    return 0
