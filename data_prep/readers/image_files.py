"""Images of publishers: their formats by content, and as shards can hold them (JPEG, PNG, WebP)."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_prep.errors import BadRow, NotAFile
from data_prep.readers.guarded import regular_only, spelled_below

if TYPE_CHECKING:
    from PIL import Image

MAX_IMAGE_BYTES = 256 * 2**20

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
"""Of files that are taken for images; what they are is told by their content."""

TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_WHITE_IS_ZERO = 258, 262, 0
"""Tags of TIFF 6.0, and the value of the second with which 0 is white."""

_MAGIC = ((b"\xff\xd8\xff", "jpg"), (b"\x89PNG\r\n\x1a\n", "png"))
_CONVERTED_MAGIC = ((b"GIF8", "gif"), (b"II*\0", "tif"), (b"MM\0*", "tif"), (b"BM", "bmp"))
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
        raise BadRow("empty_file", f"{name} has no bytes; copy it again")
    if extension is None:
        raise BadRow("image_format", f"{name} begins with {data[:8]!r}: neither JPEG, PNG nor WebP; convert it")
    return extension


class ShardImage(NamedTuple):
    """An image as a shard can hold it."""

    extension: str
    data: bytes
    reencoded_from: str = ""
    """The publisher's format, where it was none that shards hold; the data is then PNG."""
    rescale: tuple[float, float] = (1.0, 0.0)
    """Slope and intercept that make the publisher's values of the PNG's, where PNG could not hold them as they were."""

    @property
    def metadata(self) -> dict[str, Any]:
        """What the sample's metadata say of it; "rescale" is for `check_images`, which takes it out."""
        metadata: dict[str, Any] = {"reencoded_from": self.reencoded_from} if self.reencoded_from else {}
        return metadata | ({"rescale": {self.extension: list(self.rescale)}} if self.rescale != (1.0, 0.0) else {})


def shard_image(name: str, data: bytes) -> ShardImage:
    """The publisher's bytes if they are JPEG, PNG or WebP; GIF, TIFF and BMP become PNG, pixel for pixel.

    Grey values that PNG cannot hold (signed, of 32 bits, floating point) are moved into its 16 bits, and `rescale` says how.
    Raises BadRow: image_format (another format, several frames, or colours that PNG has not), deep_colour,
    broken_image.
    """
    extension = next((extension for magic, extension in _CONVERTED_MAGIC if data.startswith(magic)), None)
    if extension is None:
        return ShardImage(check_format(name, data), data)
    png, rescale = _as_png(name, data, extension)
    return ShardImage("png", png, extension, rescale)


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
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            if is_deep_colour:
                check_brightness(image)
    except BadRow:
        raise
    except BadSample as bad:
        raise BadRow(bad.reason, f"{name}: {bad.detail}") from None
    except Exception as error:  # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error, ...
        kind = f"{name} cannot be decoded as {extension} ({type(error).__name__})"
        raise BadRow("broken_image", f"{kind}; if other programs show it, save it as PNG") from None
    return buffer.getvalue(), (1.0, 0.0)


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
    png_values = np.rint((values - intercept) / slope).astype(np.uint16)
    return encode_png(png_values, bits if bits < 16 and high < 2**bits else 0), (slope, intercept)


def _has_second_frame(image: Image.Image) -> bool:
    # To count frames is to read all their headers, for which a small file may ask a hundred thousand times.
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def read_shard_image(folder: Path, name: str) -> ShardImage:
    """As read_image, for sources that publish other formats too. Raises BadRow as it and `shard_image` do."""
    return shard_image(name, read_below(folder, name))


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


def _with_ending(folder: Path, name: str) -> str:
    """For names that lack it, as many tables have them: that the picture is there with its ending."""
    stem, _, ending = name.rpartition(".")
    if stem and ending.isalnum():
        return ""
    names = (f"{name}{ending}" for ending in ENDINGS)
    return next((f"; {name} is: write names with their endings" for name in names if (folder / name).is_file()), "")
