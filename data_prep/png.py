"""Pixels as PNG, without loss; the same pixels give the same bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image


def encode_png(pixels: np.ndarray | Image.Image, bits: int = 16) -> bytes:
    """A picture, or uint8 (H, W), (H, W, 3) or uint16 (H, W), as PNG.

    bits: significant ones of 16-bit grey, which sBIT tells readers: with all 16 they scale nothing; 0: nobody knows.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    picture = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    chunks = PngInfo()
    if picture.mode.startswith("I") and bits:
        chunks.add(b"sBIT", bytes([bits]))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=False, compress_level=6, pnginfo=chunks)
    return buffer.getvalue()
