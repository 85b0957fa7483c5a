"""One training run whose ranks were not started alike: `torchrun ... -m tests.distributed.differing <words> -- <rank 1's>`."""

import os
import sys

from medvlp import process
from medvlp.train import main

if __name__ == "__main__":
    at = sys.argv.index("--")
    more = sys.argv[at + 1 :] if os.environ["RANK"] == "1" else []
    sys.exit(process.command("train", lambda: main([*sys.argv[1:at], *more])))
