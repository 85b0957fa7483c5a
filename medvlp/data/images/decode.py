"""Image decoding: one set of rules for preparation, training, evaluation, `ask`, `check` and reports.

Decoders come from an allow-list; nothing is unpickled; pixels and shape are capped before decoding. An image is shown
upright, as its EXIF says; what is transparent lies on white; grey of more than 8 bits is scaled as `intensity` says.
Preparation applies the rules once, and encodes again what they change, so that other readers see it as well.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from medvlp.data.images.intensity import FULL, finite, significant_bits, to_eight_bits, value_range
from medvlp.shards import BadSample

FORMATS = ("JPEG", "PNG", "WEBP")

VERSION = "2"
"""Of the rules: what was computed from images under others is computed again."""

MAX_ASPECT = 50
"""Longer by shorter side. Towers resize the shorter side to hundreds of pixels, and the longer one by as much."""

GROUND = "white"
"""What lies under transparent pixels, as on a page."""

DARKEST = 64
"""Upper 8 of 16 bits of a colour that some pixel has to reach: with less, the lower 8 bits hold the picture."""

ORIENTATION = 0x0112
"""EXIF's tag; 1 is upright, 2 to 8 are turned or mirrored."""


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """An image as 8-bit grey (`L`) or `RGB`, whichever the file holds, by the rules above.

    Raises:
        BadSample: `too_many_pixels`, `extreme_aspect`, `several_frames`, `deep_colour`, or `undecodable_image` (truncated,
            damaged, or no JPEG, PNG or WebP).
    """
    return decode_with_changes(data, max_pixels)[0]


def decode_image(data: bytes, max_pixels: int) -> Image.Image:
    """`open_image`, always as RGB."""
    return open_image(data, max_pixels).convert("RGB")


def decode_with_changes(data: bytes, max_pixels: int) -> tuple[Image.Image, dict[str, Any]]:
    """`open_image` with what `render` says of it."""
    with damage_named():
        return render(with_header(data, max_pixels), data)


def with_header(data: bytes, max_pixels: int) -> Image.Image:
    """An image whose pixels are not read yet. Raises BadSample, and whatever Pillow raises for a damaged file."""
    with warnings.catch_warnings():
        # our own cap is checked below, before decoding
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    check_shape(image, max_pixels)
    return image


@contextmanager
def damage_named() -> Iterator[None]:
    """What Pillow raises for a file, as a BadSample."""
    try:
        yield
    except BadSample:
        raise
    except Image.DecompressionBombError as error:
        raise BadSample("too_many_pixels", detail=str(error)) from None
    except Exception as error:  # PIL's plugins raise OSError, SyntaxError, ValueError, struct.error and more
        raise BadSample("undecodable_image", detail=f"{type(error).__name__}: {error}") from None


def size_of(data: bytes) -> tuple[int, int]:
    """(height, width) of an image file by its header alone, turned as it will be shown.

    Raises:
        BadSample: `undecodable_image`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            is_turned = image.getexif().get(ORIENTATION, 1) >= 5
    except Exception as error:  # of PIL's plugins, of many kinds
        raise BadSample("undecodable_image", detail=f"{type(error).__name__}: {error}") from None
    return (width, height) if is_turned else (height, width)


def orientation_of_file(data: bytes) -> int:
    """EXIF's orientation of an image file, as `orientation_of`. Raises BadSample `undecodable_image`."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return orientation_of(image)
    except Exception as error:  # of PIL's plugins, of many kinds
        raise BadSample("undecodable_image", detail=f"{type(error).__name__}: {error}") from None


def check_shape(image: Image.Image, max_pixels: int) -> None:
    """Size, shape and frames of an image whose header was read. Raises BadSample."""
    check_size(*image.size, max_pixels)
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # a camera's previews stand behind the first
    if frames > 1:
        raise BadSample("several_frames", detail=f"it has {frames} frames, a sample's image has one")


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises BadSample: `too_many_pixels`, `extreme_aspect`."""
    if width * height > max_pixels:
        raise BadSample("too_many_pixels", detail=f"{width} × {height} pixels, the cap is {max_pixels}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadSample(
            "extreme_aspect", detail=f"{width} × {height} pixels; one side is at most {MAX_ASPECT} times the other"
        )


def render(
    image: Image.Image, data: bytes, limits: Sequence[float] = (), rescale: Sequence[float] = (1.0, 0.0)
) -> tuple[Image.Image, dict[str, Any]]:
    """(the image as `L` or `RGB`, what had to be changed: nothing for upright opaque images of 8 bits, or 16 in full use).

    {"orientation": EXIF's, "ground": "white", "values": [black, white], "rule": of `value_range`}.

    Args:
        image: opened, with or without its pixels.
        data: what it was opened from.
        limits: values shown black and white where there are more than 8 bits; by default the rules decide.
        rescale: slope and intercept that make the publisher's values of the pixels.
    Raises:
        BadSample: `deep_colour`. And whatever Pillow raises for a damaged file.
    """
    is_deep_colour = has_deep_colour(image)
    orientation = orientation_of(image)
    changes: dict[str, Any] = {} if orientation == 1 else {"orientation": orientation}
    image.load()
    if image.mode[0] in "IF":
        picture, scaling = _scaled(image, data, limits, rescale)
        changes |= scaling
    else:
        if is_deep_colour:
            check_brightness(image)
        picture = image
    alpha = _alpha(image)
    if alpha is not None:
        picture = Image.composite(picture.convert("RGB"), Image.new("RGB", image.size, GROUND), alpha)
        changes["ground"] = GROUND
    picture = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
    return (upright(picture, orientation) if orientation != 1 else picture), changes


def _scaled(
    image: Image.Image, data: bytes, limits: Sequence[float], rescale: Sequence[float]
) -> tuple[Image.Image, dict[str, Any]]:
    values_HW, low, high, rule = _windowed(image, data, limits, rescale)
    grey = Image.fromarray(to_eight_bits(values_HW, low, high))
    is_usual = (low, high) == FULL and rule != "option"
    return grey, {} if is_usual else {"values": [low, high], "rule": rule}


def _windowed(
    image: Image.Image, data: bytes, limits: Sequence[float] = (), rescale: Sequence[float] = (1.0, 0.0)
) -> tuple[np.ndarray, float, float, str]:
    """(values (H, W), the one shown black, the one shown white, rule)."""
    pixels_HW = np.asarray(image)
    values_HW = finite(pixels_HW) * rescale[0] + rescale[1]
    is_float = pixels_HW.dtype.kind == "f" or rescale[0] != 1
    return values_HW, *value_range(values_HW, significant_bits(data), limits, is_float)


def deep_values(
    image: Image.Image, data: bytes, limits: Sequence[float] = (), rescale: Sequence[float] = (1.0, 0.0)
) -> np.ndarray | None:
    """float32 (H, W) from 0 (black) to 255 (white) of an opened grey image of more than 8 bits, by the rules of `render` but
    without its rounding to 8 bits: within 1 of it. None for other images.

    limits, rescale: as of `render`.

    Raises whatever Pillow raises for a damaged file.
    """
    if image.mode[0] not in "IF":
        return None
    orientation = orientation_of(image)
    image.load()
    values_HW, low, high, _ = _windowed(image, data, limits, rescale)
    grey_HW: np.ndarray = np.clip((values_HW - low) * (255 / (high - low)), 0, 255).astype(np.float32)
    alpha = _alpha(image)
    if alpha is not None:
        opacity_HW = np.asarray(alpha, np.float32) / 255
        grey_HW = grey_HW * opacity_HW + 255 * (1 - opacity_HW)
    return np.asarray(upright(Image.fromarray(grey_HW), orientation)) if orientation != 1 else grey_HW


def _alpha(image: Image.Image) -> Image.Image | None:
    """Opacity (`L`), or None where nothing is transparent."""
    if not image.has_transparency_data:
        return None
    if image.mode.startswith("I"):  # Pillow converts no transparent value of 16 bits
        alpha = Image.fromarray(np.where(np.asarray(image) == image.info["transparency"], 0, 255).astype(np.uint8))
    else:
        alpha = image.convert("RGBA").getchannel("A")
    return None if alpha.getextrema()[0] == 255 else alpha


def orientation_of(image: Image.Image) -> int:
    """2 to 8 as EXIF says; 1 for whatever else it says, and where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF
            orientation = image.getexif().get(ORIENTATION, 1)
    except OSError:
        raise  # the pixels of a PNG, which are read before its EXIF
    except Exception:  # viewers show such a picture as it is encoded
        return 1
    return int(orientation) if orientation in range(2, 9) else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned or mirrored as EXIF's orientation says."""
    # exif_transpose writes again what EXIF it finds, which a broken file cannot: it finds the tag alone.
    bare = image.copy()
    bare.info = {}
    bare.getexif()[ORIENTATION] = orientation
    turned = ImageOps.exif_transpose(bare)
    turned.info = {}
    return turned


def has_deep_colour(image: Image.Image) -> bool:
    """Whether a file whose pixels are not read yet has 16 bits a colour, of which Pillow keeps the upper 8."""
    return image.mode[0] not in "IF" and ";16" in str(getattr(image, "tile", ""))


def check_brightness(image: Image.Image) -> None:
    """Raises BadSample deep_colour where the upper 8 of 16 bits are all but black."""
    extrema: Any = image.getextrema()
    channels = list(extrema) if isinstance(extrema[0], tuple) else [extrema]
    if len(channels) in (2, 4):
        channels.pop()  # opacity
    if max(high for _, high in channels) < DARKEST:
        raise BadSample(
            "deep_colour",
            detail="16 bits a colour, of which only the lower ones are used; scale it to 8 bits a colour",
        )


def changes_in_words(changes: dict[str, Any]) -> str:
    """What `render` changed, in words; empty for nothing."""
    words = []
    if "orientation" in changes:
        words.append(f"turned upright (EXIF orientation {changes['orientation']})")
    if "values" in changes:
        low, high = changes["values"]
        words.append(f"more than 8 bits: values from {low:g} (black) to {high:g} (white), by {changes['rule']}")
    if "ground" in changes:
        words.append(f"transparent pixels are {changes['ground']}")
    return "; ".join(words)
