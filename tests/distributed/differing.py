"""One training run whose ranks were not started alike: `torchrun ... -m tests.distributed.differing <words> -- <rank 1's>`."""

import os
import sys


def train(words: list[str]) -> int:
    """`medvlp train` with the words before `--`, and on rank 1 with those after it, too."""
    from medvlp import process
    from medvlp.train import main

    at = words.index("--")
    more = words[at + 1 :] if os.environ["RANK"] == "1" else []
    return process.command("train", lambda: main([*words[:at], *more]))


if __name__ == "__main__":
    sys.exit(train(sys.argv[1:]))
