"""What a sample leaves behind to be recognised by: ids, checksums, hashes, a thumbnail of each image, digests of texts.

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

from data_prep.settle.likeness import SIDE, is_flat
from data_prep.stages import Draft
from medvlp.shards import Sample

if TYPE_CHECKING:
    from PIL import Image

INNER_ZOOM = 0.94
"""Share of each side that the inner hash shows. A copy that lost 3% at each edge has the original's inner hash as its own."""

_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\\W_]+")


MARKS = pa.schema(
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
        ("text", pa.list_(pa.uint64())),
        ("words", pa.list_(pa.int32())),
    ]
)


def describe(draft: Draft) -> dict[str, Any]:
    """The sample's row. The pictures are decoded if they were not; that of `measure` is not hashed again.

    Costs 0.5 ms for a grey or coloured picture of 0.2 megapixels, 1.7 ms for one of 0.7 (beside decoding and `measure`).
    """
    sample = draft.sample
    looks = [_look(draft, name) for name in sorted(sample.images)]
    texts = [normal for text in texts_of(sample) if (normal := normalised(text))]
    return {
        "key": sample.key,
        "source": str(sample.metadata.get("source", "")),
        "group": str(sample.metadata.get("group", "")),
        "article": str(sample.metadata.get("article", "")).strip().upper(),
        "sha256": [hashlib.sha256(sample.images[name]).digest() for name in sorted(sample.images)],
        "hash": [look[0] for look in looks],
        "inner_hash": [look[1] for look in looks],
        "thumbnail": [look[2] for look in looks],
        "text": [text_digest(text) for text in texts],
        "words": [text.count(" ") + 1 for text in texts],
    }


def _look(draft: Draft, name: str) -> tuple[int, int, bytes] | tuple[None, None, None]:
    import imagehash
    from PIL import Image

    picture = draft.pictures.get(name)
    if picture is None:
        return None, None, None
    grey = _grey(picture)
    thumbnail = grey.resize((SIDE, SIDE), Image.Resampling.BOX)
    pixels_SS = np.asarray(thumbnail)
    if is_flat(pixels_SS[None])[0]:
        return None, None, None
    is_measured = draft.perceptual_hash and name == min(draft.pictures)
    whole = draft.perceptual_hash if is_measured else str(imagehash.phash(grey))
    margin = SIDE * (1 - INNER_ZOOM) / 2
    inner = thumbnail.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(margin, margin, SIDE - margin, SIDE - margin))
    return int(whole, 16), int(str(imagehash.phash(inner)), 16), pixels_SS.tobytes()


def _grey(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits: the upper 8, as `measure` sees them
        picture = picture.convert("I").point(lambda value: value * (1 / 256))
    return picture.convert("L")


def texts_of(sample: Sample) -> Iterator[str]:
    """The caption, and every question with its answer."""
    if caption := sample.texts.get("caption"):
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


class Marks:
    """The tables of marks of a data set, in its order: samples are numbered through. Columns are read as asked for."""

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
    found: NDArray[np.uint64] = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
    return found


def fixed_bytes(values: pa.Array, width: int) -> NDArray[np.uint8]:
    """(N, width) bytes of a column of fixed width; rows of null are anything."""
    whole = np.frombuffer(values.buffers()[1] or b"", np.uint8)
    return whole[values.offset * width : (values.offset + len(values)) * width].reshape(len(values), width)
