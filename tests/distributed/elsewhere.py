"""One training run whose ranks work in folders of their own: `torchrun ... -m tests.distributed.elsewhere <prefix> <words>`
changes to <prefix><rank> first."""

import os
import sys

from medvlp import process
from medvlp.train import main

if __name__ == "__main__":
    os.chdir(f"{sys.argv[1]}{os.environ['RANK']}")
    sys.exit(process.command("train", lambda: main(sys.argv[2:])))
