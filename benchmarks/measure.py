"""How benchmarks measure: CPU time, interleaved, median of several, and the machine they ran on."""

import argparse
import json
import os
import platform
import resource
from collections.abc import Callable
from pathlib import Path
from statistics import median


def cpu_seconds() -> float:
    """User and system time of this process and of its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def interleaved(
    runs: dict[str, Callable[[], object]], rounds: int, preparation: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Median CPU seconds of each run; the runs take turns, so that a slow spell meets all of them.

    preparation: what precedes every run, uncounted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            preparation()
            start = cpu_seconds()
            run()
            seconds[name].append(cpu_seconds() - start)
    return {name: median(values) for name, values in seconds.items()}


def machine() -> dict[str, object]:
    """What the figures depend on."""
    import torch

    processors = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in processors.splitlines() if line.startswith("model name")]
    model = next(iter(names), platform.processor())
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__}


def report(name: str, rows: list[tuple[str, str]], values: dict[str, object]) -> None:
    """A table for people, and with --json one object as the last line."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    as_json = parser.parse_args().json
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        print(f"{label:<{width}}  {text}")
    computer = machine()
    print(f"on {computer['cpu']}, {computer['cores']} cores, Python {computer['python']}, torch {computer['torch']}")
    if as_json:
        print(json.dumps({"benchmark": name, **values, "machine": computer}))
