"""How random an epoch is when blocks of samples stay close, and how many shards a reader has in use: counts, not times.

A million samples in shards of a thousand, batches of 4,096. Of two samples of one shard it counts how often they meet in a
batch, and of a batch how many shards it holds; of the order how far a sample comes from where its shard begins, as a share of
what a full shuffle gives. The seconds are those of making one epoch's order.
"""

import time

import numpy as np

from benchmarks.measure import report
from medvlp.data.order import Order, OrderedSource

SAMPLES, SHARD, BATCH = 1_000_000, 1_000, 4_096
CHOICES = {
    "full": (0, 1),
    "1000 x 256": (1_000, 256),
    "1000 x 64": (1_000, 64),
    "100 x 640": (100, 640),
    "1000 x 16": (1_000, 16),
}
"""Block x window; 1000 x 64 and 100 x 640 mix as many samples."""


def measured(block: int, window: int) -> dict[str, float]:
    """What one epoch is like."""
    begin = time.perf_counter()
    numbers = Order([OrderedSource("made", SAMPLES, 1.0, "hash")], 0, block, window).epoch(0)
    seconds = time.perf_counter() - begin
    batches = SAMPLES // BATCH
    shard_BN = (numbers[: batches * BATCH] // SHARD).reshape(batches, BATCH)
    counts_BS = np.stack([np.bincount(row, minlength=SAMPLES // SHARD) for row in shard_BN])
    meetings = (counts_BS * (counts_BS - 1)).sum() / (SAMPLES * (SHARD - 1))
    first, last = (np.full(SAMPLES // SHARD, fill) for fill in (batches, -1))
    for step, row in enumerate(shard_BN):
        first[row], last[row] = np.minimum(first[row], step), step
    in_use = max(int(((first <= step) & (last >= step)).sum()) for step in range(batches))
    return {
        "shards_in_batch": float((counts_BS > 0).sum(1).mean()),
        "meetings": float(meetings),
        "shards_in_use": in_use,
        "seconds": seconds,
    }


def main() -> None:
    """Print the table."""
    values = {name: measured(*choice) for name, choice in CHOICES.items()}
    rows = [
        (
            name,
            f"shards in use at once {value['shards_in_use']:5.0f}   in a batch {value['shards_in_batch']:6.1f}   two of a "
            f"shard in one batch {value['meetings']:7.2%}   order {value['seconds']:.2f} s",
        )
        for name, value in values.items()
    ]
    report("block_shuffle", rows, {name.replace(" ", ""): value for name, value in values.items()})


if __name__ == "__main__":
    main()
