"""Fingerprints of samples that tests make up."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from data_prep.dedup.fingerprints import FINGERPRINT_SCHEMA, Fingerprints, fingerprint
from data_prep.draft import Draft
from data_prep.stages.images import measure
from medvlp.shards import Sample
from medvlp.shards.writer import write_tables


def scene(number: int, side: int = 160) -> Image.Image:
    """A picture with coarse and fine structure that the number decides."""
    generator = np.random.default_rng(number)
    layers = [
        np.asarray(Image.fromarray(generator.normal(0, 1, (cells, cells)).astype(np.float32)).resize((side, side), 3))
        * weight
        for cells, weight in ((5, 60), (12, 30), (40, 15))
    ]
    return Image.fromarray(np.clip(sum(layers) + 128, 0, 255).astype(np.uint8))


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def sample_of(
    key: str, *images: bytes, caption: str = "", labels: dict[str, object] | None = None, **metadata: object
) -> Sample:
    """A sample with JPEGs, or PNGs by their first bytes."""
    kinds = ["png" if data.startswith(b"\x89PNG") else "jpg" for data in images]
    names = kinds if len(images) == 1 else [f"{number}.{kind}" for number, kind in enumerate(kinds)]
    texts = {"caption": caption} if caption else {}
    return Sample(key, dict(zip(names, images, strict=True)), texts, labels or {}, metadata=dict(metadata))


def fingerprints_of(folder: Path, samples: Sequence[Sample], per_file: int = 500) -> Fingerprints:
    """The samples' marks, in files of so many rows."""
    folder.mkdir(exist_ok=True)
    files = []
    for start in range(0, len(samples), per_file):
        rows = [fingerprint(measure(Draft(sample))) for sample in samples[start : start + per_file]]
        files.append(folder / f"{start:06d}.parquet")
        write_tables(files[-1], [pa.Table.from_pylist(rows, schema=FINGERPRINT_SCHEMA)], FINGERPRINT_SCHEMA)
    return Fingerprints(files)
