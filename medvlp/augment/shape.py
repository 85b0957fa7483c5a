"""Changes of where things are: rotations, holes, flips. S: the image's side in pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medvlp.augment.base import Range, Transform, around, between

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rotation(Transform):
    """A rotation about the centre, bilinear, as torchvision's RandomRotation."""

    degrees: float = 10.0
    """The angle is drawn from ± this."""
    fill: float = 0.0
    """What lies outside of the image: 0 black, 1 white."""

    def check(self, key: str) -> None:
        super().check(key)
        self.require(0 < self.degrees <= 180, key, "degrees", "be above 0 and at most 180")
        self.require(0 <= self.fill <= 1, key, "fill", "be from 0 to 1")

    def apply(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        from torchvision.transforms.v2 import InterpolationMode, functional

        angle = around(0.0, self.degrees, rng)
        return functional.rotate(image, angle, InterpolationMode.BILINEAR, fill=[self.fill] * 3)


@dataclass(frozen=True, kw_only=True)
class CoarseDropout(Transform):
    """Rectangles of one value (DeVries 2017), as MONAI's RandCoarseDropout."""

    holes: Range = (1, 4)
    """Rectangles, drawn from these whole numbers."""
    size: Range = (0.05, 0.2)
    """Of their sides, as shares of the image's."""
    fill: float = 0.0

    def check(self, key: str) -> None:
        super().check(key)
        self.require(self.holes[0] >= 1 and all(value == int(value) for value in self.holes), key, "holes", "be whole")
        self.require(self.size[0] > 0 and self.size[1] <= 1, key, "size", "be shares above 0")
        self.require(0 <= self.fill <= 1, key, "fill", "be from 0 to 1")

    def apply(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        image = image.clone()
        rows, columns = image.shape[1:]
        for _ in range(int(rng.integers(int(self.holes[0]), int(self.holes[1]) + 1))):
            height, width = (max(round(between(self.size, rng) * side), 1) for side in (rows, columns))
            top, start = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
            image[:, top : top + height, start : start + width] = self.fill
        return image


@dataclass(frozen=True, kw_only=True)
class HorizontalFlip(Transform):
    """Left and right exchanged; a text that names a side is then wrong."""

    probability: float = 0.5

    @property
    def mirrors(self) -> bool:
        return True

    def apply(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        return image.flip(2)


@dataclass(frozen=True, kw_only=True)
class VerticalFlip(Transform):
    """Top and bottom exchanged, which mirrors as well: turned upright again, left and right have changed places."""

    probability: float = 0.5

    @property
    def mirrors(self) -> bool:
        return True

    def apply(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        return image.flip(1)
