"""`medvlp prep`: a publisher's files → shards, manifest, ledger and report."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from data_prep.errors import PrepError
from data_prep.ledger.summary import empty_splits, summary
from data_prep.pipeline import run_preparation
from data_prep.source import Origin
from data_prep.sources import descriptions, source_class, source_help
from medvlp.cli import run_verb
from medvlp.config import PrepConfig, compose, value_of, verb_help
from medvlp.errors import UsageError
from medvlp.process import tell

INTRODUCTION = """Turns a publisher's files into shards: <output>/<split>/ with a manifest each; above them ledger.json,
dropped.jsonl, copies.jsonl, leakage.jsonl, conflicts.jsonl, README.md, croissant.json, ATTRIBUTION.md, SHA256SUMS, run.json and
report.html. The same command goes on where a killed one stopped. `medvlp prep source=<name> --help` explains a source and its
options."""


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp prep`; returns the exit code."""
    return run_verb("prep", argv)


def usage(args: Sequence[str] = ()) -> str:
    """What `--help` prints: sources and keys, or one source and its options, where it is named."""
    source = value_of(args, "source")
    if source in descriptions():
        return source_help(source)
    head, _, keys = verb_help("prep").partition("\n")
    sources = "\n".join(f"  {name:<12} {line}" for name, line in descriptions().items())
    return f"{head}\n\n{INTRODUCTION}\n\nsources:\n{sources}\n{keys}"


def parse(args: list[str]) -> tuple[PrepConfig, list[str]]:
    """The configuration, and the arguments that it is made of.

    Raises:
        UsageError: no arguments, or one that is not key=value.
        ConfigError: an unknown key or a wrong value.
    """
    malformed = [arg for arg in args if "=" not in arg]
    if malformed or not args:
        raise UsageError((f"medvlp prep takes key=value, not {malformed[0]!r}\n" if malformed else "") + usage())
    return compose("prep", args), args


def work(settings: tuple[PrepConfig, list[str]]) -> int:
    """Prepare one source, and say what came of it; 1 where a split is empty."""
    from medvlp.report import write_prep_report  # matplotlib takes its time

    config, args = settings
    result = run_preparation(config, args)
    if result.ledger is None:
        print(result.message)
        return 0
    empty = empty_splits(result.output, result.ledger)
    if not result.ledger["out"]:
        raise PrepError(empty)
    write_prep_report(result.output)
    print(summary(result.output, result.ledger, result.was_done))
    return tell("prep", PrepError(empty)) if empty else 0


def origin_of(args: Sequence[str]) -> Origin:
    """From where the files come that arguments of `medvlp prep` prepare, for messages about data that are not here.

    Raises:
        PrepError: arguments that name no source, or options that name nothing.
    """
    options = {
        key: value_of(args, key) for argument in args if (key := argument.partition("=")[0]).startswith("options.")
    }
    values = {key.removeprefix("options."): value for key, value in options.items()}
    return source_class(value_of(args, "source") or "").origin(values)


if __name__ == "__main__":
    sys.exit(main())
