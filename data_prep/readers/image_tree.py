"""All files below a folder, without what systems hide there and without following links."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from data_prep.readers.clutter import is_clutter
from data_prep.source import Dropped


def walk(folder: Path) -> Iterator[str | Dropped]:
    """Paths of all files below, with "/"; hidden ones and links to folders, which could lead anywhere, are drops."""
    queue = [""]
    while queue:
        parent = queue.pop()
        try:
            with os.scandir(folder / parent) as entries:
                for entry in entries:
                    path = f"{parent}{entry.name}"
                    if entry.name.startswith(".") or is_clutter(entry.name):
                        yield Dropped(path, "hidden_file", "hidden files and folders hold no samples")
                    elif entry.is_dir(follow_symlinks=False):
                        queue.append(f"{path}/")
                    elif entry.is_symlink() and os.path.isdir(entry.path):  # False, not an error, for a circle of links
                        yield Dropped(path, "linked_folder", "links to folders are not followed; copy it in its place")
                    else:
                        yield path
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            yield Dropped(parent, "bad_path", "folders are nested too deeply")
