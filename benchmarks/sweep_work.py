"""The work of the benchmark of sweeps: real images as shards and as the peer's tars, models, and who evaluates them."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medvlp.models.weights import weights_hash
from medvlp.shards import Manifest, Sample, ShardWriter, hash_config, write_manifest
from medvlp.shards.writer import mark_file, rows_table, write_tables

ROCO, VQA_RAD, PNEUMONIA = "rocov2", "vqa_rad", "pneumoniamnist"
TEMPLATES = (
    "{c}",
    "an image of {c}",
    "a picture that shows {c}",
    "a medical image: {c}",
    "this is {c}",
    "a scan of {c}",
    "{c} in radiology",
)
COLLECTIONS = {
    ROCO: "a figure of an article",
    VQA_RAD: "an image with questions about it",
    PNEUMONIA: "a small chest X-ray",
}
SHAPES = {"wide": "an image that is wider than high", "high": "an image that is higher than wide", "square": "a square"}
COLOURS = {"grey": "a grey image", "colour": "an image with colours"}
SIZES = {"small": "an image of few pixels", "large": "an image of many pixels"}


@dataclass(frozen=True)
class BenchmarkTask:
    """A zero-shot task. classes: label value → name in the templates."""

    name: str
    label: str
    classes: dict[str, str]
    templates: Sequence[str]


TASKS = [
    BenchmarkTask("collection", "collection", COLLECTIONS, TEMPLATES[:1]),
    BenchmarkTask("collection_ensemble", "collection", COLLECTIONS, TEMPLATES),
    BenchmarkTask("shape", "shape", SHAPES, TEMPLATES),
    BenchmarkTask("colour", "colour", COLOURS, TEMPLATES),
]
NEW_TASK = BenchmarkTask("size", "size", SIZES, TEMPLATES)


def real_images(data: Path, count: int) -> Iterator[tuple[str, str, bytes]]:
    """(collection, member's name, encoded image): all of ROCOv2 and of VQA-RAD, then PneumoniaMNIST's until there are enough."""
    import numpy as np
    from PIL import Image

    files = [(ROCO, path) for path in sorted((data / ROCO).glob("*/*.jpg"))]
    files += [(VQA_RAD, path) for path in sorted((data / VQA_RAD / "images").glob("*.jpg"))]
    for collection, path in files[:count]:
        yield collection, "jpg", path.read_bytes()
    (archive,) = (data / "medmnist").glob("pneumoniamnist*.npz")
    for pixels in np.load(archive)["train_images"][: max(count - len(files), 0)]:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "png")
        yield PNEUMONIA, "png", buffer.getvalue()


def samples_of(data: Path, count: int) -> list[Sample]:
    """Samples with labels that the images themselves decide."""
    from PIL import Image

    samples = []
    for number, (collection, member, content) in enumerate(real_images(data, count)):
        image = Image.open(io.BytesIO(content))
        width, height = image.size
        labels = {
            "collection": collection,
            "shape": "square" if width == height else "wide" if width > height else "high",
            "colour": "grey" if image.mode == "L" else "colour",
            "size": "small" if width * height < 100_000 else "large",
        }
        samples.append(Sample(f"image{number:05d}", {member: content}, {}, labels, [], {"source": collection}))
    return samples


def write_shards(folder: Path, samples: Sequence[Sample]) -> None:
    """One split, `test`."""
    split = folder / "test"
    split.mkdir(parents=True)
    with ShardWriter(split / "000000", "test") as writer:
        for sample in samples:
            writer.write(sample)
    write_tables(split / "samples.parquet", [rows_table(writer.rows)])
    files = writer.files | {"samples.parquet": mark_file(split / "samples.parquet")}
    stages = [{"source": "benchmark"}]
    shards = {"000000.tar": len(samples)}
    write_manifest(split, Manifest("test", files, shards, len(samples), stages, hash_config(stages), {}))


def write_task(folder: Path, task: BenchmarkTask, shards: Path) -> None:
    """The task as medvlp reads it."""
    (folder / "configs" / "task").mkdir(parents=True, exist_ok=True)
    content = {
        "name": task.name,
        "kind": "zero_shot",
        "data": str(shards),
        "split": "test",
        "label": task.label,
        "classes": {value: [name] for value, name in task.classes.items()},
        "templates": [template.replace("{c}", "{}") for template in task.templates],
    }
    (folder / "configs" / "task" / f"{task.name}.yaml").write_text(json.dumps(content))


def write_tars(folder: Path, task: BenchmarkTask, samples: Sequence[Sample]) -> None:
    """The task as clip_benchmark reads it: its webdataset layout."""
    split = folder / task.name / "test"
    split.mkdir(parents=True)
    (split / "nshards.txt").write_text("1")
    (folder / task.name / "classnames.txt").write_text("\n".join(task.classes.values()))
    (folder / task.name / "zeroshot_classification_templates.txt").write_text("\n".join(task.templates))
    order = list(task.classes)
    with tarfile.open(split / "0.tar", "w") as tar:
        for sample in samples:
            ((member, content),) = sample.images.items()
            target = str(order.index(str(sample.labels[task.label]))).encode()
            for name, data in ((member, content), ("cls", target)):
                entry = tarfile.TarInfo(f"{sample.key}.{name}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


def write_models(folder: Path, count: int) -> list[Path]:
    """Folders that open_clip opens: the model of the recipe clip_rocov2, each with linear heads of its own."""
    import torch

    from medvlp.builders.clip import build_clip
    from medvlp.config import ClipConfig, compose
    from medvlp.export.open_clip import write_folder

    paths = [folder / f"step{number}" for number in range(count)]
    for number, path in enumerate(paths):
        path.mkdir(parents=True)
        torch.manual_seed(number)
        config = compose("train", ["recipes=clip_rocov2"]).model
        assert isinstance(config, ClipConfig)
        clip = build_clip(config)
        write_folder(clip, path, weights_hash(clip.model.state_dict()))
    return paths


ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_TOP_PAD_": str(2**26)}
"""As environment.py sets glibc's allocator for medvlp, in the words of its environment."""


def medvlp(folder: Path, models: Sequence[Path], tasks: Sequence[BenchmarkTask], cache: Path, *args: str) -> None:
    """One `medvlp eval` of all models and tasks, in a process of its own."""
    names = ",".join(f"open_clip:{path}" for path in models)
    command = [sys.executable, "-m", "medvlp.cli", "eval", f"checkpoints=[{names}]", "workers=0", "batch_size=16"]
    command += [f"tasks=[{','.join(task.name for task in tasks)}]", f"cache.models_at_once={len(models)}"]
    run([*command, f"output={folder / 'results'}", f"cache.dir={cache}", *args], folder, {})


CLIP_BENCHMARK = """
from clip_benchmark.metrics import zeroshot_classification
from clip_benchmark.cli import main
def accuracy(output, target, topk=(1,)):
    correct = output.topk(max(topk), 1)[1].eq(target[:, None])
    return [float(correct[:, :k].sum()) / len(target) for k in topk]
zeroshot_classification.accuracy = accuracy
main()
"""
"""Its command, with its accuracy written so that NumPy of today takes it: it makes a number of an array of one element."""


def clip_benchmark(
    folder: Path, models: Sequence[Path], tasks: Sequence[BenchmarkTask], output: Path, peer: str
) -> None:
    """One call of clip_benchmark for all models and tasks, in a process of its own; what is in `output` is skipped.

    peer: folder of pycocoevalcap, which it imports.
    """
    output.mkdir(exist_ok=True)
    command = [sys.executable, "-c", CLIP_BENCHMARK, "eval", "--no_amp", "--quiet"]
    command += ["--skip_existing", "--num_workers", "0", "--batch_size", "4", "--dataset_root", "{dataset}"]
    command += ["--output", f"{output}/{{model}}--{{dataset}}.json".replace("{model}", "{pretrained}")]
    command += ["--pretrained_model", *[f"local-dir:{path},{path.name}" for path in models]]
    command += ["--dataset", *[f"wds/{folder / 'tars' / task.name}" for task in tasks]]
    python_path = os.pathsep.join([peer, os.environ.get("PYTHONPATH", "")])
    # open_clip looks a text tower up from the working folder, by the name of the model's own folder
    run(command, models[0].parent, {"PYTHONPATH": python_path})


ENCODING = """
import sys, time
import open_clip, torch
torch.set_num_threads(1)
model, _, _ = open_clip.create_model_and_transforms("local-dir:" + sys.argv[1])
model.eval()
pixels = torch.randn(4, 3, 224, 224)
with torch.no_grad():
    for _ in range(8):
        model.encode_image(pixels)
    start = time.process_time()
    for _ in range(64):
        model.encode_image(pixels)
print(1000 * (time.process_time() - start) / 256)
"""


def encoding_of_open_clip(model: Path, keeps_memory: bool) -> float:
    """CPU milliseconds in which open_clip encodes an image, in batches of four as the peer has them."""
    command = [sys.executable, "-c", ENCODING, str(model)]
    return float(run(command, model.parent, ALLOCATOR if keeps_memory else {}).split()[-1])


def run(command: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    """What a command prints; it has to end well."""
    environment = {**os.environ, **environment}
    outcome = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if outcome.returncode:
        raise RuntimeError(f"{' '.join(command)[:300]} ended with {outcome.returncode}:\n{outcome.stderr[-3000:]}")
    return outcome.stdout


def scores_of_medvlp(folder: Path) -> dict[tuple[str, str, str], float]:
    """(model, task, metric) → value."""
    rows = [json.loads(line) for line in (folder / "results" / "results.jsonl").read_text().splitlines()]
    return {(Path(row["checkpoint"]).name, row["task"], row["metric"]): row["value"] for row in rows}


def scores_of_clip_benchmark(output: Path) -> dict[tuple[str, str, str], float]:
    """The same of the peer's files."""
    scores = {}
    for path in output.glob("*.json"):
        content = json.loads(path.read_text())
        task = re.sub(r".*/", "", content["dataset"])
        for metric, value in content["metrics"].items():
            scores[content["pretrained"], task, metric] = value
    return scores
