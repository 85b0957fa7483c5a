"""Start-up and memory at many samples: seconds and bytes a row for opening, filtering and ordering, without any image.

Tables, manifest and a score table of ROWS samples in shards of ten thousand are generated; tars are not, and nothing here
reads a sample. Each step runs in a process of its own, whose seconds are of its CPU and whose bytes are what its peak lies
above what it began with. Before, what is filtered is compared with a loop in numpy.

`ROWS=1000000 python -m benchmarks.rows` for fewer.
"""

import hashlib
import multiprocessing
import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import cpu_seconds, report
from medvlp.combinations import ItemFilter
from medvlp.data.order import Order, OrderedSource
from medvlp.data.plan import RankSchedule, SamplePlan
from medvlp.data.views.filtered import open_split
from medvlp.selection import Conditions
from medvlp.shards import Manifest, ShardDataset, hash_config, write_manifest
from medvlp.shards.storage import keys
from medvlp.shards.writer import FileMark, mark_file, table_schema

ROWS, SHARD, BATCH = int(os.environ.get("ROWS", "10000000")), 10_000, 32_768
CONDITIONS = ("shorter_side >= 224", "modality in (CT, MR)", "licence != unknown", "top 50% by similarity")
READS = 100_000
"""Keys that a worker looks up."""


def generate(folder: Path) -> None:
    """samples.parquet, scores/made.parquet and manifest.json of ROWS samples, a row group a shard."""
    folder.mkdir(parents=True)
    (folder / "scores").mkdir()
    rng = np.random.default_rng(0)
    modalities, licences = np.array(["CT", "MR", "X-ray", "unknown"]), np.array(["CC0-1.0", "CC-BY-4.0", "unknown"])
    hashes = [rng.bytes(40).hex() for _ in range(SHARD)]  # the same in every shard: nothing here reads them
    scores = pa.schema([("key", pa.string()), ("similarity", pa.float32())])
    with (
        pq.ParquetWriter(folder / "samples.parquet", table_schema(), compression="zstd") as table,
        pq.ParquetWriter(folder / "scores/made.parquet", scores, compression="zstd") as score_table,
    ):
        for start in range(0, ROWS, SHARD):
            size = min(SHARD, ROWS - start)
            names = [f"made__PMC{number // 4:08d}__f{number % 4}__0" for number in range(start, start + size)]
            columns = {
                "key": names,
                "shard": [f"{start // SHARD:06d}.tar"] * size,
                "split": ["train"] * size,
                "group": [name[6:17] for name in names],
                "licence": licences[rng.integers(0, 3, size)],
                "width": rng.integers(100, 2000, size),
                "height": rng.integers(100, 2000, size),
                "caption_length": rng.integers(0, 900, size),
                "sha256": [text[:64] for text in hashes[:size]],
                "perceptual_hash": [text[64:] for text in hashes[:size]],
                "modality": modalities[rng.integers(0, 4, size)],
            }
            table.write_table(pa.table(columns, table_schema()), row_group_size=size)
            similarity = rng.random(size, np.float32)
            score_table.write_table(pa.table({"key": names, "similarity": similarity}, scores), row_group_size=size)
    counts = {f"{start // SHARD:06d}.tar": min(SHARD, ROWS - start) for start in range(0, ROWS, SHARD)}
    mark = FileMark(hashlib.sha256(b"").hexdigest(), 0)  # of tars and indices that nobody opens
    files = {name: mark for tar in counts for name in (tar, f"{tar[:-4]}.idx")}
    files["samples.parquet"] = mark_file(folder / "samples.parquet")
    stages = [{"source": "generated"}]
    write_manifest(folder, Manifest("train", files, counts, ROWS, stages, hash_config(stages), {}))


def private_bytes() -> int:
    """Of this process: memory that it shares with no other."""
    rows = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(row.split()[1]) * 1024 for row in rows if row.startswith(("Private_Clean", "Private_Dirty")))


def measured(step: Callable[[], object]) -> dict[str, float]:
    """CPU seconds of a step, and bytes of its peak above the beginning, in a process of its own."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        memory, start = resident("VmRSS"), cpu_seconds()
        step()
        sender.send((cpu_seconds() - start, resident("VmHWM") - memory))

    process = context.Process(target=run)
    process.start()
    sender.close()
    seconds, peak = receiver.recv()
    process.join()
    return {"seconds": seconds, "us_a_row": seconds / ROWS * 1e6, "bytes_a_row": peak / ROWS}


def resident(name: str) -> int:
    """Bytes in memory: VmRSS, or VmHWM for the most there ever were."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) * 1024 for row in rows if row.startswith(f"{name}:"))


def look_up(folder: Path, is_mapped: bool) -> int:
    """Keys at random, as a loader worker needs them; returns the memory that the process has for itself afterwards."""
    import medvlp.shards.reader as reader

    reader.LARGE = keys.LARGE if is_mapped else 2**62
    dataset = ShardDataset(folder)
    start = private_bytes()
    for row in np.random.default_rng(1).integers(0, ROWS, READS).tolist():
        dataset.key(row)
    pa.default_memory_pool().release_unused()
    return private_bytes() - start


def worker_bytes(folder: Path, is_mapped: bool) -> float:
    """Bytes a row that a worker process holds for itself."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        sizes = pool.starmap(look_up, [(folder, is_mapped)] * 2)
    return max(sizes) / ROWS


def check(folder: Path) -> int:
    """The rows that the conditions select are those of numpy; returns their number."""
    names = ["width", "height", "modality", "licence"]
    table = pq.read_table(folder / "samples.parquet", columns=names, read_dictionary=["modality", "licence"])
    similarity = pq.read_table(folder / "scores/made.parquet", columns=["similarity"])["similarity"].to_numpy()
    width, height = (table[name].to_numpy() for name in names[:2])
    modality, licence = (np.asarray(table[name].to_pandas()) for name in names[2:])
    is_best = np.zeros(ROWS, bool)
    is_best[np.argsort(-similarity.astype(np.float64), kind="stable")[: ROWS // 2]] = True
    expected = (np.minimum(width, height) >= 224) & np.isin(modality, ["CT", "MR"]) & (licence != "unknown") & is_best
    dataset = opened(folder)
    assert np.array_equal(dataset.rows, np.flatnonzero(expected))
    return len(dataset)


def opened(folder: Path) -> ShardDataset:
    """The split by its conditions."""
    return open_split(folder, ItemFilter(), "made", conditions=Conditions(CONDITIONS))


def epoch_of(order: Order) -> None:
    """An epoch's order, and the requests of its first step on one of eight ranks."""
    schedule = RankSchedule(SamplePlan(order), BATCH, 1, 3, 8)
    assert len(next(schedule.requests(0, 1))) == BATCH // 8


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MEDVLP_CACHE"] = f"{scratch}/cache"
        folder = Path(scratch) / "train"
        generate(folder)
        size = sum(file.stat().st_size for file in (folder / "samples.parquet", folder / "manifest.json"))
        order = Order([OrderedSource("made", ROWS, 1.0, "hash")], 0)
        blocks = Order([OrderedSource("made", ROWS, 1.0, "hash")], 0, 1_000, 64)
        steps = {
            "open the split": lambda: ShardDataset(folder),
            "first key (once a machine: writes the mapped keys)": lambda: ShardDataset(folder).key(ROWS - 1),
            "first key (after that)": lambda: ShardDataset(folder).key(ROWS - 1),
            f"filter by {len(CONDITIONS)} conditions": lambda: opened(folder),
            "order an epoch": lambda: epoch_of(order),
            "order an epoch by blocks": lambda: epoch_of(blocks),
        }
        values = {name: measured(step) for name, step in steps.items()}
        workers = {name: worker_bytes(folder, name == "mapped") for name in ("in memory", "mapped")}
        selected = check(folder)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    rows = [
        (
            name,
            f"{v['seconds']:7.2f} s   {v['us_a_row']:7.4f} us a row   {v['bytes_a_row']:7.1f} bytes a row at the peak",
        )
        for name, v in values.items()
    ]
    rows += [(f"a worker's keys, {name}", f"{value:7.1f} bytes a row of its own") for name, value in workers.items()]
    rows.append(("samples", f"{ROWS}, {selected} selected; table and manifest {size / ROWS:.0f} bytes a row"))
    rows.append(("largest process", f"{peak / 2**20:.0f} MiB"))
    report("rows", rows, {"rows": ROWS, "steps": values, "worker_bytes_a_row": workers, "selected": selected})


if __name__ == "__main__":
    main()
