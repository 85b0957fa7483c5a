"""What a model sees of an image: the window that its processor cuts or pads, and the pixels that it makes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from medvlp.boxes.canonical import Box, beyond, clipped, within

IMAGE_WINDOW: Box = (0.0, 0.0, 1.0, 1.0)
WINDOWS = ("whole", "crop", "pad")


@dataclass(frozen=True)
class View:
    """What is seen of one image.

    window: as shares of the image; beyond it where the image is padded, within it where it is cropped.
    width, height: pixels that the window becomes; 0 where nobody knows.
    """

    window: Box = IMAGE_WINDOW
    width: int = 0
    height: int = 0

    def of_image(self, box: Box) -> Box | None:
        """A box of the image → what of it is seen, in shares of the view; None where nothing is."""
        return clipped(within(box, self.window))

    def to_image(self, box: Box) -> Box:
        """A box in shares of the view → of the image. It may reach beyond it."""
        return beyond(box, self.window)


@dataclass(frozen=True)
class Geometry:
    """How a processor lays images out: a rule from the size of an image to its view.

    window: whole (all of the image, squashed or not); crop (its shorter side becomes `resized`, then the middle is cut); pad (the
        image stands in the middle of a square).
    width, height: pixels of the result; 0 where they depend on the image in a way that nobody told.
    resized: of crop, pixels of the shorter side before the cut.
    factor, least, most: of a processor that keeps the shape of images: multiples of so many pixels a side, and so many pixels in
        all (Qwen2-VL); 0 for others.
    """

    window: str = "whole"
    width: int = 0
    height: int = 0
    resized: int = 0
    factor: int = 0
    least: int = 0
    most: int = 0

    def view(self, width: int, height: int) -> View:
        """Of an image of so many pixels."""
        if self.window == "pad":
            side = max(width, height)
            x0, y0 = (side - width) // 2, (side - height) // 2
            window = -x0 / width, -y0 / height, (side - x0) / width, (side - y0) / height
            return View(window, self.width, self.height)
        if self.window == "crop":
            scale = self.resized / min(width, height)
            wide, high = int(width * scale), int(height * scale)
            wide, high = (self.resized, high) if width <= height else (wide, self.resized)
            x0, y0 = _begin(wide, self.width), _begin(high, self.height)
            return View(
                (x0 / wide, y0 / high, (x0 + self.width) / wide, (y0 + self.height) / high),
                self.width,
                self.height,
            )
        if self.factor:
            return View(IMAGE_WINDOW, *_kept_shape(width, height, self.factor, self.least, self.most))
        return View(IMAGE_WINDOW, self.width, self.height)


def _begin(size: int, cut: int) -> int:
    return (size - cut) // 2 if size >= cut else -((cut - size + 1) // 2)


def _kept_shape(width: int, height: int, factor: int, least: int, most: int) -> tuple[int, int]:
    """(width, height) of an image resized as Qwen2-VL's processor does: multiples of `factor`, from `least` to `most` pixels."""
    wide, high = (round(side / factor) * factor for side in (width, height))
    if wide * high > most:
        shrinking = math.sqrt(width * height / most)
        wide, high = (max(factor, math.floor(side / shrinking / factor) * factor) for side in (width, height))
    elif wide * high < least:
        growth = math.sqrt(least / (width * height))
        wide, high = (math.ceil(side * growth / factor) * factor for side in (width, height))
    return wide, high


def geometry_of(processor: Any) -> Geometry:
    """Of an image processor of transformers, by its settings.

    One that cuts images into tiles, or that is not known, shows the whole image in pixels that nobody told.
    """
    name = type(processor).__name__
    size, crop = _sides(getattr(processor, "size", None)), _sides(getattr(processor, "crop_size", None))
    if name.startswith(("Qwen2VL", "Qwen3VL")):
        factor = int(processor.patch_size) * int(processor.merge_size)
        return Geometry(factor=factor, least=int(size["shortest_edge"]), most=int(size["longest_edge"]))
    if not name.startswith(("CLIP", "Siglip", "ViT", "Bit", "DeiT", "Llava")) or name.startswith(
        ("LlavaNext", "LlavaOne")
    ):
        return Geometry()
    is_cut = bool(getattr(processor, "do_center_crop", False)) and "height" in crop
    final = crop if is_cut else size
    width, height = int(final.get("width", 0)), int(final.get("height", 0))
    if getattr(processor, "do_pad", False) and name.startswith("Llava"):
        return Geometry("pad", width, height)
    if is_cut and "shortest_edge" in size:
        return Geometry("crop", width, height, int(size["shortest_edge"]))
    is_squashed = "height" in size and (not is_cut or size == crop)
    return Geometry("whole", width, height) if is_squashed else Geometry()


def _sides(size: Any) -> dict[str, int]:
    if isinstance(size, int):
        return {"height": size, "width": size}
    return {
        name: value for name in ("height", "width", "shortest_edge", "longest_edge") if (value := _side(size, name))
    }


def _side(size: Any, name: str) -> int:
    value = size.get(name) if hasattr(size, "get") else getattr(size, name, None)
    return int(value or 0)
