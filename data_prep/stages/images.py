"""Checks of images: limits of size and shape, then the rules by which they are shown (medvlp/data/images/decode.py).

An image of which no pixel has to change keeps the publisher's bytes. One that has to be turned, laid on a ground or scaled
is encoded again, as PNG of 8 bits a channel (grey_bits=16: grey of more stays so); metadata "rendered" says what was done to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.draft import Draft, Drop, first_line
from data_prep.png import encode_png
from medvlp.data.images.decode import check_shape, deep_values, render
from medvlp.shards import BadSample
from medvlp.shards.schema import IMAGE_EXTENSIONS, MAX_MEMBER_NAME

if TYPE_CHECKING:
    from PIL import Image

STAGE = "check_images"

BLANK = 2.0
"""Standard deviation, in levels of 256, below which an image shows nothing: noise and compression make that of a blank."""

DARK, DARK_SHARE = 32, 0.999
"""Level that this share of the pixels of a nearly black image does not reach."""

RULES = {
    "option": "more than 8 bits, scaled by intensity",
    "header": "more than 8 bits, scaled by the bits that the file names",
    "bits": "more than 8 bits, of which fewer than 16 are used, scaled by these",
    "percentiles": "more than 8 bits, scaled from 0.1% to 99.9% of their own values",
}
"""Rule of `medvlp.data.images.intensity.value_range` → how the ledger counts it."""


def check_images(
    draft: Draft,
    max_pixels: int,
    min_side: int,
    max_aspect: float,
    intensity: Sequence[float] = (),
    grey_bits: int = 8,
) -> Draft:
    """Images as they are shown. Drops: too_many_pixels, too_small, extreme_aspect, several_frames, deep_colour,
    broken_image (it cannot be decoded to its last row), blank_image.

    intensity: values shown black and white of images of more than 8 bits; empty: as `value_range` decides.
    grey_bits: of these as they are stored, 8 or 16, which readers show alike.
    """
    rescales = draft.sample.metadata.pop("rescale", {})
    changed: dict[str, bytes] = {}
    rendered: dict[str, dict[str, Any]] = {}
    for name, picture in draft.pictures.items():
        width, height = picture.size
        if min(width, height) < min_side:
            raise Drop(STAGE, "too_small", f"{name} is {width} × {height}, min_side is {min_side}")
        if max(width, height) > max_aspect * min(width, height):
            raise Drop(STAGE, "extreme_aspect", f"{name} is {width} × {height}, max_aspect is {max_aspect:g}")
        try:
            check_shape(picture, max_pixels)
            window = (draft.sample.images[name], intensity, rescales.get(name, (1.0, 0.0)))
            view, changes = render(picture, *window)
            values_HW = deep_values(picture, *window) if "values" in changes and grey_bits == 16 else None
        except BadSample as bad:
            limit = f", max_pixels is {max_pixels}" if bad.reason == "too_many_pixels" else ""
            raise Drop(STAGE, bad.reason, f"{name} is {width} × {height}{limit}: {bad.detail}") from None
        except Exception as error:  # as in Draft.pictures: what a broken file raises depends on where it is broken
            raise Drop(STAGE, "broken_image", f"{name}: {first_line(error)}") from None
        _look(draft, name, view)
        if changes:
            changed[name] = encode_png(view if values_HW is None else np.rint(values_HW * 257).astype(np.uint16))
            rendered[name] = changes if values_HW is None else {**changes, "bits": grey_bits}
            _count(draft, changes)
    if changed:
        names = png_names(list(draft.sample.images), set(changed))
        draft.replace_images({names[name]: changed.get(name, data) for name, data in draft.sample.images.items()})
        draft.sample.metadata["rendered"] = {names[name]: changes for name, changes in rendered.items()}
    return draft


def _look(draft: Draft, name: str, view: Image.Image) -> None:
    """Raises Drop blank_image; counts what is nearly black."""
    counts_C256 = np.reshape(view.histogram(), (-1, 256))
    levels = np.arange(256)
    shares_C256 = counts_C256 / counts_C256.sum(axis=1, keepdims=True)
    means_C1 = (shares_C256 * levels).sum(axis=1, keepdims=True)
    deviation = float(np.sqrt((shares_C256 * (levels - means_C1) ** 2).sum(axis=1)).max())
    if deviation < BLANK:
        raise Drop(
            STAGE,
            "blank_image",
            f"{name}: nearly one value everywhere (standard deviation {deviation:.2g} of 255, least {BLANK:g})",
        )
    draft.count(STAGE, "nearly black images", int((shares_C256[:, :DARK].sum(axis=1) > DARK_SHARE).all()))


def _count(draft: Draft, changes: dict[str, Any]) -> None:
    draft.count(STAGE, "images turned as their EXIF says", int("orientation" in changes))
    draft.count(STAGE, "images with transparent pixels, laid on white", int("ground" in changes))
    if "rule" in changes:
        draft.count(STAGE, f"images of {RULES[changes['rule']]}")


def png_names(names: list[str], changed: set[str]) -> dict[str, str]:
    """Member names before → after. The changed are PNGs now; no two names become one, and their order stays.

    left.jpg becomes left.png, or, where that is taken or would stand elsewhere, left-jpg.png; in the worst case all of the
    sample's images are numbered.
    """
    ordered = sorted(names)
    renamed = [name for name in ordered if name in changed and not name.endswith("png")]
    for renaming in (
        {name: f"{name.rpartition('.')[0]}.png".lstrip(".") for name in renamed},
        {name: f"{name.replace('.', '-')}.png" for name in renamed},
    ):
        result = {name: renaming.get(name, name) for name in ordered}
        if list(result.values()) == sorted(set(result.values())) and max(map(len, result.values())) <= MAX_MEMBER_NAME:
            return result
    endings = ["png" if name in changed else next(e for e in IMAGE_EXTENSIONS if name.endswith(e)) for name in ordered]
    digits = len(str(len(ordered)))
    return {name: f"{n:0{digits}d}.{end}" for n, (name, end) in enumerate(zip(ordered, endings, strict=True))}


def measure(draft: Draft) -> Draft:
    """Width, height (pixels) and 64-bit pHash of the first image, for the table."""
    import imagehash

    if draft.pictures:
        view = draft.view(min(draft.pictures))
        draft.width, draft.height = view.size
        draft.perceptual_hash = str(imagehash.phash(view))
    return draft
