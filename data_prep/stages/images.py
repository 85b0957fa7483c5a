"""Stages that look at pixels and leave them as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from data_prep.stages.draft import Draft, Drop, first_line

if TYPE_CHECKING:
    from PIL import Image


def check_images(draft: Draft, max_pixels: int, min_side: int, max_aspect: float) -> Draft:
    """Drop samples with an image that is huge, tiny, a mere strip, blank, or cannot be decoded to its last row."""
    for name, picture in draft.pictures.items():
        width, height = picture.size
        if width * height > max_pixels:
            raise Drop("check_images", "too_many_pixels", f"{name} is {width} × {height}, max_pixels is {max_pixels}")
        if min(width, height) < min_side:
            raise Drop("check_images", "too_small", f"{name} is {width} × {height}, min_side is {min_side}")
        if max(width, height) > max_aspect * min(width, height):
            raise Drop("check_images", "extreme_aspect", f"{name} is {width} × {height}, max_aspect is {max_aspect:g}")
        try:
            picture.load()
        except Exception as error:  # as in Draft.pictures: what a broken file raises depends on where it is broken
            raise Drop("check_images", "broken_image", f"{name}: {first_line(error)}") from None
        if all(low == high for low, high in _extrema(picture)):
            raise Drop("check_images", "blank_image", f"{name}: all its pixels have one value")
    return draft


def _extrema(picture: Image.Image) -> list[tuple[float, float]]:
    if picture.mode == "P":  # palette indices are not values: two indices can be one colour
        picture = picture.convert("RGBA")
    found: Any = picture.getextrema()
    return list(found) if isinstance(found[0], tuple) else [found]


def measure(draft: Draft) -> Draft:
    """Width, height (pixels) and 64-bit pHash of the first image, for the table."""
    import imagehash

    if draft.pictures:
        picture = draft.pictures[min(draft.pictures)]
        draft.width, draft.height = picture.size
        if picture.mode.startswith("I"):  # 16 bits: keep the upper 8, as in training; PIL would clip them to white
            picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        draft.perceptual_hash = str(imagehash.phash(picture))
    return draft
