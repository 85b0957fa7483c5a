"""`medvlp check`: looks at data before any training; exit code 1 where something has to be mended."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from medvlp.config import CheckConfig, ConfigError, compose

USAGE = """usage: medvlp check recipes=<a recipe of medvlp train> [key=value ...]
       medvlp check data=<option> [model=<option> objective=<option>] [key=value ...]
       medvlp check data.sources.<name>.path=<folder of a split>
       medvlp check source=<name> input=<folder or file> [flag=...]

Looks at prepared shards, or at a publisher's files through the reader of a source, before anything is trained: names
every fault with file and key, and how to mend it. Without a model it cannot count tokens. No weights are loaded.

keys: those of `medvlp train`, and
  source, input, flag   look at a publisher's files instead of at shards, as `medvlp prep` would read them
  output=<folder>       write every finding to findings.jsonl there; the table shows the first of each kind
  shown=3               samples whose conversations are shown, their supervised tokens in colour

Exit code 0: nothing has to be mended (warnings may be shown); 1: something has to; 2: usage."""


def main(argv: Sequence[str]) -> int:
    """Entry point; argv without the program's name. Returns the exit code."""
    words = list(argv)
    if not words or "--help" in words or "-h" in words:
        print(USAGE)
        return 0 if words else 2
    try:
        config: CheckConfig = compose("check", words)
    except ConfigError as error:
        print(f"medvlp check: {error}", file=sys.stderr)
        return 1
    raise NotImplementedError(config)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
