"""Altered copies of pictures, as they come about in republishing, to be planted and found again."""

import io
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageEnhance


def encoded(picture: Image.Image, quality: int = 90) -> bytes:
    """A JPEG of the picture."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def cropped(picture: Image.Image, share: float) -> Image.Image:
    """The picture without this share of its side at each edge."""
    width, height = picture.size
    across, down = round(width * share), round(height * share)
    return picture.crop((across, down, width - across, height - down))


def half_size(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC)


def lettered(picture: Image.Image) -> Image.Image:
    """A white L near the upper left corner, a tenth of the height tall."""
    picture = picture.copy()
    white = 255 if picture.mode == "L" else (255, 255, 255)
    corner = (picture.width * 0.05, picture.height * 0.05)
    ImageDraw.Draw(picture).text(corner, "L", fill=white, font_size=max(12, picture.height // 10))
    return picture


ALTERED: dict[str, Callable[[Image.Image], bytes]] = {
    "quality_60": lambda picture: encoded(picture, 60),
    "half": lambda picture: encoded(half_size(picture)),
    "grey": lambda picture: encoded(picture.convert("L")),
    "brighter": lambda picture: encoded(ImageEnhance.Brightness(picture).enhance(1.1)),
    "cropped_2": lambda picture: encoded(cropped(picture, 0.02)),
    "cropped_4": lambda picture: encoded(cropped(picture, 0.04)),
    "lettered": lambda picture: encoded(lettered(picture)),
}
"""Kind → the bytes of such a copy."""


def plant(data: bytes, kind: str) -> bytes:
    """An altered copy of an encoded picture; "unaltered" are the bytes themselves."""
    return data if kind == "unaltered" else ALTERED[kind](Image.open(io.BytesIO(data)))
