"""The folder of a store: where it is, and that it is ours."""

import json
import sys
from pathlib import Path

from medvlp.config.evaluation.cache import CacheConfig
from medvlp.errors import UserError
from medvlp.shards import ShardError
from medvlp.shards.atomic import PARTIAL, write_whole
from medvlp.shards.storage.settings import SHARDS

MARKER = "medvlp-store.json"
MARK = {"format": "medvlp store", "version": 1}


class StoreError(UserError):
    """A folder that is no store of ours; the message says what to do."""


def open_root(root: Path) -> Path:
    """The folder itself, made and marked as a store if it is new.

    Raises:
        StoreError: a file, or a folder with other things in it.
        OSError, ShardError: it cannot be made.
    """
    if not is_store(root):
        root.mkdir(parents=True, exist_ok=True)
        write_whole(root / MARKER, json.dumps(MARK).encode())
    return root


def store_root(config: CacheConfig) -> Path | None:
    """The folder that a configuration names, made and marked if it is new; None where it cannot be made, which is said.

    Raises:
        StoreError: a file, or a folder with other things in it.
    """
    try:
        return open_root(config.folder)
    except (OSError, ShardError) as error:
        print(
            f"note: {config.folder}: {error}: the evaluation goes on, and nothing is stored",
            file=sys.stderr,
            flush=True,
        )
        return None


def is_store(root: Path) -> bool:
    """Whether a folder is a store; False where there is nothing yet.

    Raises:
        StoreError: a file, a folder with other things in it, or a store of another version.
    """
    if not root.exists():
        return False
    if not root.is_dir():
        raise StoreError(f"cache.dir={root} is a file; give a folder, or set MEDVLP_CACHE")
    try:
        mark = json.loads((root / MARKER).read_bytes())
    except FileNotFoundError:
        if names := sorted({path.name for path in root.iterdir() if not path.name.endswith(PARTIAL)} - {SHARDS}):
            raise StoreError(
                f"cache.dir={root} holds other things ({', '.join(names[:3])}) and no {MARKER}, so it is no store of "
                f"medvlp's; give another folder, or set MEDVLP_CACHE"
            ) from None
        return False
    except (ValueError, RecursionError):
        mark = None
    if mark != MARK:
        raise StoreError(f"{root / MARKER} is damaged or of another version of medvlp; give another cache.dir")
    return True
