"""`medvlp check`: problems of data before any training; exit code 1 where something has to be fixed."""

import sys
from collections.abc import Sequence
from pathlib import Path

from medvlp.claims import refuse_other_kinds
from medvlp.cli import run_verb
from medvlp.config import CheckConfig, compose, compose_stages, require_prepared
from medvlp.errors import UsageError

USAGE = """usage: medvlp check recipes=<a recipe of medvlp train> [key=value ...]
       medvlp check data=<option> [model=<option> objective=<option>] [key=value ...]
       medvlp check data.sources.<name>.path=<folder of a split>
       medvlp check source=<name> input=<folder or file> [flag=... options.<name>=...]

Looks at prepared shards, or at a publisher's files through the reader of a source, before anything is trained: names
every problem with file and key, and how to fix it. Without a model it cannot count tokens. No weights are loaded.

keys: those of `medvlp train`, and
  source, input, flag, options.<name>
                        look at a publisher's files instead of at shards, as `medvlp prep` would read them
  output=<folder>       write every problem to findings.jsonl there; the table shows the first of each kind
  examples=3            samples whose conversations are printed, their supervised tokens in colour

Exit code 0: nothing has to be fixed (warnings may be shown); 1: something has to; 2: usage."""


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp check`; returns the exit code."""
    return run_verb("check", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    return USAGE


def parse(args: list[str]) -> tuple[dict[str, CheckConfig], str]:
    """Stage → configuration ("" without stages), and the folder for the findings.

    Raises:
        UsageError: no arguments.
        ConfigError: an unknown key or a wrong value, or data that is not prepared.
    """
    if not args:
        raise UsageError
    config: CheckConfig = compose("check", args)
    stages = compose_stages("check", config.stages, args) or {"": config}
    for stage in stages.values():
        if not stage.source:
            require_prepared(stage)
    return stages, config.output


def work(settings: tuple[dict[str, CheckConfig], str]) -> int:
    """Check the data of every stage; 1 where something has to be fixed."""
    from medvlp.data.audit.problems import FINDINGS, ProblemCounts, findings_file
    from medvlp.data.audit.terminal import open_console, visible
    from medvlp.environment import set_up_libraries
    from medvlp.verbs.shards.audit import audit_stage

    set_up_libraries()
    stages, output = settings
    if output:
        refuse_other_kinds(Path(output), "check", "output")
    console, errors = open_console(), 0
    with findings_file(output) as write:
        for name, config in stages.items():
            if name:
                console.rule(visible(f"stage {name}"))
            problems = ProblemCounts(write)
            audit_stage(config, problems, console)
            errors += problems.total("error")
    if output:
        console.print(visible(f"every one: {Path(output) / FINDINGS}"))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
