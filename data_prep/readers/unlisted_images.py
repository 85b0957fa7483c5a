"""Images in a folder that no row of a table names: counted, so that nobody misses them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path

from data_prep.readers.clutter import is_clutter
from data_prep.readers.image_files import ENDINGS

COUNTED = "pictures without a row"


def pictures_without_rows(
    folder: Path, images: Collection[str], is_theirs: bool, texts: Collection[str] = ()
) -> dict[str, int]:
    """{"pictures without a row": how many} of a folder; empty if there are none.

    images: paths below the folder that rows name. is_theirs: the folder is for these images alone, so that all of it is
    looked through; otherwise only the folders are that hold some of them. texts: what rows say that cannot be used, which
    may name a picture by its path, its name, or its name without the ending.
    """
    listed_names = set(map(as_read, images))
    row_texts = {unicodedata.normalize("NFC", word) for word in texts}
    number = 0
    for path in _files(folder, None if is_theirs else {os.path.dirname(image) for image in listed_names}):
        if path.lower().endswith(ENDINGS) and not is_clutter(path):
            path = as_read(path)
            name = path.rpartition("/")[2]
            number += path not in listed_names and row_texts.isdisjoint((path, name, name.rpartition(".")[0]))
    return {COUNTED: number} if number else {}


def as_read(name: str) -> str:
    """A file's name as people read it, with accents and letters as one: equal for all spellings of a name."""
    return unicodedata.normalize("NFC", printable(name))


def printable(name: str) -> str:
    """A file's name as people read it; names that are not UTF-8 were mostly given by Windows."""
    try:
        data = os.fsencode(name)
    except UnicodeEncodeError:  # half a character, as escapes in JSON can leave: no file is called so
        return name
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _files(folder: Path, folders: Collection[str] | None) -> Iterator[str]:
    """Files below the folder, or in some folders of it, with "/"; links to folders are not followed."""
    if folders is None:
        for parent, _, names in os.walk(folder):
            inner = os.path.relpath(parent, folder)
            yield from (name if inner == "." else f"{inner}/{name}" for name in names)
        return
    for parent in folders:
        if parent.startswith("/") or ".." in parent.split("/"):
            continue
        try:
            with os.scandir(folder / parent) as entries:
                yield from (os.path.join(parent, entry.name) for entry in entries if entry.is_file())
        except (OSError, ValueError):
            continue  # rows that name a folder which is not there are drops
