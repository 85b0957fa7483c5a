"""Small shard folders for tests."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from medvlp.shards import Manifest, Sample, ShardWriter, hash_config, write_manifest
from medvlp.shards.writer import mark_file, rows_table, write_tables


def write_split(folder: Path, samples: Iterable[Sample], per_shard: int = 8) -> Path:
    """A finished split folder (its name is the split) holding these samples."""
    folder.mkdir(parents=True, exist_ok=True)
    samples, files, shards, rows = list(samples), {}, {}, []
    for number, start in enumerate(range(0, len(samples), per_shard)):
        with ShardWriter(folder / f"{number:06d}", folder.name) as writer:
            for sample in samples[start : start + per_shard]:
                writer.write(sample)
        files |= writer.files
        shards[f"{number:06d}.tar"] = len(writer.rows)
        rows += writer.rows
    write_tables(folder / "samples.parquet", [rows_table(rows)])
    files["samples.parquet"] = mark_file(folder / "samples.parquet")
    stages = [{"source": "generated"}]
    write_manifest(folder, Manifest(folder.name, files, shards, len(samples), stages, hash_config(stages), {}))
    return folder


def jpeg(number: int, side: int = 40) -> bytes:
    """A JPEG whose pixels are decided by a number."""
    pixels = np.random.default_rng(number).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def pairs(count: int, classes: int = 4) -> list[Sample]:
    """Image–caption pairs with a label."""
    return [
        Sample(
            key=f"made__a{number:04d}__f1__0",
            images={"jpg": jpeg(number)},
            texts={"caption": f"figure {number} shows finding {number * 7919 % 1000} of kind {number % classes}"},
            labels={"kind": f"k{number % classes}"},
            metadata={"group": f"a{number:04d}", "licence": "CC0-1.0", "source": "made"},
        )
        for number in range(count)
    ]
