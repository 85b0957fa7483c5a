"""Encodings of text files: as the byte order mark or a person says, else UTF-8; and their lines by bytes."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO

from data_prep.errors import PrepError
from data_prep.readers.guarded import MAX_LINE_BYTES

SAMPLE_BYTES = 2**20
"""Of a file that decide what it is."""

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks; UTF-32's begins as UTF-16's does."""

NO_TEXTS = (
    (b"PK\x03\x04", "a zip or an Excel workbook; save the sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save the sheet as CSV UTF-8"),
    (b"\x1f\x8b", "compressed with gzip; unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it"),
    (b"PAR1", "parquet; call it .parquet"),
)
"""First bytes → what the file is instead of text, and what to do."""

SAVE = "save it as UTF-8 (in Excel: CSV UTF-8)"
NAMES = "cp1252 (Windows, Western Europe), cp1250, cp1251, mac_roman, latin-1, utf-16, gb18030, shift_jis, ..."


@dataclass(frozen=True)
class Text:
    """How the bytes of a file are text."""

    encoding: str
    start: int = 0
    """Bytes of the byte order mark."""
    has_returns: bool = False
    """Its lines end with carriage returns alone, as on old Macs."""

    @cached_property
    def width(self) -> int:
        """Bytes of the smallest character."""
        return 2 if self.encoding.startswith("utf-16") else 4 if self.encoding.startswith("utf-32") else 1

    def decode(self, data: bytes) -> str:
        """The text of bytes that are not all of the encoding: others become lone surrogates, or question marks."""
        return data.decode(self.encoding, "surrogateescape" if self.width == 1 else "replace")

    def opened(self, file: BinaryIO) -> BinaryIO:
        """The file with line feeds at the ends of its lines."""
        return io.BufferedReader(_LineFeeds(file)) if self.has_returns else file

    def read_line(self, file: BinaryIO, limit: int) -> tuple[bytes, int]:
        """(the next line, cut where it has more than `limit` bytes; the bytes that it has in the file)."""
        line = file.readline(limit + 1) if self.width == 1 else self._read_wide(file, limit + 1)
        if len(line) <= limit:
            return line, len(line)
        size, end = len(line), line
        while end and not end.endswith(self._line_feed):
            end = file.readline(limit) if self.width == 1 else self._read_wide(file, limit)
            size += len(end)
        return line, size

    @property
    def _line_feed(self) -> bytes:
        return b"\n" if self.width == 1 else "\n".encode(self.encoding)

    def _read_wide(self, file: BinaryIO, limit: int) -> bytes:
        line = b""
        while len(line) < limit and not line.endswith(self._line_feed) and (piece := file.readline(limit - len(line))):
            line += piece
            line += file.read(-len(line) % self.width)  # the byte of a line feed may be a part of another character
        return line

    def check(self, path: Path, lines: int, foreign: int, undecodable: int, has_option: bool) -> None:
        """Raises PrepError if the lines show that the file is in another encoding, and not that some of it is damaged.

        foreign: of the lines those with characters beyond ASCII; undecodable: those that are not of this encoding.
        """
        if undecodable > 1 and 2 * undecodable > foreign and 100 * undecodable > lines:
            raise self.refusal(path, f"{undecodable} of {foreign} lines with characters beyond ASCII are", has_option)

    def refusal(self, path: Path, part: str, has_option: bool) -> PrepError:
        """That a file is not in the encoding in which it was read, and how it can be. part: what of it is not, with its verb."""
        advice = f"{SAVE}, or say options.encoding=<what it was saved in>, such as {NAMES}" if has_option else SAVE
        return PrepError(f"{path}: {part} not {self.encoding.upper()}; {advice}")


class _LineFeeds(io.RawIOBase):
    """A file in which every carriage return is a line feed: as many bytes, so that offsets stay."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(data)] = data
        return len(data)


def check_encoding(encoding: str) -> str:
    """Python's name of an encoding; "" for none given. Raises PrepError."""
    if not encoding:
        return ""
    try:
        name = codecs.lookup(encoding).name
        "a".encode(name)  # LookupError for codecs that are none of texts
    except (LookupError, TypeError, ValueError):
        raise PrepError(f"options.encoding={encoding} is not known; known are utf-8, {NAMES}") from None
    return name


def detect(path: Path, file: BinaryIO, encoding: str) -> Text:
    """How a file is text, from its first bytes. Raises PrepError where it is none, or not in the encoding that is said.

    encoding: as `check_encoding` gives it; "" for that of the byte order mark, UTF-16 where zeros stand between letters,
    else UTF-8.
    """
    sample = file.read(SAMPLE_BYTES)
    for magic, kind in NO_TEXTS:
        if sample.startswith(magic):
            raise PrepError(f"{path} is no text but {kind}")
    bom, bom_encoding = next(((bom, name) for bom, name in BYTE_ORDER_MARKS if sample.startswith(bom)), (b"", ""))
    detected = bom_encoding or _zeros(sample)
    if not detected and encoding not in ("", "utf-8", "utf-8-sig") and not sample.isascii() and _is_utf8(sample):
        detected = "utf-8"
    if encoding and detected and not detected.startswith(encoding.removesuffix("-sig")):
        raise PrepError(f"{path} is in {detected.upper()}, but options.encoding is {encoding}; leave it out")
    name = detected or {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}.get(encoding, encoding)
    returns = b"\r" in sample and b"\n" not in sample and not name.startswith(("utf-16", "utf-32"))
    return Text(name or "utf-8", len(bom), returns)


def _zeros(sample: bytes) -> str:
    """UTF-16 without a byte order mark, by the places of its zeros; "" for everything else."""
    head = sample[: 2**12]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) < len(head) // 4 or min(even, odd) > len(head) // 64:
        return ""
    return ("utf-16-be" if even > odd else "utf-16-le") if head else ""


def _is_utf8(sample: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return True


class TooLong(Exception):
    """A line, or a record of several, has more bytes than are read."""


class Lines:
    """The lines of a file as text, from a place on, by records."""

    def __init__(self, text: Text, file: BinaryIO, offset: int, line: int = 1) -> None:
        self.text, self.line, self.offset = text, line, offset
        self._file = text.opened(file)
        self._file.seek(offset)
        self._read = partial(text.read_line, self._file)
        self._encoding = text.encoding
        self.texts: list[str] = []
        """Of the record so far."""
        self.foreign = self.undecodable = 0
        """Lines with characters beyond ASCII, and those that are not of the encoding."""
        self._first = self._size = 0
        """Bytes of the record: of its first line, of all."""

    def begin(self) -> tuple[int, int]:
        """Begin a record; its line and offset."""
        self.texts, self._first, self._size = [], 0, 0
        return self.line, self.offset

    def rewind(self) -> None:
        """Go back to the second line of the record."""
        if len(self.texts) > 1:
            self.line -= len(self.texts) - 1
            self.offset -= self._size - self._first
            self._file.seek(self.offset)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        data, size = self._read(MAX_LINE_BYTES)
        if not data:
            raise StopIteration
        try:
            text = data.decode(self._encoding)
        except UnicodeDecodeError:
            self.undecodable += 1
            text = self.text.decode(data)
        if not text.isascii():
            self.foreign += 1
        self.line += 1
        self.offset += size
        if not self.texts:
            self._first = size
        self.texts.append(text)
        self._size += size
        if self._size > MAX_LINE_BYTES:
            raise TooLong
        return text
