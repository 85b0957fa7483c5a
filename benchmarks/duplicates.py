"""Time and memory to join random 64-bit hashes within a Hamming radius of 10, against comparing all with all.

A tenth of the hashes are copies of others with up to 10 bits flipped. All pairs come out (asserted where all with all is
computed, else that every planted one does). Real hashes crowd together: of 800 ROCOv2 figures, pieces of 16 bits met 1.3
to 2 times as often as random ones, and the join takes as much longer. It does not show the confirmation by thumbnails,
about 0.5 ms a candidate pair; ROCOv2 gave 7 candidates in 320,000 pairs of figures.
"""

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import report
from data_prep.dedup.hamming import within

SIZES, RADIUS, BRUTE_QUERIES = (10_000, 100_000, 1_000_000), 10, 2_000


def planted(size: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The hashes, of which the last tenth are near to those that the second array names."""
    generator = np.random.default_rng(0)
    hashes_N = generator.integers(0, 2**64, size, dtype=np.uint64)
    copies = size // 10
    of_whom = generator.integers(0, size - copies, copies)
    bits = 1 << generator.integers(0, 64, (copies, RADIUS), dtype=np.uint64)
    hashes_N[-copies:] = hashes_N[of_whom] ^ np.bitwise_xor.reduce(bits, axis=1)
    return hashes_N, of_whom


def join(size: int) -> tuple[float, float, int]:
    """(CPU seconds, MB that the peak rose, pairs of two) of a join of the hashes with themselves."""
    hashes_N, of_whom = planted(size)
    list(within(hashes_N[:100], hashes_N[:1000], RADIUS))
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    peak_before, started = resident_peak(), time.process_time()
    pair_blocks = [
        np.stack([first, second])[:, first < second] for first, second, _ in within(hashes_N, hashes_N, RADIUS)
    ]
    seconds, risen = time.process_time() - started, resident_peak() - peak_before
    pairs = np.concatenate(pair_blocks, 1)
    names = np.sort(pairs[0] * size + pairs[1])
    expected = of_whom * size + np.arange(size - len(of_whom), size)
    assert np.isin(expected, names).all(), "a planted pair was not found"
    first, second = np.nonzero(np.bitwise_count(hashes_N[:BRUTE_QUERIES, None] ^ hashes_N[:20_000]) <= RADIUS)
    small = (first < second) & (second < size)
    probe_names = names[(names // size < BRUTE_QUERIES) & (names % size < 20_000)]
    assert np.array_equal(probe_names, np.sort(first[small] * size + second[small])), "pairs differ from all with all"
    return seconds, risen / 1e6, pairs.shape[1]


def brute_seconds(size: int) -> float:
    """CPU seconds of all with all, from the first queries."""
    hashes_N, _ = planted(size)
    queries = min(size, BRUTE_QUERIES)
    started = time.process_time()
    for query in hashes_N[:queries]:
        np.flatnonzero(np.bitwise_count(hashes_N ^ query) <= RADIUS)
    return (time.process_time() - started) * size / queries


def resident_peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> int:
    rows, values = [], {}
    for size in SIZES:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
            seconds, megabytes, pairs = fresh.submit(join, size).result()
        brute = brute_seconds(size)
        values[f"{size}"] = {"seconds": seconds, "mb": megabytes, "pairs": pairs, "ratio": brute / seconds}
        text = (
            f"{seconds:8.2f} s, {megabytes:4.0f} MB, {pairs} pairs; all with all {brute:8.2f} s: {brute / seconds:.1f}×"
        )
        rows.append((f"{size:,} hashes", text))
    report("duplicates", rows, values)
    return 0


if __name__ == "__main__":
    sys.exit(main())
