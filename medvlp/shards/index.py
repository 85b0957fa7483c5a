"""The index next to a shard: a NumPy structured array, one row a member, in the order of the tar."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

INDEX_DTYPE = np.dtype([("sample", "<u4"), ("member", "S24"), ("offset", "<u8"), ("size", "<u8"), ("crc32", "<u4")])
"""sample: its position in the shard; member: its name; offset, size: its data in the tar, bytes; CRC-32."""


def index_bytes(rows: list[tuple[int, bytes, int, int, int]]) -> bytes:
    """The rows in NumPy's own file format (.npy), which any NumPy opens with mmap."""
    buffer = io.BytesIO()
    np.save(buffer, np.array(rows, dtype=INDEX_DTYPE), allow_pickle=False)
    return buffer.getvalue()


def open_index(path: Path) -> np.ndarray:
    """The index, mapped rather than read. Raises OSError or ValueError if it is not there or not an index."""
    # An empty array cannot be mapped, and a shard is never empty: NumPy's error then is the right one.
    try:
        index = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # on a damaged header: ValueError, TokenError, BadZipFile, EOFError, OverflowError, ...
        raise ValueError(f"not an index: {error}") from None
    if not isinstance(index, np.ndarray):
        raise ValueError("not an index: it begins like an archive of arrays (.npz)")
    if index.dtype != INDEX_DTYPE or index.ndim != 1:
        raise ValueError(f"its rows are {index.dtype}, expected {INDEX_DTYPE}")
    return index
