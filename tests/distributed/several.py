"""Several training runs one after the other in the same processes, since starting ranks takes longer than a tiny run.

`torchrun ... -m tests.distributed.several <file>`: a JSON list of lists of `medvlp train`'s words. Ends at the first run
that does not exit with 0, with its code.
"""

import json
import sys
from pathlib import Path

from medvlp.train import main

if __name__ == "__main__":
    for words in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        code = main(words)
        if code:
            sys.exit(code)
