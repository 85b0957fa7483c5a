"""JPEG straight into an array, by libjpeg-turbo. H, W: pixels."""

import numpy as np
import simplejpeg
from PIL import Image

MODES = {"Gray": "L", "YCbCr": "RGB", "RGB": "RGB"}
"""Colours of a file by libjpeg's name → Pillow's mode of it. Other files (CMYK, YCCK) have rules of their own in Pillow."""

REDUCTIONS = (8, 4, 2)
"""Of each side, which libjpeg's inverse transform makes of 8 × 8 coefficients as fast as it can."""


def is_plain(image: Image.Image, data: bytes) -> bool:
    """Whether Pillow's header and libjpeg's agree that it is one picture in 8-bit grey or colour."""
    if image.format != "JPEG":
        return False
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return False
    return MODES.get(colours) == image.mode and (width, height) == image.size


def decoded(data: bytes, reduction: int = 1) -> np.ndarray | None:
    """uint8 (H, W, 3), Pillow's values; None where libjpeg reports anything, such as a file that ends too early.

    reduction: 2, 4 or 8: of each side, rounded up, by an inverse transform of fewer coefficients (as Pillow's `draft`).
    """
    try:
        if reduction == 1:
            return simplejpeg.decode_jpeg(data, "RGB")
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        least_height, least_width = -(-height // reduction), -(-width // reduction)
        return simplejpeg.decode_jpeg(data, "RGB", min_height=least_height, min_width=least_width, min_factor=1)
    except ValueError:
        return None


def reduction_for(height: int, width: int, size: int) -> int:
    """The largest reduction that leaves at least `size` pixels of each side; 1 for none."""
    return next((reduction for reduction in REDUCTIONS if min(height, width) >= reduction * size), 1)
