"""CPU time of a sweep, 6 models × 4 tasks over the same 2,000 images, against clip_benchmark: cold, and with one new task.

Images: all 800 figures of ROCOv2's and the 315 images of VQA-RAD, and PneumoniaMNIST's first ones up to 2,000. Models: that of
the recipe clip_rocov2 (EfficientNet-Lite0 and all-MiniLM-L6-v2 with their weights, from the extra `offline`), each with linear
heads of its own, as folders that both open. Tasks: zero-shot over labels that the images themselves decide.

The peer's best call: all models and tasks at once, in fp32, without workers, in batches of four, its fastest on a
CPU, and --skip_existing for the second run. Both give the same accuracies (asserted: of an image whose two best classes are
nearer than float32 tells apart, either may win). CPU time of whole processes, started anew, one thread each. medvlp also
computes 10,000 bootstrap resamples for each metric, paired comparisons and a report, of which the peer has nothing.

medvlp sets glibc's allocator so that freed memory is kept (medvlp/environment.py), which makes PyTorch's CPU time lower. What
that setting would save the peer is stated: the time in which open_clip encodes an image, as it comes and with the setting.

    pip install --no-deps --target <folder> pycocoevalcap pycocotools      (clip_benchmark imports it, and uses it not here)
    MEDVLP_PYCOCOEVALCAP=<folder> MEDVLP_TEST_DATA=<public data> python -m benchmarks.sweep
"""

import itertools
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import sweep_work as work
from benchmarks.measure import cpu_seconds, interleaved, report

MODELS, IMAGES = 6, 2000
ROUNDS = int(os.environ.get("MEDVLP_BENCHMARK_ROUNDS", "3"))
PEER = "clip_benchmark"


def main() -> int:
    peer = os.environ.get("MEDVLP_PYCOCOEVALCAP", "")
    data = Path(os.environ.get("MEDVLP_TEST_DATA", "shared/data"))
    if not peer or not data.is_dir():
        print("set MEDVLP_PYCOCOEVALCAP and MEDVLP_TEST_DATA (see the module's docstring)", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = work.samples_of(data, IMAGES)
        work.write_shards(folder / "shards", samples)
        for task in (*work.TASKS, work.NEW_TASK):
            work.write_task(folder, task, folder / "shards")
            work.write_tars(folder / "tars", task, samples)
        models = work.write_models(folder / "models", MODELS)
        rows, values = measure(folder, models, peer)
        decoding, encoding = shares(folder, models[0])
        milliseconds = {
            "decode": 1000 * decoding,
            "encode": 1000 * encoding,
            "open_clip_encode": work.encoding_of_open_clip(models[0], keeps_memory=False),
            "open_clip_encode_memory_kept": work.encoding_of_open_clip(models[0], keeps_memory=True),
        }
    rows = [("images", str(len(samples))), *rows]
    rows += [(f"{name.replace('_', ' ')}, an image", f"{value:7.1f} ms") for name, value in milliseconds.items()]
    report("sweep", rows, {**values, "milliseconds": {name: round(value, 2) for name, value in milliseconds.items()}})
    return 0


def measure(folder: Path, models: list[Path], peer: str) -> tuple[list[tuple[str, str]], dict[str, object]]:
    """Cold and warm runs of all, in turns, after their values were compared."""
    numbers = itertools.count()
    all_tasks = [*work.TASKS, work.NEW_TASK]

    def cold_medvlp() -> None:
        for path in (folder / "results", folder / "cache"):
            shutil.rmtree(path, ignore_errors=True)
        work.medvlp(folder, models, work.TASKS, folder / "cache")
        shutil.copytree(folder / "results", folder / "results_cold", dirs_exist_ok=True)

    def warm_medvlp() -> None:
        work.medvlp(folder, models, all_tasks, folder / "cache")

    def cold_peer() -> None:
        output = folder / f"peer{next(numbers)}"
        work.clip_benchmark(folder, models, work.TASKS, output, peer)
        (folder / "peer").unlink(missing_ok=True)
        (folder / "peer").symlink_to(output)

    def warm_peer() -> None:
        work.clip_benchmark(folder, models, all_tasks, (folder / "peer").resolve(), peer)

    runs = {
        "medvlp, cold": cold_medvlp,
        "medvlp, one new task": warm_medvlp,
        f"{PEER}, cold": cold_peer,
        f"{PEER}, one new task": warm_peer,
    }
    seconds = interleaved(runs, ROUNDS)
    item_count = compare(folder)
    rows = [(name, f"{value:7.1f} CPU-s") for name, value in seconds.items()]
    values: dict[str, object] = {"cpu_seconds": {name: round(value, 2) for name, value in seconds.items()}}
    for key, part in (("ratio_cold", "cold"), ("ratio_warm_new_task", "one new task")):
        values[key] = round(seconds[f"{PEER}, {part}"] / seconds[f"medvlp, {part}"], 2)
        rows.append((f"{part}: {PEER} / medvlp", f"{values[key]:.2f}×"))
    return rows, {**values, "models": MODELS, "images": IMAGES, "rounds": ROUNDS, "items_that_differ": item_count}


def compare(folder: Path) -> int:
    """Assert that all accuracies are the same; returns how many items, of all cells together, round the other way."""
    scores, peer_scores = work.scores_of_medvlp(folder), work.scores_of_clip_benchmark(folder / "peer")
    cells = {(model, task) for model, task, metric in peer_scores if metric == "acc1"}
    assert len(cells) == MODELS * (len(work.TASKS) + 1), sorted(cells)
    items = 0
    for model, task in cells:
        difference = abs(scores[model, task, "acc1"] - peer_scores[model, task, "acc1"]) * IMAGES
        assert difference < 2.5, f"{model}, {task}: accuracies differ by {difference} items"
        items += round(difference)
    return items


def shares(folder: Path, model: Path) -> tuple[float, float]:
    """CPU seconds to decode and transform an image, and to encode it."""
    import torch

    from medvlp.builders.models import open_model
    from medvlp.config import EvalConfig
    from medvlp.config.model_names import parse_model_name
    from medvlp.data.images.decode import decode_image
    from medvlp.environment import set_up_libraries
    from medvlp.shards import ShardDataset

    set_up_libraries()
    config = EvalConfig(checkpoints=[], tasks=[])
    config.cache.max_gb = 0
    encoder: Any = open_model(parse_model_name(f"open_clip:{model}"), "cpu", config).encoder
    dataset = ShardDataset(folder / "shards" / "test")
    rows = range(0, len(dataset), max(len(dataset) // 256, 1))
    start = cpu_seconds()
    pixels = [encoder.transform(decode_image(*dataset.read(row).images.values(), 10**8)) for row in rows]
    decoded = cpu_seconds()
    for first in range(0, len(pixels), 64):
        encoder.encode_image(torch.stack(pixels[first : first + 64]))
    return (decoded - start) / len(pixels), (cpu_seconds() - decoded) / len(pixels)


if __name__ == "__main__":
    sys.exit(main())
