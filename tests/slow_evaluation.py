"""A training run whose evaluation never ends: `python -m tests.slow_evaluation <folder> <words>`. It says so by a file."""

import os
import sys
import time
from pathlib import Path

from medvlp import process
from medvlp.eval.retrieval.image_text import Retrieval
from medvlp.train import main


def never(*args: object) -> None:
    """In place of a task's run."""
    Path("runs/evaluating/evaluating").touch()
    time.sleep(1000)


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    Retrieval.run = never
    sys.exit(process.command("train", lambda: main(sys.argv[2:])))
