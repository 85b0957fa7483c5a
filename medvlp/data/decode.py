"""From bytes to an image. Decoders come from an allow-list; nothing is unpickled; pixels are capped before decoding."""

import io
import warnings

from PIL import Image

from medvlp.shards import BadSample

FORMATS = ("JPEG", "PNG", "WEBP")


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """Decode to 8-bit grey (`L`) or `RGB`, whichever the file holds.

    16-bit grey keeps its upper 8 bits (PIL's own conversion would clip everything above 255 to white).
    Transparent pixels are laid over black.

    Raises:
        BadSample: `too_many_pixels`, or `undecodable_image` (truncated, damaged, or no JPEG, PNG or WebP).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", Image.DecompressionBombWarning
            )  # our own cap is checked below, before decoding
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise BadSample("too_many_pixels", detail=f"{width} × {height} pixels, the cap is {max_pixels}")
        image.load()
    except BadSample:
        raise
    except Image.DecompressionBombError as error:
        raise BadSample("too_many_pixels", detail=str(error)) from None
    except Exception as error:  # PIL's plugins raise OSError, SyntaxError, ValueError, struct.error and more
        raise BadSample("undecodable_image", detail=f"{type(error).__name__}: {error}") from None
    if image.mode.startswith("I"):
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        opaque = Image.new("RGBA", image.size, (0, 0, 0, 255))
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def decode_image(data: bytes, max_pixels: int) -> Image.Image:
    """`open_image`, always as RGB."""
    return open_image(data, max_pixels).convert("RGB")
