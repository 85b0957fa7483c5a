"""`medvlp prep`: a publisher's files → shards, manifest, ledger and report."""

from __future__ import annotations

import sys
import traceback

from data_prep.errors import PrepError
from data_prep.ledger.summary import empty_splits, summary
from data_prep.pipeline import UnitsFailed, run_preparation
from data_prep.sources import descriptions, source_help
from medvlp import process
from medvlp.errors import UserError

INTRODUCTION = """Turns a publisher's files into shards: <output>/<split>/ with a manifest each; above them ledger.json,
dropped.jsonl, copies.jsonl, leakage.jsonl, conflicts.jsonl, README.md, croissant.json, ATTRIBUTION.md, SHA256SUMS, run.json and
report.html. The same command goes on where a killed one stopped. `medvlp prep source=<name> --help` explains a source and its
options."""


def main(argv: list[str]) -> int:
    """Entry point; argv without the program's name. Returns the exit code: 0, 1 (input), 2 (usage), 70 (our fault)."""
    if any(argument in ("-h", "--help") for argument in argv):
        named = [argument.removeprefix("source=") for argument in argv if argument.startswith("source=")]
        print(source_help(named[0]) if named and named[0] in descriptions() else usage())
        return 0
    wrong = [argument for argument in argv if "=" not in argument]
    if not argv or wrong:
        print(f"medvlp prep takes key=value, not {wrong[0]!r}\n" if wrong else "", usage(), sep="", file=sys.stderr)
        return 2
    from medvlp.config import compose
    from medvlp.report import write_prep_report

    try:
        config = compose("prep", argv)
        result = run_preparation(config, argv)
        if result.ledger is None:
            print(result.message)
            return 0
        empty = empty_splits(result.output, result.ledger)
        if not result.ledger["out"]:
            raise PrepError(empty)
        write_prep_report(result.output)
    except (UserError, OSError) as error:
        print(f"medvlp prep: {error}", file=sys.stderr)
        return 1
    except UnitsFailed as error:
        print(f"medvlp prep: {error}", file=sys.stderr)
        return 70
    except Exception:
        traceback.print_exc()
        return 70
    print(summary(result.output, result.ledger, result.was_done))
    if empty:
        print(f"medvlp prep: {empty}", file=sys.stderr)
    return 1 if empty else 0


def usage() -> str:
    """Sources and keys."""
    from medvlp.verbs.list import verb_help

    head, _, keys = verb_help("prep").partition("\n")
    sources = "\n".join(f"  {name:<12} {line}" for name, line in descriptions().items())
    return f"{head}\n\n{INTRODUCTION}\n\nsources:\n{sources}\n{keys}"


if __name__ == "__main__":
    sys.exit(process.command("prep", lambda: main(sys.argv[1:])))
