"""Text that is burnt into pixels, found by an OCR's detector and blacked out, whatever it says.

The detector is PP-OCRv4's (differentiable binarisation, Liao et al. 2020), whose model comes in the wheel of
rapidocr-onnxruntime. Thresholds are lower than its own: a black bar too many costs less than a name. It looks along rows,
so every image is also looked at turned by a quarter. A box in the shape of a small line is text, whether or not it can be
read; anatomy makes squat boxes, tall ones and huge ones, which are text only if the recogniser reads something in them. An
image that would lose more than a share of its pixels is dropped, unless somebody asks for it.

What is transparent is looked at three times: its colours alone, as training may see them, and laid over white and over
black, where text shows that is in the alpha channel. An image of several frames is dropped: of these one is looked at.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.draft import FORMATS, Draft, Drop, first_line
from data_prep.png import encode_png

if TYPE_CHECKING:
    from PIL import Image

SHORTER_SIDE, MOST_ENLARGED = 736, 2.0
"""Pixels to which a smaller image is enlarged for the detector, and at most how much: beyond, anatomy looks like letters."""

LONGER_SIDE = 2000
"""Pixels to which a larger one is reduced."""

MOST_ASPECT = 50
"""Longer by shorter side; a thinner strip is continued at its edge, or the reduction would leave nothing of it."""

THRESHOLDS = {"det_thresh": 0.2, "det_box_thresh": 0.3}
"""Of a pixel and of a box; the detector's own are 0.3 and 0.5."""

GROWTH_AT_ENDS, GROWTH_AT_SIDES = 1.0, 0.25
"""What a box grows by at its ends and at its sides, in heights of its text: the detector cuts last letters short."""

MIN_GROWTH = 2
"""Pixels."""

LINE, LINE_HEIGHT = 2.5, 0.2
"""Length by height from which a box is a line of text, and the height, as a share of the image's shorter side, up to which
it is one."""

UNREAD_HEIGHT, UNREAD_AREA = 0.12, 0.03
"""A line taller than this share of the shorter side, or larger than this share of the image, is text only if it can be read:
letters of that size can be, and spines, ribs and airways cannot."""

SQUAT_HEIGHT = 0.15
"""Share of the shorter side up to which a squat box may be a letter or two."""

LEGIBLE, HUGE_LETTERS = 0.5, 3
"""Confidence of reading from which a squat or huge box is text, and how many letters or digits a huge one has to have."""

SHARES = ((0.01, "up to 1%"), (0.05, "1% to 5%"), (0.1, "5% to 10%"), (1.0, "more than 10%"))
"""Of an image's pixels, as the ledger counts what images lost."""

SETTINGS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "WEBP": {"lossless": True},
}
"""Of the encoders."""


def deidentify_pixels(draft: Draft, most: float = 1.0) -> Draft:
    """Black out text in the sample's images. An image without text keeps its bytes. Drops: several_frames, broken_image,
    too_much_text (more than the share `most` of an image would be black).

    Metadata "blacked" has each image's share. An image that had text is encoded again in its format: PNG and WebP
    without loss, JPEG at quality 95 without subsampling of colour. Its boxes are opaque.
    """
    changed = {}
    shares: dict[str, float] = {}
    for name, picture in draft.pictures.items():
        need_one_frame(name, picture)
        with broken_images_dropped("deidentify_pixels", name):
            arrays = views(picture)
        boxes = [box for pixels in arrays for box in find_text(pixels)]
        if boxes:
            shares[name] = round(float(mask_of(boxes, picture.size).mean()), 4)
            if shares[name] > most:
                raise Drop(
                    "deidentify_pixels",
                    "too_much_text",
                    f"{name}: text covers {shares[name]:.1%} of it, max_blacked is {most:.1%}; look at the image, and raise "
                    "max_blacked if it is text indeed",
                )
            with broken_images_dropped("deidentify_pixels", name):
                changed[name] = encode(black_out(picture, boxes), name)
            draft.count("deidentify_pixels", "images with text")
            draft.count("deidentify_pixels", "boxes blacked out", len(boxes))
            draft.count("deidentify_pixels", f"images that lost {next(s for b, s in SHARES if shares[name] <= b)}")
    if changed:
        draft.replace_images({**draft.sample.images, **changed})
        draft.sample.metadata["blacked"] = shares
    return draft


def need_one_frame(name: str, picture: Image.Image) -> None:
    """Raises Drop several_frames: to show only the first frame would be to change what was published."""
    with broken_images_dropped("deidentify_pixels", name):
        frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise Drop("deidentify_pixels", "several_frames", f"{name} has {frames} frames, and text is looked for in one")


@contextmanager
def broken_images_dropped(stage: str, name: str) -> Iterator[None]:
    """What Pillow raises over an image, whatever it is, as Drop broken_image."""
    try:
        yield
    except Exception as error:  # as in Draft.pictures: it depends on where the file is broken
        raise Drop(stage, "broken_image", f"{name}: {first_line(error)}") from None


def find_text(pixels: np.ndarray) -> list[np.ndarray]:
    """Quadrilaterals around text, float32 (4, 2) of x and y, grown by a margin. pixels: uint8 (H, W, 3)."""
    width = pixels.shape[1]
    # Turned counter-clockwise by a quarter, the pixel (x, y) is at (y, width - 1 - x).
    turned = [
        np.stack([width - 1 - box[:, 1], box[:, 0]], axis=1) for box in _detect(np.ascontiguousarray(np.rot90(pixels)))
    ]
    return [grown(box) for box in [*_detect(pixels), *turned]]


def _detect(pixels: np.ndarray) -> list[np.ndarray]:
    """The boxes of text along rows: corners clockwise from the upper left."""
    import cv2

    shorter = min(pixels.shape[:2])
    scale = min(max(SHORTER_SIDE / shorter, 1.0), MOST_ENLARGED)
    if scale > 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    height, width = pixels.shape[:2]
    least = -(-max(height, width) // MOST_ASPECT)
    if min(height, width) < least:
        rows, columns = max(least - height, 0), max(least - width, 0)
        pixels = cv2.copyMakeBorder(pixels, 0, rows, 0, columns, cv2.BORDER_REPLICATE)
    detections, _ = _reader()(pixels, use_det=True, use_cls=False, use_rec=False)
    boxes = []
    for corners in detections or ():
        box = np.asarray(corners, np.float32)
        text, confidence = "", 0.0
        shape = _shape(box, shorter * scale, height * width)
        if shape != "line":
            text, confidence = _read(pixels, box)
        if _is_text(shape, text, confidence):
            boxes.append(box / scale)
    return boxes


def _shape(box: np.ndarray, shorter: float, area: float) -> str:
    """line, tall line, squat or huge, in an image with that shorter side and area (pixels)."""
    sides = sorted((float(np.linalg.norm(box[1] - box[0])), float(np.linalg.norm(box[3] - box[0]))))
    height, length = sides[0] / shorter, sides[1] / max(sides[0], 1e-6)
    if length >= LINE:
        if height > LINE_HEIGHT:
            return "huge"
        return "line" if height <= UNREAD_HEIGHT and sides[0] * sides[1] <= UNREAD_AREA * area else "tall line"
    return "squat" if height <= SQUAT_HEIGHT else "huge"


def _is_text(shape: str, text: str, confidence: float) -> bool:
    letters = sum(character.isalnum() for character in text)
    needed = {"line": 0, "tall line": 2, "squat": 1, "huge": HUGE_LETTERS}[shape]
    return shape == "line" or (confidence >= LEGIBLE and letters >= needed)


def _read(pixels: np.ndarray, box: np.ndarray) -> tuple[str, float]:
    """(what the upright rectangle around the box says, confidence); of a high one, the better of two ways to lay it down."""
    low, high = np.maximum(box.min(axis=0), 0).astype(int), np.ceil(box.max(axis=0)).astype(int)
    crop = pixels[low[1] : high[1] + 1, low[0] : high[0] + 1]
    if not crop.size:
        return "", 0.0
    is_high = crop.shape[0] > LINE * crop.shape[1]
    readings = []
    for laid in (np.rot90(crop), np.rot90(crop, 3)) if is_high else (crop,):
        read, _ = _reader()(np.ascontiguousarray(laid), use_det=False, use_cls=False, use_rec=True)
        readings.append((str(read[0][0]).strip(), float(read[0][1])) if read else ("", 0.0))
    return max(readings, key=lambda reading: reading[1])


@lru_cache(maxsize=1)
def _reader() -> Any:
    """The OCR, on one thread: a pool of processes uses the cores, and sums are added in one order."""
    import cv2
    from rapidocr_onnxruntime import RapidOCR

    cv2.setNumThreads(1)
    return RapidOCR(
        intra_op_num_threads=1,
        inter_op_num_threads=1,
        max_side_len=LONGER_SIDE,
        det_limit_side_len=32,  # it enlarges by itself, without bound
        text_score=0.0,  # the reader would leave out boxes that it cannot read
        **THRESHOLDS,
    )


def grown(box: np.ndarray) -> np.ndarray:
    """The box with its margin, which the shorter of its sides decides."""
    x_axis, y_axis = box[1] - box[0], box[3] - box[0]
    width, height = float(np.linalg.norm(x_axis)), float(np.linalg.norm(y_axis))
    x_axis, y_axis = x_axis / max(width, 1e-6), y_axis / max(height, 1e-6)
    letter = min(width, height)
    x_growth, y_growth = (max(share * letter, MIN_GROWTH) for share in (GROWTH_AT_ENDS, GROWTH_AT_SIDES))
    if width < height:
        x_growth, y_growth = y_growth, x_growth
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float32)
    wider: np.ndarray = box + signs[:, :1] * x_growth * x_axis + signs[:, 1:] * y_growth * y_axis
    return wider


def views(picture: Image.Image) -> list[np.ndarray]:
    """What the detector looks at, uint8 (H, W, 3) each: the colours and, unless all is opaque, these on white and black."""
    from PIL import Image

    colours, alpha = grey_or_colour(picture), _alpha(picture)
    if alpha.min() == 255:
        return [colours]
    colours_alpha = Image.fromarray(np.dstack([colours, alpha]))
    grounds = (Image.new("RGBA", colours_alpha.size, colour) for colour in ("white", "black"))
    return [colours, *(np.asarray(Image.alpha_composite(ground, colours_alpha).convert("RGB")) for ground in grounds)]


def _alpha(picture: Image.Image) -> np.ndarray:
    """Opacity, uint8 (H, W)."""
    if not picture.has_transparency_data:
        return np.full(picture.size[::-1], 255, np.uint8)
    if picture.mode.startswith("I"):  # Pillow converts no transparent value of 16 bits
        return np.where(np.asarray(picture) == picture.info["transparency"], 0, 255).astype(np.uint8)
    return np.asarray(picture.convert("RGBA").getchannel("A"))


def grey_or_colour(picture: Image.Image) -> np.ndarray:
    """The colours without their opacity: uint8 (H, W, 3)."""
    if picture.mode[0] in "IF":
        # From lowest to highest: in 16 bits there are often 12 or fewer, whose upper 8 of 16 show next to nothing.
        values = np.nan_to_num(np.asarray(picture).astype(np.float64), posinf=0, neginf=0)
        low, high = values.min(), values.max()
        grey = np.rint((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.asarray(picture.convert("RGB"))


def mask_of(boxes: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """bool (H, W): inside one of the boxes. size: width and height."""
    import cv2

    mask = np.zeros(size[::-1], np.uint8)
    for box in boxes:
        cv2.fillConvexPoly(mask, np.rint(box).astype(np.int32), 1)
    return mask > 0


def black_out(picture: Image.Image, boxes: list[np.ndarray]) -> Image.Image:
    """The picture with the boxes filled in black; palettes become colours, and 32 bits the 16 that are in use."""
    from PIL import Image

    if picture.mode.startswith("I"):
        pixels = np.asarray(picture).astype(np.int64).clip(0, 65535).astype(np.uint16)
    elif picture.mode == "RGBA" or (picture.mode in ("L", "RGB") and not picture.has_transparency_data):
        pixels = np.array(picture)
    elif picture.mode == "1" and not picture.has_transparency_data:
        pixels = np.array(picture.convert("L"))
    else:
        pixels = np.array(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))
    pixels[mask_of(boxes, picture.size)] = (0, 0, 0, 255)[: pixels.shape[2]] if pixels.ndim == 3 else 0
    return Image.fromarray(pixels)


def encode(picture: Image.Image, name: str) -> bytes:
    """The picture in the format of its member name, and nothing else: no EXIF, no comments."""
    form = FORMATS[name.rpartition(".")[2]]
    buffer = io.BytesIO()
    if form == "PNG":
        return encode_png(picture)
    (picture.convert("RGB") if form == "JPEG" and picture.mode == "RGBA" else picture).save(
        buffer, form, **SETTINGS[form]
    )
    return buffer.getvalue()
