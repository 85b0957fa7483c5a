"""CPU time to bring pairs from storage to training batches, against open_clip's loader, loose files, and the limit.

Sets: ROCOv2's own images (0.2 MP), and JPEGs of 0.5 and 2 MP made of them. Contenders, each with and without worker processes:

- medvlp: `TrainingLoader`, as `medvlp train` builds it; and again with data.augment.decode=scaled.
- open_clip: open_clip_train's `get_wds_dataset` with its training transform. It needs webdataset 0.2.86, installed into a folder
  of its own ($MEDVLP_WEBDATASET, by default one that is thrown away).
- files: loose files in torch's DataLoader, PIL and torchvision's transform.
- limit: decoding and resizing alone, with the decoder and the resizing that medvlp uses, from bytes in memory, one process.

All read the same bytes and captions with open_clip's tokenizer at 224 px. With crops that keep the whole area, images are equal
within 3/255 and tokens equal (asserted first). medvlp hands uint8 on, which the device normalises; the others normalise here, as
they do in training. It does not show a network store, nor decoders on a GPU.
"""

import argparse
import io
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.measure import interleaved, report

SIZE, BATCH, PAIRS, WORKERS = 224, 32, 576, 2
ROUNDS = int(os.environ.get("BENCHMARK_ROUNDS", "5"))
MEGAPIXELS = {"0.2 MP": 0.0, "0.5 MP": 0.5, "2 MP": 2.0}
FULL_AREA, USUAL_AREA = (1.0, 1.0), (0.9, 1.0)
PEER = "webdataset==0.2.86"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    folder = parser.parse_args().inside
    if folder:
        sys.argv = [sys.argv[0], *(["--json"] if "--json" in sys.argv else [])]
        return measure(Path(folder))
    with tempfile.TemporaryDirectory() as scratch:
        peer = os.environ.get("MEDVLP_WEBDATASET", "")
        if not peer:
            peer = f"{scratch}/webdataset"
            pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", peer, PEER]
            subprocess.run(pip, check=True)
        # The peer's version stands before the installed one, in a process of its own.
        paths = [peer, *os.environ.get("PYTHONPATH", os.getcwd()).split(os.pathsep)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.loader", "--inside", scratch, *sys.argv[1:]]
        return subprocess.run(command, env=environment, check=False).returncode


def measure(folder: Path) -> int:
    import torch
    import webdataset

    from data_prep.pipeline import prepare

    assert f"webdataset=={webdataset.__version__}" == PEER, webdataset.__version__
    source = Path(os.environ.get("MEDVLP_TEST_DATA", "../shared/data")) / "rocov2"
    if not source.is_dir():
        print(f"needs ROCOv2 files: {source} does not exist; set MEDVLP_TEST_DATA", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    prepare("rocov2", str(source), str(folder / "rocov2"), workers=2)
    rows, values = [], {}
    for name, megapixels in MEGAPIXELS.items():
        loaders = Loaders(written(folder / "rocov2" / "train", folder / f"{megapixels}", megapixels))
        agreeing = loaders.agreement()
        assert agreeing >= 0.95, f"{name}: only {agreeing:.0%} of the images agree"
        for workers in (0, WORKERS):
            seconds = interleaved(loaders.runs(workers), ROUNDS)
            milliseconds = {run: value / PAIRS * 1000 for run, value in seconds.items()}
            medvlp_ms, scaled = milliseconds["medvlp"], milliseconds["medvlp, scaled"]
            value = {
                "ratio_vs_open_clip": milliseconds["open_clip"] / medvlp_ms,
                "ratio_vs_files": milliseconds["files"] / medvlp_ms,
                "ratio_vs_limit": milliseconds["limit"] / medvlp_ms,
                "ratio_vs_open_clip_scaled": milliseconds["open_clip"] / scaled,
            }
            values[f"{name}, {workers} workers"] = {**value, "cpu_ms": milliseconds}
            times = ", ".join(f"{run} {time:.2f}" for run, time in milliseconds.items())
            words = ", ".join(f"{key.removeprefix('ratio_')} {ratio:.2f}" for key, ratio in value.items())
            rows.append((f"{name}, {workers} workers", f"CPU-ms a pair: {times}; {words}; {agreeing:.0%} agree"))
    keys = ("ratio_vs_open_clip", "ratio_vs_files", "ratio_vs_limit", "ratio_vs_open_clip_scaled")
    least = {key: min(value[key] for value in values.values()) for key in keys}
    report("loader", rows, {**least, "cases": values})
    return 0


def written(split: Path, folder: Path, megapixels: float) -> Path:
    """A split of two shards, and next to it the same as loose files; 0 megapixels: the images' own."""
    from dataclasses import replace

    import numpy as np
    from PIL import Image

    from medvlp.shards import Manifest, ShardDataset, ShardWriter, hash_config, write_manifest
    from medvlp.shards.writer import mark_file, rows_table, write_tables

    dataset, train, loose = ShardDataset(split), folder / "train", folder / "files"
    train.mkdir(parents=True)
    loose.mkdir()
    files, shards, rows = {}, {}, []
    numbers = iter(range(len(dataset)))
    for shard in range(2):
        with ShardWriter(train / f"{shard:06d}", "train") as writer:
            for number in itertools.islice(numbers, PAIRS // 2):
                sample = dataset.read(number)
                data = next(iter(sample.images.values()))
                if megapixels:
                    image = Image.open(io.BytesIO(data))
                    by = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
                    image = image.resize((round(image.width * by), round(image.height * by)), Image.Resampling.BICUBIC)
                    pixels = np.asarray(image).astype(
                        int
                    )  # with grain, as scanners give; else 2 MP have nothing to code
                    pixels += np.random.default_rng(number).integers(-4, 5, pixels.shape[:2] + (1,) * (pixels.ndim - 2))
                    buffer = io.BytesIO()
                    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
                    data = buffer.getvalue()
                writer.write(replace(sample, images={"jpg": data}))
                (loose / f"{sample.key}.jpg").write_bytes(data)
                (loose / f"{sample.key}.txt").write_text(sample.texts["caption"], encoding="utf-8")
        files |= writer.files
        shards[f"{shard:06d}.tar"] = len(writer.rows)
        rows += writer.rows
    write_tables(train / "samples.parquet", [rows_table(rows)])
    files["samples.parquet"] = mark_file(train / "samples.parquet")
    stages = [{"source": "generated"}]
    write_manifest(train, Manifest("train", files, shards, PAIRS, stages, hash_config(stages), {}))
    return folder


class Loaders:
    """The contenders over one set; each gives batches of images and tokens."""

    def __init__(self, folder: Path) -> None:
        import open_clip

        from medvlp.shards import ShardDataset

        self.folder, self.tokenizer = folder, open_clip.get_tokenizer("ViT-B-32")
        self.split = ShardDataset(folder / "train")
        self.data = [next(iter(self.split.read(row).images.values())) for row in range(PAIRS)]

    def runs(self, workers: int) -> dict[str, Callable[[], object]]:
        return {
            "open_clip": lambda: count(self.open_clip(workers, USUAL_AREA)),
            "files": lambda: count(self.files(workers, USUAL_AREA)),
            "medvlp": lambda: count(self.medvlp(workers, USUAL_AREA)),
            "medvlp, scaled": lambda: count(self.medvlp(workers, USUAL_AREA, scaled=True)),
            "limit": self.limit,
        }

    def medvlp(self, workers: int, scale: tuple[float, float], scaled: bool = False) -> Any:
        from medvlp.data.dataset import RequestedSamples
        from medvlp.data.images.crop import RandomView
        from medvlp.data.loader import TrainingLoader
        from medvlp.data.order import Order, OrderedSource
        from medvlp.data.pairs import TEXT_BYTES, CollatePairs, PreparePairs, Tokenize
        from medvlp.data.plan import RankSchedule, SamplePlan
        from medvlp.data.texts import FieldTexts

        view = RandomView(SIZE, scale, (3 / 4, 4 / 3), 10**8, scaled)
        prepare = PreparePairs(
            [FieldTexts(("caption",))], Tokenize(self.tokenizer, 0, self.tokenizer.context_length), view
        )
        samples = RequestedSamples([("made", self.split)], prepare, 0)
        order = Order([OrderedSource("made", PAIRS, 1.0, self.split.manifest_hash)], 0)
        loader = TrainingLoader(
            samples,
            RankSchedule(SamplePlan(order), BATCH),
            CollatePairs(0),
            PAIRS // BATCH,
            workers,
            False,
            True,
            BATCH * (view.image_bytes + TEXT_BYTES),
        )
        for batch in loader:
            yield batch.images_BCHW, batch.tokens_BL

    def open_clip(self, workers: int, scale: tuple[float, float]) -> Any:
        from open_clip.transform import AugmentationCfg, image_transform
        from open_clip_train.data import get_wds_dataset

        arguments = SimpleNamespace(
            train_data=f"{self.folder}/train/{{000000..000001}}.tar",
            train_num_samples=PAIRS,
            train_data_upsampling_factors=None,
            dataset_resampled=False,
            seed=0,
            batch_size=BATCH,
            workers=workers,
            world_size=1,
        )
        transform = image_transform(SIZE, True, MEAN, STD, aug_cfg=AugmentationCfg(scale=scale))
        data = get_wds_dataset(arguments, transform, is_train=True, tokenizer=self.tokenizer)
        data.set_epoch(0)
        yield from data.dataloader
        for stage in data.dataloader.pipeline:
            iterator = getattr(stage, "_iterator", None)
            if iterator is not None:  # worker processes
                iterator._shutdown_workers()  # else their time would not be counted

    def files(self, workers: int, scale: tuple[float, float]) -> Any:
        from open_clip.transform import AugmentationCfg, image_transform
        from torch.utils.data import DataLoader

        transform = image_transform(SIZE, True, MEAN, STD, aug_cfg=AugmentationCfg(scale=scale))
        files = LooseFiles(sorted((self.folder / "files").glob("*.jpg")), transform, self.tokenizer)
        yield from DataLoader(files, BATCH, shuffle=True, num_workers=workers, drop_last=True)

    def limit(self) -> None:
        import numpy as np

        from medvlp.data.images.crop import crop_box, resized
        from medvlp.data.images.pixels import open_pixels

        rng = np.random.default_rng(0)
        for data in self.data:
            pixels = open_pixels(data, 10**8)
            resized(pixels, crop_box(*pixels.shape[1:], USUAL_AREA, (3 / 4, 4 / 3), rng), SIZE)

    def agreement(self) -> float:
        """Share of images that all have alike, by their tokens; tokens are equal, but where a caption comes twice.

        An aspect ratio that fits by chance gives another crop: so not all can be.
        """
        import torch

        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        peers = [by_text(self.open_clip(0, FULL_AREA)), by_text(self.files(0, FULL_AREA))]
        medvlp_images = by_text(self.medvlp(0, FULL_AREA))
        same = []
        for peer in peers:
            assert peer.keys() == medvlp_images.keys()
            for tokens, image in peer.items():
                same.append(float((medvlp_images[tokens].float() - 255 * (image * std + mean)).abs().max()) <= 3.0)
        return sum(same) / len(same)


class LooseFiles:
    """Pairs of files, as image folders are read."""

    def __init__(self, paths: list[Path], transform: Any, tokenizer: Any) -> None:
        self.paths, self.transform, self.tokenizer = paths, transform, tokenizer

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        from PIL import Image

        path = self.paths[row]
        text = path.with_suffix(".txt").read_text(encoding="utf-8")
        return self.transform(Image.open(path)), self.tokenizer([text])[0]


def by_text(batches: Any) -> dict[bytes, Any]:
    """Tokens → image, of texts that come once."""
    images: dict[bytes, Any] = {}
    repeated = set()
    for images_BCHW, tokens_BL in batches:
        for image, tokens in zip(images_BCHW, tokens_BL, strict=True):
            key = tokens.numpy().tobytes()
            repeated |= {key} & images.keys()
            images[key] = image.clone()
    return {key: image for key, image in images.items() if key not in repeated}


def count(batches: Any) -> None:
    """Reads all pairs."""
    pairs = sum(len(tokens_BL) for _, tokens_BL in batches)
    assert pairs == PAIRS, pairs


if __name__ == "__main__":
    sys.exit(main())
