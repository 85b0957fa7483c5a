"""Atomic folders: whole, or not there at all."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(output: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a new folder of the final name, and a scratch folder; after the block the first becomes `output`.

    After an error neither remains.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as temporary:
        folder, scratch = Path(temporary) / output.name, Path(temporary) / "scratch"
        folder.mkdir()
        scratch.mkdir()
        yield folder, scratch
        folder.rename(output)
