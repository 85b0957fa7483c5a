"""Seconds and bytes on a device."""

import time
from collections.abc import Callable
from statistics import median

import torch


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], object], device: torch.device, rounds: int, warm: int = 3) -> float:
    """Median wall-clock seconds of a run, after some that do not count."""
    for _ in range(warm):
        run()
    seconds = []
    for _ in range(rounds):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def peak_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """The most bytes that torch's allocator held during a run, all that was there before included; None on a CPU."""
    if device.type != "cuda":
        run()
        return None
    wait(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    wait(device)
    return torch.cuda.max_memory_allocated(device)
