"""Keys of a large split as a mapped file: processes share its pages, and none holds the keys itself."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from medvlp.shards.atomic import whole_file
from medvlp.shards.errors import ShardError
from medvlp.shards.storage.settings import CACHE

if TYPE_CHECKING:
    import pyarrow as pa

LARGE = 2**17
"""Samples from which on keys are mapped; those of fewer are a few megabytes in each process."""
KEYS = "keys"


def keys_folder() -> Path:
    """`$MEDVLP_CACHE/keys`, else `~/.cache/medvlp/keys`."""
    return Path(os.environ.get(CACHE, "") or "~/.cache/medvlp").expanduser() / KEYS


def mapped_keys(table_sha256: str, samples: int, read: Callable[[], pa.Array]) -> pa.Array:
    """The keys of a split, in its order, as an array over a mapped file, which the first process writes.

    Args:
        table_sha256: of samples.parquet; names the file.
        samples: of the split.
        read: gives the keys.
    Returns: large_string. Where no file can be written, what `read` gives, after a warning.
    """
    path = keys_folder() / f"{table_sha256}.arrow"
    try:
        return _opened(path, samples)
    except (OSError, ValueError):
        pass  # not there yet, or cut short
    keys = read()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, keys)
        return _opened(path, samples)
    except (OSError, ShardError, ValueError) as error:
        warnings.warn(f"{path} cannot be used ({error}): every loader process holds all keys itself", stacklevel=2)
        return keys


def _write(path: Path, keys: pa.Array) -> None:
    import pyarrow as pa

    schema = pa.schema([("key", pa.large_string())])
    with whole_file(path) as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(pa.record_batch([keys.cast(pa.large_string())], schema=schema))


def _opened(path: Path, samples: int) -> pa.Array:
    """Raises OSError or ValueError (pyarrow's ArrowInvalid is one): no such file, or not of so many keys."""
    import pyarrow as pa

    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    if reader.num_record_batches != 1 or reader.schema != pa.schema([("key", pa.large_string())]):
        raise ValueError("not a file of keys")
    keys = reader.get_batch(0).column(0)
    keys.validate()
    if len(keys) != samples:
        raise ValueError(f"it has {len(keys)} keys, the split {samples} samples")
    return keys
