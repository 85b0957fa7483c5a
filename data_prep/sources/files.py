"""Reading a publisher's files as data that nobody vouches for: sizes are capped, and no name leads out of its folder."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from data_prep.sources.base import PrepError

MAX_IMAGE_BYTES = 256 * 2**20
MAX_JSON_BYTES = 4 * 2**30
"""Of a file that has to be parsed in one piece, which takes about ten times as much memory."""

_MAGIC = ((b"\xff\xd8\xff", "jpg"), (b"\x89PNG\r\n\x1a\n", "png"))


class BadRow(Exception):
    """A row that cannot become (part of) a sample; the reader makes a Dropped of it, with the row's name."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def image_format(data: bytes) -> str | None:
    """jpg, png or webp by the first bytes, because publishers' extensions lie; None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((extension for magic, extension in _MAGIC if data.startswith(magic)), None)


def read_image(folder: Path, name: str) -> tuple[str, bytes]:
    """(extension by content, bytes) of an image below the folder.

    Raises BadRow: bad_path (absolute, `..`, a link that leaves the folder, not a file), missing_image, image_too_large,
    image_format.
    """
    data = _read_below(folder, name)
    extension = image_format(data)
    if extension is None:
        raise BadRow("image_format", f"{name} begins with {data[:8]!r}: neither JPEG, PNG nor WebP; convert it")
    return extension, data


def _read_below(folder: Path, name: str) -> bytes:
    path = resolve_below(folder, name)
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            mark = os.fstat(file.fileno())
            if not stat.S_ISREG(mark.st_mode):
                raise BadRow("bad_path", f"{name} is not a regular file")
            if mark.st_size > MAX_IMAGE_BYTES:
                raise BadRow("image_too_large", f"{name} has {mark.st_size} bytes, at most {MAX_IMAGE_BYTES} are read")
            return file.read()
    except FileNotFoundError:
        raise BadRow("missing_image", f"{name} is not in the image folder {folder.name}/") from None
    except IsADirectoryError:
        raise BadRow("bad_path", f"{name} is a folder, not a file") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe without a writer would hang the open


def resolve_below(folder: Path, name: str) -> Path:
    """The real path of a name that has to lie in the folder. Raises BadRow bad_path."""
    if "\0" in name or "\\" in name or name.startswith("/") or ".." in name.split("/") or not name.strip("./ "):
        raise BadRow("bad_path", f"{name!r} is not a relative path that stays in the image folder")
    try:
        path = Path(os.path.realpath(folder / name))
        inside = path.is_relative_to(os.path.realpath(folder))
    except (OSError, UnicodeEncodeError) as error:  # names too long, links in a circle, lone surrogates
        raise BadRow("bad_path", f"{name[:80]!r} cannot be a path ({type(error).__name__})") from None
    if not inside:
        raise BadRow("bad_path", f"{name} is a link that leaves the image folder")
    return path


def size_of(folder: Path, name: str) -> int | None:
    """Bytes of a file below the folder, for fingerprints; None if there is none."""
    try:
        return os.stat(resolve_below(folder, name)).st_size
    except (OSError, BadRow):
        return None


def read_json_list(path: Path) -> list[Any]:
    """The entries of a JSON file that holds a list. Raises PrepError with the place of what is wrong."""
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise PrepError(
            f"{path} has {size} bytes, at most {MAX_JSON_BYTES} are parsed in one piece; make it JSON lines"
        )
    data = path.read_bytes()
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise PrepError(
            f"{path} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}; convert the file to UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        raise PrepError(
            f"{path} line {error.lineno} column {error.colno} is not JSON: {error.msg}; mend the file, or get it anew"
        ) from None
    except RecursionError:
        raise PrepError(f"{path} is nested too deeply for a list of entries; get the publisher's file anew") from None
    if not isinstance(content, list):
        raise PrepError(f"{path} holds a {type(content).__name__}, expected a list of entries")
    return content


def text_of(entry: dict[str, Any], key: str, empty_ok: bool = False) -> str:
    """A text of an entry, without white space at its ends; numbers become text, since publishers mix both.

    Raises BadRow: missing_<key>, empty_<key>, bad_<key>, not_utf8.
    """
    value = entry.get(key)
    if value is None:
        raise BadRow(f"missing_{key}", f"{key} is {'null' if key in entry else 'missing'}")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRow(f"bad_{key}", f"{key} is a {type(value).__name__}, expected a text or a number")
    text = check_utf8(str(value), key).strip()
    if not text and not empty_ok:
        raise BadRow(f"empty_{key}", f"{key} is empty")
    return text


def check_utf8(text: str, where: str) -> str:
    """The text. Raises BadRow not_utf8 for lone surrogates, which escapes in JSON and undecodable bytes leave."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRow("not_utf8", f"{where} cannot be written as UTF-8 (character {error.start})") from None
    return text
