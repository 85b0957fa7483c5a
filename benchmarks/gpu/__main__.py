"""One GPU, checked and measured within minutes: python -m benchmarks.gpu [--device cpu] [--output gpu.jsonl] [part ...]

Each part has a limit of its own and runs in a process that is replaced when it hangs or dies, so one failure costs one part.
A row of the output is written as soon as its part has ended. `--device cpu` runs the same lines with tiny sizes.
"""

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import PARTS

START_SECONDS = 90
"""A worker's start, with its imports."""
Command = Callable[[int, list[str]], list[str]]
"""(file descriptor of the pipe, parts) → a worker's command line."""


def rows_of(
    limits: dict[str, float], command: Command, budget: float, start_seconds: float
) -> Iterator[dict[str, Any]]:
    """How each part ended, in order. limits: seconds of each. budget: of all together."""
    pending, end = list(limits), time.monotonic() + budget
    while pending:
        if time.monotonic() > end:
            yield from ({"part": name, "status": "skipped", "reason": "no time left"} for name in pending)
            return
        reader, writer = os.pipe()
        worker = subprocess.Popen(command(writer, pending), pass_fds=[writer])
        os.close(writer)
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=forward, args=(reader, lines), daemon=True).start()
        line, extra_seconds = "\n", start_seconds
        while pending and line:
            limit = max(min(limits[pending[0]] + extra_seconds, end - time.monotonic()), 0.0)
            name, extra_seconds = pending.pop(0), 0.0
            try:
                line = lines.get(timeout=limit)
            except queue.Empty:
                line, reason = "", f"stopped after {limit:.0f} s"
            else:
                reason = "" if line else f"its process ended with {worker.wait()}"
            yield json.loads(line) if line else {"part": name, "status": "failed", "reason": reason}
        if not line:
            worker.kill()
        worker.wait()


def forward(reader: int, lines: "queue.SimpleQueue[str]") -> None:
    """A pipe's lines into a queue, and an empty one at its end."""
    with os.fdopen(reader) as pipe:
        for line in pipe:
            lines.put(line)
    lines.put("")


def text_of(row: dict[str, Any]) -> str:
    """A row for people."""
    names = ("part", "status")
    figures = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.items()
        if name not in names
    ]
    return f"{row['part']:<18}{row['status']:<9}" + ", ".join(figures)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--output", type=Path, default=Path("gpu.jsonl"), help="a row of JSON for each part")
    parser.add_argument("--seconds", type=float, default=330, help="of all parts together")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"some of {', '.join(PARTS)}; default: all")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")

    def command(pipe: int, parts: list[str]) -> list[str]:
        worker = [sys.executable, "-m", "benchmarks.gpu.worker", "--device", args.device, "--pipe", str(pipe)]
        return [*worker, *parts]

    limits = {name: float(PARTS[name].seconds) for name in args.parts or PARTS}
    statuses = []
    with args.output.open("w", encoding="utf-8") as file:
        for row in rows_of(limits, command, args.seconds, START_SECONDS):
            statuses.append(row["status"])
            print(json.dumps(row), file=file, flush=True)
            print(text_of(row), flush=True)
    print(
        f"{statuses.count('done')} done, {statuses.count('skipped')} skipped, {statuses.count('failed')} failed; {args.output}"
    )
    return int("failed" in statuses)


if __name__ == "__main__":
    sys.exit(main())
