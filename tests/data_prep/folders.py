"""Inputs in their publishers' layouts, small and made up."""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image


def jpeg(number: int, side: int = 48, quality: int = 75) -> bytes:
    """A photograph-like JPEG that the number decides."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 6), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def write_rocov2(folder: Path, train: int = 12, valid: int = 3, test: int = 3) -> Path:
    """ROCOv2's layout."""
    for split, count in (("train", train), ("valid", valid), ("test", test)):
        names = [f"ROCOv2_2023_{split}_{n:06d}" for n in range(count)]
        (folder / split).mkdir(parents=True)
        for n, name in enumerate(names):
            (folder / split / f"{name}.jpg").write_bytes(jpeg(n + 1000 * len(split)))
        captions = [f'{name},"Caption {n}, with a comma"' for n, name in enumerate(names)]
        cuis = [f"{name},{'C0040405;C0817096' if n % 2 else 'C0024485'}" for n, name in enumerate(names)]
        (folder / f"{split}_captions.csv").write_text("\r\n".join(["ID,Caption", *captions]) + "\r\n")
        for table in ("concepts", "concepts_manual"):
            (folder / f"{split}_{table}.csv").write_text("\n".join(["ID,CUIs", *cuis]) + "\n")
    return folder


def digests(output: Path) -> dict[str, str]:
    """sha256 of everything that belongs to the data."""
    names = ("*/*.tar", "*/*.idx", "*/samples.parquet", "*/manifest.json", "ledger.json", "dropped.jsonl")
    files = [path for name in names for path in output.glob(name)]
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}
