"""`medvlp report <folder ...>`: one self-contained page for a run, an evaluation or a prepared source."""

import sys
from collections.abc import Sequence
from pathlib import Path

from medvlp.errors import UserError
from medvlp.report import results_table, write_prep_report, write_run_report
from medvlp.report.files import explained, read_jsonl

USAGE = """usage: medvlp report <folder> [<folder> ...]

Writes report.html into each folder and prints its path and, where there is one, the table of results.
A folder is what `medvlp train`, `medvlp eval` or `medvlp prep` made.
Research use only; not for clinical use."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 where a folder is no run or cannot be written (the others still are); 2 without folders."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or {"-h", "--help"} & set(words):
        print(USAGE)
        return 0 if words else 2
    code = 0
    for folder in map(Path, words):
        try:
            prepared = (folder / "ledger.json").is_file()
            print(write_prep_report(folder) if prepared else write_run_report(folder))
            if (folder / "results.jsonl").is_file():
                with explained(folder / "results.jsonl"):
                    print(results_table(read_jsonl(folder / "results.jsonl").rows))
        except (UserError, OSError) as error:
            print(f"medvlp report: {error}", file=sys.stderr)
            code = 1
    return code
