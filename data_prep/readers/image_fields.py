"""Image names in an entry, under whatever key and in whatever plain form: none is lost without a word."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from data_prep.errors import BadRow
from data_prep.readers.fields import Entry, check_utf8, says_something

MAX_IMAGES = 64
"""Of an entry: all are in memory at once. The longest studies in such files have about ten."""

KEYS = (
    *("image", "images", "image_path", "image_paths", "image_file", "image_files", "image_url", "image_urls"),
    *("img", "imgs", "img_path", "img_paths", "img_file", "img_url"),
)
"""Keys that can hold nothing but images: whatever else is in them is an error. The first that names some is read."""

FOLDERS = ("images", "imgs", "image", "img")
"""Where images are, next to the entries, where nobody says so."""

PATH_KEYS = ("path", "file_name", "filename", "image", "image_url", "url", "image_path", "uri", "name")
"""Where the name is, if an image is an object: {"path": ..., "bytes": null}, {"url": ...}."""

ENDINGS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "dcm", "nii", "nii.gz", "svs")
_FILE_NAME = re.compile(rf"[^\n]{{1,500}}\.(?:{'|'.join(map(re.escape, ENDINGS))})", re.IGNORECASE)


def image_names(entry: Entry, other_keys: Collection[str] = ()) -> tuple[str, list[str]]:
    """(the key that names the entry's images, their names); ("", []) for an entry that names none.

    Without one of `KEYS`, any key is taken whose value looks like the names of image files, if there is one only.
    other_keys: keys that are something else, whatever their values look like.

    Raises BadRow: bad_image, too_many_images, remote_image, embedded_image, unclear_image (several keys name different
    images), not_utf8.
    """
    names_by_key = {key: names for key in KEYS if key in entry and (names := list(_names(entry[key], key)))}
    if not names_by_key:
        names_by_key = {key: names for key, names in _look_alikes(entry, other_keys) if names}
        for key in names_by_key:
            entry.get(key)
    local = {key: names for key, names in names_by_key.items() if not any(map(_is_address, names))}
    names_by_key = local or names_by_key
    if len({tuple(map(_file, names)) for names in names_by_key.values()}) > 1:
        listing = ", ".join(f"{key} {_short(names)}" for key, names in names_by_key.items())
        raise BadRow("unclear_image", f"the entry names images in several ways: {listing}; keep one of the keys")
    return next(iter(names_by_key.items()), ("", []))


def _names(value: Any, key: str) -> Iterator[str]:
    """The names in a field that is for images: a text, an object with a path, or a list of these."""
    items = value if isinstance(value, list) else [] if value is None else [value]
    if len(items) > MAX_IMAGES:
        raise BadRow("too_many_images", f"{key} names {len(items)}, at most {MAX_IMAGES} become one sample")
    for position, item in enumerate(items):
        yield image_name(item, f"{key}[{position}]" if isinstance(value, list) else key)


def image_name(item: Any, location: str) -> str:
    """The name that one item of an image field holds. Raises BadRow: bad_image, embedded_image, not_utf8."""
    if isinstance(item, dict):
        content = next((item[key] for key in PATH_KEYS if says_something(item.get(key))), None)
        if isinstance(content, dict):  # {"type": "image_url", "image_url": {"url": ...}}
            content = next((content[key] for key in PATH_KEYS if says_something(content.get(key))), None)
        if content is None and says_something(item.get("bytes")):
            raise BadRow("embedded_image", f"{location} holds the image itself; write it to a file, and name that")
        item = content
    if not isinstance(item, str) or not item:
        raise BadRow("bad_image", f"{location} is {str(item)[:80]!r}, expected the name of a file")
    if item.startswith("data:"):
        raise BadRow(
            "embedded_image", f"{location} holds the image itself ({item[:30]}…); write it to a file, and name that"
        )
    return check_utf8(item, location)


def _look_alikes(entry: Entry, other_keys: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    for key, value in entry.items():
        items = value if isinstance(value, list) else [value]
        if key not in other_keys and items and all(isinstance(i, str) and _FILE_NAME.fullmatch(i) for i in items):
            yield key, list(_names(value, key))


def located(name: str, images: Path, folder: Path) -> str:
    """A name as it is below the image folder.

    Absolute paths (and file: addresses) to what is in it become relative, and so do names that begin with the image
    folder's own, as seen from the folder of the entries. What lies elsewhere stays, to be refused when it is read.

    Raises BadRow remote_image: nothing is fetched.
    """
    name = name.removeprefix("file://")
    if _is_address(name):
        raise BadRow(
            "remote_image", f"{name[:100]} is an address, and nothing is fetched; download it, and name the file"
        )
    while name.startswith("./"):
        name = name[2:]
    if os.path.isabs(name):
        return _below(os.path.normpath(name), images) or name
    inner = _below(os.path.join(os.path.abspath(folder), name), images)
    is_inner = inner and not os.path.lexists(images / name) and os.path.lexists(images / inner)
    return inner if is_inner else name


def in_image_folder(name: str, folder: Path) -> str:
    """A name with the folder of images in front that it lies in, if it does not lie next to the entries itself."""
    if ".." in name.split("/") or os.path.isabs(name) or os.path.lexists(folder / name):
        return name
    return next((f"{inner}/{name}" for inner in FOLDERS if os.path.lexists(folder / inner / name)), name)


def _below(path: str, folder: Path) -> str:
    """A path as seen from a folder above it; "" if it is not below, or not as it is written."""
    base = os.path.abspath(folder).rstrip("/") + "/"
    return path.removeprefix(base) if path.startswith(base) and ".." not in path.split("/") else ""


def _is_address(name: str) -> bool:
    return re.match(r"(?:https?|s3|gs|ftp|hf)://", name, re.IGNORECASE) is not None


def _file(name: str) -> str:
    return name.rpartition("/")[2]


def _short(names: list[str]) -> str:
    first = names[0][:60]
    return repr(first) if len(names) == 1 else f"{first!r} and {len(names) - 1} more"
