"""Guarded reading of files that nobody vouches for: sizes are capped, no name leads out of its folder."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import stat
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from data_prep.errors import BadRow, NotAFile, PrepError

MAX_JSON_BYTES = 4 * 2**30
"""Of a file that has to be parsed in one piece, which takes about ten times as much memory."""

MAX_LINE_BYTES = 16 * 2**20
"""Of a line in a file of JSON lines."""


@contextmanager
def readable(path: Path, advice: str) -> Iterator[None]:
    """For the calls of a library on the publisher's file: whatever they raise, damage is a PrepError with its name."""
    try:
        yield
    except Exception as error:  # OSError, EOFError, ValueError, BadZipFile, zlib.error, TokenError, KeyError, ...
        raise PrepError(f"{path} cannot be read ({type(error).__name__}: {error}); {advice}") from None


def regular_only(path: str, flags: int) -> int:
    """Opener for `open` that neither waits for the writer of a pipe nor reads devices. Raises NotAFile."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK)
    except OSError as error:
        # Faults of the name; others (permissions, a failing disk) are the system's.
        if error.errno not in (errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO):
            raise
        raise NotAFile(f"{path} is not a file ({error.strerror}); put the publisher's file there") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFile(f"{path} is not a regular file but a folder, a pipe or a device; put the publisher's file there")
    return descriptor


def digest_file(path: Path) -> str:
    """sha256 of a file's content. Raises NotAFile."""
    with open(path, "rb", opener=regular_only) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def spelled_below(folder: Path, name: str) -> Path:
    """The real path of a name, or of the file that spells it in another way: accents apart from letters (Mac), or in
    the bytes of Windows. Raises BadRow bad_path."""
    path = resolve_below(folder, name)
    if name.isascii() or path.exists():
        return path
    spellings = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    with suppress(UnicodeEncodeError):
        spellings.append(os.fsdecode(unicodedata.normalize("NFC", name).encode("cp1252")))
    candidates = (resolve_below(folder, spelling) for spelling in spellings if spelling != name)
    return next((candidate for candidate in candidates if candidate.exists()), path)


@lru_cache(maxsize=64)
def _real(folder: Path) -> str:
    return os.path.realpath(folder)


def resolve_below(folder: Path, name: str) -> Path:
    """The real path of a name that has to lie in the folder. Raises BadRow bad_path."""
    if "\0" in name or "\\" in name or name.startswith("/") or ".." in name.split("/") or not name.strip("./ "):
        raise BadRow("bad_path", f"{name!r} is not a relative path that stays in the image folder")
    try:
        path = Path(os.path.realpath(folder / name))
        is_inside = path.is_relative_to(_real(folder))
    except (OSError, UnicodeEncodeError) as error:  # names too long, links in a circle, lone surrogates
        raise BadRow("bad_path", f"{name[:80]!r} cannot be a path ({type(error).__name__})") from None
    if not is_inside:
        raise BadRow("bad_path", f"{name} is a link that leaves the image folder")
    return Path(path)


def size_of(folder: Path, name: str) -> int | None:
    """Bytes of a file below the folder, for fingerprints; None if there is none."""
    try:
        return os.stat(spelled_below(folder, name)).st_size
    except (OSError, BadRow):
        return None


def digest_listing(folder: Path) -> str:
    """sha256 of all names and sizes below a folder, for fingerprints: hashing a million images is too slow."""
    listing = []
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            listing.append(f"{os.path.relpath(path, folder)}\t{os.lstat(path).st_size}")
    return hashlib.sha256("\n".join(sorted(listing)).encode("utf-8", "surrogateescape")).hexdigest()


def read_json_list(path: Path) -> list[tuple[int, Any]]:
    """(number from 1, entry) of a JSON file that holds a list. Raises PrepError with the place of what is wrong."""
    content = _read_json(path)
    if not isinstance(content, list):
        raise PrepError(f"{path} holds a {type(content).__name__}, expected a list of entries")
    return list(enumerate(content, start=1))


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises PrepError with the place of what is wrong."""
    content = _read_json(path)
    if not isinstance(content, dict):
        raise PrepError(f"{path} holds a {type(content).__name__}, expected an object")
    return content


def _read_json(path: Path) -> Any:
    with open(path, "rb", opener=regular_only) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_JSON_BYTES:
            raise PrepError(
                f"{path} has {size} bytes, at most {MAX_JSON_BYTES} are parsed in one piece; use JSON lines"
            )
        data = file.read()
    try:
        return json.loads(data.decode(json.detect_encoding(data)))  # UTF-16 and UTF-32 too
    except UnicodeDecodeError as error:
        raise PrepError(
            f"{path} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}; convert the file to UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        hint = (
            "call it .jsonl if each line is an entry" if error.msg == "Extra data" else "fix it, or download it again"
        )
        raise PrepError(f"{path} line {error.lineno} column {error.colno} is not JSON: {error.msg}; {hint}") from None
    except (RecursionError, ValueError) as error:
        is_deep = isinstance(error, RecursionError)
        digits = f"an integer of more than {sys.get_int_max_str_digits()} digits"
        cause = "brackets too deep in each other" if is_deep else digits
        raise PrepError(
            f"{path} holds {cause}, which is not read; as JSON lines it would cost that entry alone, so save the list so, or "
            "repair it"
        ) from None


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, entry) of each line that is not blank.

    For a line that cannot be read, the entry is a BadRow: not_utf8, bad_json, line_too_long.
    """
    with open(path, "rb", opener=regular_only) as file:
        for number, _, entry in json_lines(file):
            yield number, entry


def json_lines(file: BinaryIO) -> Iterator[tuple[int, int, Any]]:
    """(number from 1, byte offset, entry) of each line that is not blank, from where the file stands.

    Raises PrepError for a file in UTF-16 or UTF-32.
    """
    offset = file.tell()
    if not offset and not (encoding := json.detect_encoding(file.read(4))).startswith("utf-8"):
        raise PrepError(f"{file.name} is in {encoding.upper()}; save it as UTF-8")
    file.seek(offset)
    for number in itertools.count(1):
        line = file.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        start, offset = offset, offset + len(line)
        if len(line) > MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE_BYTES)
                offset += len(line)
            yield number, start, BadRow("line_too_long", f"the line has more than {MAX_LINE_BYTES} bytes")
        elif line.strip():
            yield number, start, _json_line(line.rstrip())


def _json_line(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return BadRow("not_utf8", f"byte 0x{line[error.start]:02x} at offset {error.start} of the line is not UTF-8")
    except json.JSONDecodeError as error:
        return BadRow("bad_json", f"column {error.colno}: {error.msg}")
    except (RecursionError, ValueError) as error:  # ValueError: an integer of thousands of digits
        return BadRow("bad_json", str(error))
