"""Fingerprints for deduplication: ids, checksums, perceptual hashes, thumbnails of images, digests of texts.

One table a unit, one row a sample. Lists run over the sample's images in the order of their names, and over its texts.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_prep.dedup.similarity import SIDE, is_flat
from data_prep.draft import Draft
from medvlp.jsonl import encode_json
from medvlp.shards import Sample

if TYPE_CHECKING:
    from PIL import Image

HASHED_SIDE = 32
LIGHT = (1.0, 0.6)
"""How much brighter a picture gets from its left edge to its right, and from top to bottom, before it is hashed."""

INNER_ZOOM = 0.94
"""Share of each side that the inner hash shows. A copy that lost 3% at each edge has the original's inner hash as its own."""

_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\\W_]+")


FINGERPRINT_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("group", pa.string()),
        ("article", pa.string()),
        ("sha256", pa.list_(pa.binary(32))),
        # Null for volumes, and for pictures so even that only equal bytes make a copy of them.
        ("hash", pa.list_(pa.uint64())),
        ("inner_hash", pa.list_(pa.uint64())),
        ("thumbnail", pa.list_(pa.binary(SIDE * SIDE))),
        # Pixels of the picture's shorter side.
        ("side", pa.list_(pa.int32())),
        ("text", pa.list_(pa.uint64())),
        ("words", pa.list_(pa.int32())),
        # The sample's labels as JSON, empty without any.
        ("labels", pa.string()),
    ]
)


def fingerprint(draft: Draft) -> dict[str, Any]:
    """The sample's row. The pictures are decoded if they were not."""
    sample = draft.sample
    images = [_image_fingerprint(draft, name) for name in sorted(sample.images)]
    texts = [normal for text in texts_of(sample) if (normal := normalised(text))]
    return {
        "key": sample.key,
        "source": str(sample.metadata.get("source", "")),
        "group": str(sample.metadata.get("group", "")),
        "article": str(sample.metadata.get("article", "")).strip().upper(),
        "sha256": [hashlib.sha256(sample.images[name]).digest() for name in sorted(sample.images)],
        "hash": [image[0] for image in images],
        "inner_hash": [image[1] for image in images],
        "thumbnail": [image[2] for image in images],
        "side": [image[3] for image in images],
        "text": [text_digest(text) for text in texts],
        "words": [text.count(" ") + 1 for text in texts],
        "labels": encode_json(sample.labels, sort=True).decode() if sample.labels else "",
    }


def _image_fingerprint(draft: Draft, name: str) -> tuple[int, int, bytes, int] | tuple[None, None, None, None]:
    from PIL import Image

    picture = draft.pictures.get(name)
    if picture is None:
        return None, None, None, None
    # Not the mean over boxes, which of small pictures, and of their copies at another scale, shows boxes and not the picture.
    thumbnail = draft.view(name).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    pixels_SS = np.asarray(thumbnail)
    if is_flat(pixels_SS[None])[0]:
        return None, None, None, None
    margin = SIDE * (1 - INNER_ZOOM) / 2
    inner = (margin, margin, SIDE - margin, SIDE - margin)
    return tilted_hash(thumbnail), tilted_hash(thumbnail, inner), pixels_SS.tobytes(), min(picture.size)


def tilted_hash(picture: Image.Image, box: tuple[float, float, float, float] | None = None) -> int:
    """64 bits of a grey picture, or of a box of it: a perceptual hash as imagehash's, but of the picture lit from one side.

    A slice of a head is its own mirror image, nearly: half of the coefficients of its cosine transform are 0 but for noise,
    and so are half of the bits of a plain hash. Lit from a side, no picture is symmetric.
    """
    from PIL import Image
    from scipy.fft import dctn

    cells_SS = np.asarray(picture.resize((HASHED_SIDE, HASHED_SIDE), Image.Resampling.LANCZOS, box=box), np.float64)
    axis_S = np.arange(HASHED_SIDE) / HASHED_SIDE - 0.5
    lit_SS = cells_SS * (1 + LIGHT[0] * axis_S[None] + LIGHT[1] * axis_S[:, None])
    low_FF = dctn(lit_SS, type=2)[:8, :8]
    bits = np.packbits((low_FF > np.median(low_FF)).ravel())
    return int.from_bytes(bits.tobytes(), "big")


def texts_of(sample: Sample) -> Iterator[str]:
    """The caption, unless a template made it, and every question with its answer."""
    templated = sample.metadata.get("templated")
    if (caption := sample.texts.get("caption")) and not (isinstance(templated, list) and "caption" in templated):
        yield caption
    for conversation in sample.conversations:
        for question, answer in pairwise(conversation.turns):
            if (question.role, answer.role) == ("user", "assistant"):
                yield f"{question.text.replace('<image>', ' ')} {answer.text}"


def normalised(text: str) -> str:
    """Words alone, in NFKC and folded case, joined by blanks; each ideograph counts as a word."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def text_digest(text: str) -> int:
    """64 bits of a text; among ten million texts two share them with a probability of 3e-6."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Fingerprints:
    """The fingerprints of a data set, in its order: samples are numbered through. Columns are read as asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self._rows = sum(pq.read_metadata(path).num_rows for path in self.files)

    def __len__(self) -> int:
        return self._rows

    def columns(self, *names: str) -> Iterator[pa.Table]:
        """These columns, a row group at a time."""
        for path in self.files:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group, columns=list(names))

    def lists(self, *names: str) -> Iterator[tuple[NDArray[np.int64], list[pa.Array]]]:
        """Columns of lists, a row group at a time: the length of each row's list, and the elements of all its rows."""
        for table in self.columns(*names):
            columns = [table[name].combine_chunks() for name in names]
            lengths = pc.list_value_length(columns[0]).to_numpy(zero_copy_only=False).astype(np.int64)
            yield lengths, [column.flatten() for column in columns]


def unsigned(values: pa.Array) -> NDArray[np.uint64]:
    """Hashes or digests; 0 stands where there is none."""
    numbers: NDArray[np.uint64] = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
    return numbers


def fixed_bytes(values: pa.Array, width: int) -> NDArray[np.uint8]:
    """(N, width) bytes of a column of fixed width; rows of null are anything."""
    data = np.frombuffer(values.buffers()[1] or b"", np.uint8)
    return data[values.offset * width : (values.offset + len(values)) * width].reshape(len(values), width)
