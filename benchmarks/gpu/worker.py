"""Runs parts one after the other and says how each ended, as JSON lines on a pipe; `benchmarks.gpu` starts it.

A device that reports a fault of its own is of no use to this process any more: it ends, and another takes the next part.
"""

import argparse
import json
import os
import time
import traceback
import warnings
from typing import Any

import torch

from benchmarks.gpu.parts import PARTS, Missing, function_of
from benchmarks.gpu.scale import FULL, TINY

DEVICE_FAULT = 9
"""Exit code."""


def outcome_of(name: str, device: torch.device) -> dict[str, Any]:
    """One part's figures, or why there are none."""
    start = time.perf_counter()
    try:
        torch.manual_seed(0)
        figures = function_of(name)(FULL if device.type == "cuda" else TINY, device)
        row: dict[str, Any] = {"part": name, "status": "done", **figures}
    except Missing as error:
        row = {"part": name, "status": "skipped", "reason": str(error)}
    except Exception as error:  # the next part is to run whatever happened to this one
        frame = traceback.extract_tb(error.__traceback__)[-1]
        row = {"part": name, "status": "failed", "reason": f"{type(error).__name__}: {error!s:.600}"}
        row["line"] = f"{frame.filename}:{frame.lineno}"
    return {**row, "seconds": round(time.perf_counter() - start, 1)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", required=True)
    parser.add_argument("--pipe", type=int, required=True)
    parser.add_argument("parts", nargs="+", choices=list(PARTS))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    device = torch.device(args.device)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
    with os.fdopen(args.pipe, "w") as pipe:
        for name in args.parts:
            row = outcome_of(name, device)
            print(json.dumps(row), file=pipe, flush=True)
            if device.type == "cuda":
                if "CUDA error" in row.get("reason", ""):
                    os._exit(DEVICE_FAULT)
                torch.cuda.empty_cache()
            torch.compiler.reset()


if __name__ == "__main__":
    main()
