"""Reading a publisher's files as data that nobody vouches for: sizes are capped, and no name leads out of its folder."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import os
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from data_prep.errors import BadRow, NotAFile, PrepError
from data_prep.source import regular_only

if TYPE_CHECKING:
    from PIL import Image

MAX_IMAGE_BYTES = 256 * 2**20
MAX_JSON_BYTES = 4 * 2**30
"""Of a file that has to be parsed in one piece, which takes about ten times as much memory."""

MAX_LINE_BYTES = 16 * 2**20
"""Of a line in a file of JSON lines."""

MAX_TEXT = 100_000
"""Characters of a text; the longest captions in the literature have about 5,000. More is a fault of the file."""

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
"""Of files that are taken for images; what they are is told by their content."""

TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_WHITE_IS_ZERO = 258, 262, 0
"""Tags of TIFF 6.0, and the value of the second with which 0 is white."""

_MAGIC = ((b"\xff\xd8\xff", "jpg"), (b"\x89PNG\r\n\x1a\n", "png"))
_OTHER_MAGIC = ((b"GIF8", "gif"), (b"II*\0", "tif"), (b"MM\0*", "tif"), (b"BM", "bmp"))
"""Formats that shards do not hold, and that PNG can stand for without loss."""


def image_format(data: bytes) -> str | None:
    """jpg, png or webp by the first bytes, because publishers' extensions lie; None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((extension for magic, extension in _MAGIC if data.startswith(magic)), None)


def check_format(name: str, data: bytes) -> str:
    """The image's extension by content. Raises BadRow image_format where no decoder of ours would take it."""
    extension = image_format(data)
    if not data:
        raise BadRow("empty_file", f"{name} has no bytes; copy it anew")
    if extension is None:
        raise BadRow("image_format", f"{name} begins with {data[:8]!r}: neither JPEG, PNG nor WebP; convert it")
    return extension


class Picture(NamedTuple):
    """An image as a shard can hold it."""

    extension: str
    data: bytes
    reencoded_from: str = ""
    """The publisher's format, where it was none that shards hold; the data is then PNG."""
    rescale: tuple[float, float] = (1.0, 0.0)
    """Slope and intercept that make the publisher's values of the PNG's, where PNG could not hold them as they were."""

    @property
    def described(self) -> dict[str, Any]:
        """What the sample's metadata say of it; "rescale" is for `check_images`, which takes it out."""
        described: dict[str, Any] = {"reencoded_from": self.reencoded_from} if self.reencoded_from else {}
        return described | ({"rescale": {self.extension: list(self.rescale)}} if self.rescale != (1.0, 0.0) else {})


def picture_of(name: str, data: bytes) -> Picture:
    """The publisher's bytes if they are JPEG, PNG or WebP; GIF, TIFF and BMP become PNG, pixel for pixel.

    Grey values that PNG cannot hold (signed, of 32 bits, floating point) are moved into its 16 bits, and `rescale` says how.
    Raises BadRow: image_format (another format, several frames, or colours that PNG has not), deep_colour,
    broken_image.
    """
    extension = next((extension for magic, extension in _OTHER_MAGIC if data.startswith(magic)), None)
    if extension is None:
        return Picture(check_format(name, data), data)
    png, rescale = _as_png(name, data, extension)
    return Picture("png", png, extension, rescale)


def _as_png(name: str, data: bytes, extension: str) -> tuple[bytes, tuple[float, float]]:
    """(PNG, slope and intercept that make the file's values of its)."""
    from PIL import Image

    from medvlp.data.images.decode import check_brightness, has_deep_colour
    from medvlp.shards import BadSample

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with a file decides below
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=("GIF", "TIFF", "BMP"))
            if _has_second_frame(image):
                raise BadRow("image_format", f"{name} is a {extension} of several frames; give each its own file")
            if image.mode[0] in "IF":
                return _deep_png(image)
            is_deep_colour = has_deep_colour(image)
            if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
                raise BadRow("image_format", f"{name} is a {extension} of mode {image.mode}, which PNG cannot hold")
            written = io.BytesIO()
            image.save(written, "PNG")
            if is_deep_colour:
                check_brightness(image)
    except BadRow:
        raise
    except BadSample as bad:
        raise BadRow(bad.reason, f"{name}: {bad.detail}") from None
    except Exception as error:  # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error, ...
        kind = f"{name} cannot be decoded as {extension} ({type(error).__name__})"
        raise BadRow("broken_image", f"{kind}; if other programs show it, save it as PNG") from None
    return written.getvalue(), (1.0, 0.0)


def _deep_png(image: Image.Image) -> tuple[bytes, tuple[float, float]]:
    """A grey image of more than 8 bits as PNG of 16, with the significant bits of its header."""
    import numpy as np

    from data_prep.png import encode_png
    from medvlp.data.images.intensity import finite

    tags = getattr(image, "tag_v2", {})
    bits = int(tags.get(TIFF_BITS, (16,))[0])
    values = finite(np.asarray(image))
    low, high = float(values.min()), float(values.max())
    if tags.get(TIFF_PHOTOMETRIC) == TIFF_WHITE_IS_ZERO:  # Pillow heeds it up to 8 bits
        values = (2.0**bits - 1 if low >= 0 and high < 2.0**bits <= 65536 else high + low) - values
        low, high = float(values.min()), float(values.max())
    is_whole = bool((values == np.rint(values)).all())
    if is_whole and low >= 0 and high <= 65535:
        slope, intercept = 1.0, 0.0
    elif is_whole and high - low <= 65535:
        slope, intercept = 1.0, low
    else:
        slope, intercept = max((high - low) / 65535, 1e-30), low
    stored = np.rint((values - intercept) / slope).astype(np.uint16)
    return encode_png(stored, bits if bits < 16 and high < 2**bits else 0), (slope, intercept)


def _has_second_frame(image: Image.Image) -> bool:
    # To count frames is to read all their headers, for which a small file may ask a hundred thousand times.
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def read_picture(folder: Path, name: str) -> Picture:
    """As read_image, for sources that publish other formats too. Raises BadRow as it and `picture_of` do."""
    return picture_of(name, read_below(folder, name))


def read_image(folder: Path, name: str) -> tuple[str, bytes]:
    """(extension by content, bytes) of an image below the folder.

    Raises BadRow: bad_path (absolute, `..`, a link that leaves the folder, not a file), missing_image, image_too_large,
    image_format.
    """
    data = read_below(folder, name)
    return check_format(name, data), data


def read_below(folder: Path, name: str) -> bytes:
    """The bytes of an image below the folder, in any format. Raises BadRow: bad_path, missing_image, image_too_large."""
    path = spelled_below(folder, name)
    try:
        with open(path, "rb", opener=regular_only) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_IMAGE_BYTES:
                raise BadRow("image_too_large", f"{name} has {size} bytes, at most {MAX_IMAGE_BYTES} are read")
            return file.read()
    except FileNotFoundError:
        raise BadRow(
            "missing_image", f"{name} is not in the image folder {folder.name}/{_with_ending(folder, name)}"
        ) from None
    except NotAFile:
        raise BadRow("bad_path", f"{name[:80]} is not a regular file") from None


def spelled_below(folder: Path, name: str) -> Path:
    """The real path of a name, or of the file that spells it in another way: accents apart from letters (Mac), or in
    the bytes of Windows. Raises BadRow bad_path."""
    path = resolve_below(folder, name)
    if name.isascii() or path.exists():
        return path
    spellings = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    with suppress(UnicodeEncodeError):
        spellings.append(os.fsdecode(unicodedata.normalize("NFC", name).encode("cp1252")))
    others = (resolve_below(folder, spelling) for spelling in spellings if spelling != name)
    return next((other for other in others if other.exists()), path)


def _with_ending(folder: Path, name: str) -> str:
    """For names that lack it, as many tables have them: that the picture is there with its ending."""
    stem, _, ending = name.rpartition(".")
    if stem and ending.isalnum():
        return ""
    names = (f"{name}{ending}" for ending in ENDINGS)
    return next((f"; {name} is: write names with their endings" for name in names if (folder / name).is_file()), "")


@lru_cache(maxsize=64)
def _real(folder: Path) -> str:
    return os.path.realpath(folder)


def resolve_below(folder: Path, name: str) -> Path:
    """The real path of a name that has to lie in the folder. Raises BadRow bad_path."""
    if "\0" in name or "\\" in name or name.startswith("/") or ".." in name.split("/") or not name.strip("./ "):
        raise BadRow("bad_path", f"{name!r} is not a relative path that stays in the image folder")
    try:
        path = Path(os.path.realpath(folder / name))
        inside = path.is_relative_to(_real(folder))
    except (OSError, UnicodeEncodeError) as error:  # names too long, links in a circle, lone surrogates
        raise BadRow("bad_path", f"{name[:80]!r} cannot be a path ({type(error).__name__})") from None
    if not inside:
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
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            listing.append(f"{os.path.relpath(path, folder)}\t{os.lstat(path).st_size}")
    return hashlib.sha256("\n".join(sorted(listing)).encode("utf-8", "surrogateescape")).hexdigest()


def read_json_list(path: Path) -> list[tuple[int, Any]]:
    """(number from 1, entry) of a JSON file that holds a list. Raises PrepError with the place of what is wrong."""
    with open(path, "rb", opener=regular_only) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_JSON_BYTES:
            raise PrepError(
                f"{path} has {size} bytes, at most {MAX_JSON_BYTES} are parsed in one piece; use JSON lines"
            )
        data = file.read()
    try:
        content = json.loads(data.decode(json.detect_encoding(data)))  # UTF-16 and UTF-32 too
    except UnicodeDecodeError as error:
        raise PrepError(
            f"{path} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}; convert the file to UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        hint = "call it .jsonl if each line is an entry" if error.msg == "Extra data" else "mend it, or get it anew"
        raise PrepError(f"{path} line {error.lineno} column {error.colno} is not JSON: {error.msg}; {hint}") from None
    except (RecursionError, ValueError) as error:  # ValueError: an integer of thousands of digits
        raise PrepError(f"{path} cannot be parsed ({error}); get the publisher's file anew") from None
    if not isinstance(content, list):
        raise PrepError(f"{path} holds a {type(content).__name__}, expected a list of entries")
    return list(enumerate(content, start=1))


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


def text_of(entry: dict[str, Any], key: str) -> str:
    """A text of an entry, without white space at its ends; numbers become text, since publishers mix both.

    Raises BadRow: missing_<key>, empty_<key>, bad_<key>, long_<key>, not_utf8, where <key> is in lower case, blanks as
    underscores.
    """
    suffix = key.lower().replace(" ", "_")
    value = entry.get(key)
    if value is None:
        raise BadRow(f"missing_{suffix}", f"{key} is {'null' if key in entry else 'missing'}")
    text = as_text(value)
    if text is None:
        raise BadRow(f"bad_{suffix}", f"{key} is {described(value)}, expected a text or a number")
    if len(text) > MAX_TEXT:
        raise BadRow(f"long_{suffix}", f"{key} has {len(text)} characters, at most {MAX_TEXT} are read")
    if not check_utf8(text, key).strip():
        raise BadRow(f"empty_{suffix}", f"{key} is empty")
    return text.strip()


def as_text(value: Any) -> str | None:
    """A text as it is, a finite number as text, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else str(value)


def plain(value: Any) -> Any:
    """A text, number or truth value that a sample can hold, lists without their other items; None for the rest.

    For what goes along with a sample (labels, citations): its faults should not cost the sample.
    """
    if isinstance(value, list):
        return [item for item in map(plain, value) if item is not None and not isinstance(item, list)]
    if isinstance(value, str):
        encodable = len(value) <= MAX_TEXT and not any("\ud800" <= c <= "\udfff" for c in value)
        return value.strip() if encodable else None
    return value if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)) else None


def described(value: Any) -> str:
    """What a wrong value is, for an error: its type, or itself where it is a number that is none."""
    return str(value) if isinstance(value, float) else f"a {type(value).__name__}"


def check_utf8(text: str, where: str) -> str:
    """The text. Raises BadRow not_utf8 for lone surrogates, which escapes in JSON and undecodable bytes leave."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - 0xDC00
        if not 0x80 <= byte <= 0xFF:
            raise BadRow("not_utf8", f"{where} cannot be written as UTF-8 (character {error.start})") from None
        meant = bytes([byte]).decode("cp1252", "replace")
        raise BadRow(
            "not_utf8", f"{where}: byte 0x{byte:02x} is not UTF-8, in cp1252 {meant!r}; save the file as UTF-8"
        ) from None
    return text
