"""`medvlp eval`, and `torchrun -m medvlp.evaluate` on several ranks: models × tasks → results.jsonl, records and a report."""

import sys
from collections.abc import Sequence
from pathlib import Path

from medvlp.cli import run_verb
from medvlp.config import EvalConfig, compose, value_of, verb_help

DRY_RUN = "--dry-run"

Parsed = tuple[EvalConfig, Path, list[str]]


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp eval`; returns the exit code."""
    return run_verb("eval", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    return verb_help("eval")


def parse(args: list[str]) -> Parsed:
    """The configuration, the folder of the results, and the arguments as `key=value`. Raises ConfigError."""
    overrides = ["dry_run=true" if arg == DRY_RUN else arg for arg in args]
    config: EvalConfig = compose("eval", overrides)
    return config, Path(config.output or f"runs/eval/{value_of(overrides, 'recipes') or 'eval'}"), overrides


def work(parsed: Parsed) -> int:
    """Measure every model on every task that fits it.

    Raises:
        ConfigError and others: models, tasks or data that cannot be evaluated.
    """
    from medvlp.sweep.run import run_sweep

    return run_sweep(*parsed)


if __name__ == "__main__":
    sys.exit(main())
