"""JPEG straight into an array, by libjpeg-turbo. H, W: pixels; C: 1 for grey, 3 for colour."""

import numpy as np
import simplejpeg
from PIL import Image

MODES = {"Gray": "L", "YCbCr": "RGB", "RGB": "RGB"}
"""Colours of a file by libjpeg's name → Pillow's mode of it. Other files (CMYK, YCCK) have rules of their own in Pillow."""

REDUCTIONS = (8, 4, 2)
"""Of each side, which libjpeg's inverse transform makes of 8 × 8 coefficients as fast as it can."""

TABLES = {0xDB: 0, 0xC4: 0, 0xDD: 4, 0xFE: 2, 0xE0: 16, 0xEE: 14}
"""Segments that change neither size nor orientation (tables, restarts, comments, JFIF's and Adobe's marks) → the least length at
which Pillow takes them for whole. Others may hold EXIF, XMP or more pictures, which Pillow reads."""

FRAMES = (0xC0, 0xC1, 0xC2)
"""Segments with the size: baseline, extended and progressive."""

SCAN, PRECISION = 0xDA, 8


def is_plain(image: Image.Image, data: bytes) -> bool:
    """Whether Pillow's header and libjpeg's agree that it is one picture in 8-bit grey or colour."""
    if image.format != "JPEG":
        return False
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return False
    return MODES.get(colours) == image.mode and (width, height) == image.size


def plain_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a file whose header has nothing but tables and one frame in 8-bit grey or colour, which `is_plain` and
    whose orientation is 1; None where it has more, so that only Pillow can tell."""
    if not data.startswith(b"\xff\xd8"):
        return None
    size, position = None, 2
    try:
        while data[position] == 0xFF:
            marker = data[position + 1]
            length = int.from_bytes(data[position + 2 : position + 4], "big")
            if marker == SCAN:
                break
            if marker in FRAMES and size is None and data[position + 4] == PRECISION:
                height, width = data[position + 5 : position + 7], data[position + 7 : position + 9]
                size = int.from_bytes(height, "big"), int.from_bytes(width, "big")
            elif length < TABLES.get(marker, 2**16):
                return None
            position += 2 + length
        else:
            return None
        height_again, width_again, colours, _ = simplejpeg.decode_jpeg_header(data)
    except (IndexError, ValueError):
        return None
    return size if size == (height_again, width_again) and colours in MODES else None


def decoded(data: bytes, reduction: int = 1) -> np.ndarray | None:
    """uint8 (H, W, C), Pillow's values; None where libjpeg reports anything, such as a file that ends too early.

    reduction: 2, 4 or 8: of each side, rounded up, by an inverse transform of fewer coefficients (as Pillow's `draft`).
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        space = "GRAY" if colours == "Gray" else "RGB"
        if reduction == 1:
            return simplejpeg.decode_jpeg(data, space)
        least_height, least_width = -(-height // reduction), -(-width // reduction)
        return simplejpeg.decode_jpeg(data, space, min_height=least_height, min_width=least_width, min_factor=1)
    except ValueError:
        return None


def reduction_for(height: int, width: int, size: int) -> int:
    """The largest reduction that leaves at least `size` pixels of each side; 1 for none."""
    return next((reduction for reduction in REDUCTIONS if min(height, width) >= reduction * size), 1)
