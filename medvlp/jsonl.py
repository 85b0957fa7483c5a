"""JSON, and JSON lines, as medvlp writes and reads them: one object a line in UTF-8, and no line that is half there.

A line that a killed writer left without its end is ignored on reading, and cut off before the next one is appended.
"""

import errno
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medvlp.shards.atomic import refusing, whole_file
from medvlp.shards.errors import ShardError

Row = dict[str, Any]

DEEPEST = 100
"""Objects and lists in each other, in one row: code that walks through deeper ones runs out of stack."""


class BrokenLine(ShardError):
    """A line of a .jsonl file is not an object; the message has the file and the line's number."""


def encode_json(content: Any, indent: int | None = None, sort: bool = False) -> bytes:
    """JSON in UTF-8, by default on one line.

    File names that are not UTF-8 come as lone surrogates, which JSON's escapes can hold.
    """
    return json.dumps(content, ensure_ascii=False, indent=indent, sort_keys=sort).encode("utf-8", "backslashreplace")


def encode_row(row: Mapping[str, Any]) -> bytes:
    """One line, its end included: null for numbers that JSON does not have (NaN, infinities), escapes for the lone
    surrogates of file names that are not UTF-8."""
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(finite(row), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def finite(value: Any) -> Any:
    """A value with None for NaN and infinities, which JSON does not have, in all its parts."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_rows(path: Path, *rows: Iterable[Mapping[str, Any]]) -> None:
    """A file of rows, whole or absent.

    Raises:
        ShardError: the disk refuses; an earlier file stays as it was.
    """
    with whole_file(path) as file:
        for batch in rows:
            file.writelines(map(encode_row, batch))


def read_rows(path: Path) -> Iterator[Row]:
    """Rows in order; none of an absent file. NaN and infinities are None, as `write_rows` writes them.

    Raises:
        BrokenLine: a line that is not an object, unless it is the last and lacks its end.
    """
    return (row for _, row in numbered_rows(path))


def numbered_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of `read_rows`, each with the number of its line, from 1."""
    if not path.is_file():
        return
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                if line.strip():
                    yield number, _parsed(line)
            except (ValueError, RecursionError) as error:
                if line.endswith(b"\n"):
                    raise BrokenLine(
                        f"{path}, line {number}: not a JSON object ({error}); fix or remove the line"
                    ) from None


def _parsed(line: bytes) -> Row:
    row = json.loads(line, parse_constant=_null)
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, found {type(row).__name__}")
    if line.count(b"{") + line.count(b"[") > DEEPEST:
        _check_depth(row)
    return row


def _check_depth(row: Row) -> None:
    level: list[Any] = [row]
    for _ in range(DEEPEST):
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    if any(isinstance(value, dict | list) for value in level):
        raise ValueError(f"objects and lists lie in each other more than {DEEPEST} deep")


def _null(constant: str) -> None:
    """NaN and infinities of other writers, as they are written here."""


def torn_bytes(path: Path) -> int:
    """The length of an incomplete last line, as a killed writer leaves it; 0 where the last line is whole."""
    if not path.is_file():
        return 0
    ending = b""
    with open(path, "rb") as file:
        position = file.seek(0, os.SEEK_END)
        while position and b"\n" not in ending:
            position -= (step := min(position, 2**16))
            file.seek(position)
            ending = file.read(step) + ending
    ending = ending.rpartition(b"\n")[2]
    try:
        if ending.strip():
            _parsed(ending)
        return 0
    except (ValueError, RecursionError):
        return len(ending)


class Appender:
    """Adds rows to the end of a .jsonl file: handed to the system at once, so that a kill loses none that was added."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, *rows: Mapping[str, Any]) -> None:
        """Add rows, on lines of their own.

        Raises:
            ShardError: the disk refuses; the earlier lines are as they were.
        """
        data = b"".join(map(encode_row, rows))
        if not data:
            return
        with refusing(self.path, "its earlier lines are whole"), open(self.path, "ab+", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
                end -= torn_bytes(self.path)
                file.truncate(end)
                if end and os.pread(file.fileno(), 1, end - 1) != b"\n":  # a whole line that only lacks its end
                    data = b"\n" + data
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(end)
                raise
