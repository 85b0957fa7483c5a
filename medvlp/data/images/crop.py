"""Crops: from an image file to the tower's input. H, W: pixels; S: the tower's input side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medvlp.augment import Transform, augmented
from medvlp.data.images.jpeg import reduction_for
from medvlp.data.images.pixels import ImageFile
from medvlp.data.images.resize import resized_colour, resized_deep, resized_grey

Box = tuple[int, int, int, int]
"""Top, left, height and width."""


def crop_box(height: int, width: int, scale: Sequence[float], ratio: Sequence[float], rng: np.random.Generator) -> Box:
    """Top, left, height and width of a random crop: the rule of torchvision's RandomResizedCrop (Szegedy 2015).

    Args:
        scale: smallest and largest share of the area.
        ratio: smallest and largest width / height; sampled on a logarithmic scale.
    """
    area = height * width
    for _ in range(10):
        target = area * _between(scale[0], scale[1], rng)
        aspect = math.exp(_between(math.log(ratio[0]), math.log(ratio[1]), rng))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
    w = min(width, round(height * ratio[1]))
    h = min(height, round(width / ratio[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def _between(low: float, high: float, rng: np.random.Generator) -> float:
    """Generator.uniform's own arithmetic, without the cost of its broadcasting."""
    return low + (high - low) * rng.random()


def resized(pixels_CHW: Tensor, box: Box, size: int) -> Tensor:
    """A crop as (3, S, S): bicubic with antialiasing on uint8, within 2/255 of PIL's and several times faster.

    pixels_CHW: uint8 grey or colour, or float32 grey; in the memory of (H, W, C), as the view is.
    """
    top, start, height, width = box
    crop_HWC = pixels_CHW.permute(1, 2, 0).numpy()[top : top + height, start : start + width]
    if crop_HWC.dtype == np.float32:
        view_SSC = resized_deep(crop_HWC[..., 0], size)
    elif crop_HWC.shape[2] == 1:
        view_SSC = resized_grey(crop_HWC[..., 0], size)
    else:
        view_SSC = resized_colour(crop_HWC, size)
    return torch.from_numpy(view_SSC).permute(2, 0, 1)


@dataclass(frozen=True)
class RandomView:
    """A training view of an image file: a random crop, resized and randomly changed.

    Args:
        size: side of the view in pixels.
        scale, ratio: see `crop_box`.
        max_pixels: larger images are bad samples.
        is_scaled: decode a JPEG at a half, quarter or eighth of its sides where the crop stays as large as the view; pixels
            differ a little from those of the whole decoded.
        is_deep: views are float32, and grey values of more than 8 bits keep them.
        transforms: random changes of the view.
    """

    size: int
    scale: Sequence[float]
    ratio: Sequence[float]
    max_pixels: int
    is_scaled: bool = False
    is_deep: bool = False
    transforms: Sequence[Transform] = ()

    @property
    def image_bytes(self) -> int:
        """Of a view."""
        return 3 * self.size**2 * (4 if self.is_deep else 1)

    def __call__(self, data: bytes, rng: np.random.Generator) -> Tensor:
        """uint8 (3, S, S), or float32 from 0 to 255 where views are deep. Raises BadSample as `open_image`."""
        file = ImageFile(data, self.max_pixels, self.is_deep)
        box = crop_box(*file.size, self.scale, self.ratio, rng)
        pixels = file.pixels(reduction_for(box[2], box[3], self.size) if self.is_scaled else 1)
        if pixels.shape[1:] != file.size:
            box = box_within(box, file.size, pixels.shape[1:])
        view = resized(pixels, box, self.size)
        return augmented(view.float() if self.is_deep else view, self.transforms, rng)


def box_within(box: Box, size: Sequence[int], reduced: Sequence[int]) -> Box:
    """A box of an image in the pixels of a smaller one."""
    top, start, height, width = box
    y_scale, x_scale = reduced[0] / size[0], reduced[1] / size[1]
    first_row = min(round(top * y_scale), reduced[0] - 1)
    first_column = min(round(start * x_scale), reduced[1] - 1)
    end_row, end_column = round((top + height) * y_scale), round((start + width) * x_scale)
    return first_row, first_column, max(end_row - first_row, 1), max(end_column - first_column, 1)


def stacked(images: Sequence[Tensor]) -> Tensor:
    """(B, C, S, S) in the order that the images have in memory, (S, S, C): they are copied whole, and convolutions want it."""
    return torch.stack([image_CSS.permute(1, 2, 0) for image_CSS in images]).permute(0, 3, 1, 2)
