"""Crops: from a decoded image to the tower's input. H, W: pixels; S: the tower's input side."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional
from torchvision.transforms.v2.functional import InterpolationMode


def to_tensor(image: Image.Image) -> Tensor:
    """An `L` or `RGB` image as uint8 of shape (1 or 3, H, W)."""
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def crop_box(
    height: int, width: int, scale: Sequence[float], ratio: Sequence[float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop: the rule of torchvision's RandomResizedCrop (Szegedy 2015).

    Args:
        scale: smallest and largest share of the area.
        ratio: smallest and largest width / height; sampled on a logarithmic scale.
    """
    area = height * width
    for _ in range(10):
        target = area * rng.uniform(scale[0], scale[1])
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
    w = min(width, round(height * ratio[1]))
    h = min(height, round(width / ratio[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def random_crop(
    image: Image.Image, size: int, scale: Sequence[float], ratio: Sequence[float], rng: np.random.Generator
) -> Tensor:
    """A training view: random crop, bicubic with antialiasing on uint8 (within 2/255 of PIL's, and several times faster).

    Grey images are resized as one channel and repeated, with the same result as resizing three equal ones.

    Returns: uint8 of shape (3, S, S).
    """
    pixels = to_tensor(image)
    box = crop_box(pixels.shape[1], pixels.shape[2], scale, ratio, rng)
    view = functional.resized_crop(
        pixels, *box, size=[size, size], interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    return view.expand(3, -1, -1)
