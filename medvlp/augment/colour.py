"""Changes of colours and of grey values. S: the image's side in pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medvlp.augment.base import Range, Transform, around, between

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ColorJitter(Transform):
    """Brightness, contrast, saturation and hue, in random order, as torchvision's ColorJitter."""

    brightness: float = 0.0
    """The factor is drawn from 1 ± this; 0: unchanged. Likewise contrast and saturation."""
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    """The shift is drawn from ± this, in turns of the colour circle."""

    def check(self, key: str) -> None:
        super().check(key)
        for name in ("brightness", "contrast", "saturation"):
            self.require(0 <= getattr(self, name) <= 1, key, name, "be from 0 to 1")
        self.require(0 <= self.hue <= 0.5, key, "hue", "be from 0 to 0.5")

    def apply(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        from torchvision.transforms.v2 import functional

        steps = [
            (functional.adjust_brightness, 1.0, self.brightness),
            (functional.adjust_contrast, 1.0, self.contrast),
            (functional.adjust_saturation, 1.0, self.saturation),
            (functional.adjust_hue, 0.0, self.hue),
        ]
        for index in rng.permutation(len(steps)):
            adjust, centre, deviation = steps[index]
            if deviation:
                image = adjust(image, around(centre, deviation, rng))
        return image


@dataclass(frozen=True, kw_only=True)
class Grayscale(Transform):
    """Three equal channels of the luminance, as torchvision's RandomGrayscale."""

    def apply(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        from torchvision.transforms.v2 import functional

        return functional.rgb_to_grayscale(image, num_output_channels=3)


@dataclass(frozen=True, kw_only=True)
class Intensity(Transform):
    """Values times a factor, plus a shift, as MONAI's RandScaleIntensity and RandShiftIntensity: another exposure or window."""

    scale: float = 0.1
    """The factor is drawn from 1 ± this."""
    shift: float = 0.1
    """The shift is drawn from ± this, as a share of the range from black to white."""

    def check(self, key: str) -> None:
        super().check(key)
        self.require(0 <= self.scale < 1, key, "scale", "be from 0 to below 1")
        self.require(0 <= self.shift < 1, key, "shift", "be from 0 to below 1")

    def apply(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        return image * around(1.0, self.scale, rng) + around(0.0, self.shift, rng)


@dataclass(frozen=True, kw_only=True)
class Gamma(Transform):
    """Values to a power, as MONAI's RandAdjustContrast: darker or brighter midtones."""

    gamma: Range = (0.8, 1.25)

    def check(self, key: str) -> None:
        super().check(key)
        self.require(self.gamma[0] > 0, key, "gamma", "be above 0")

    def apply(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        return image ** between(self.gamma, rng)


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Transform):
    """Independent noise of every pixel, the same in its three channels, so that grey stays grey."""

    std: Range = (0.0, 0.05)
    """As a share of the range from black to white."""

    def check(self, key: str) -> None:
        super().check(key)
        self.require(self.std[0] >= 0, key, "std", "be at least 0")

    def apply(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        import numpy as np
        import torch

        noise = rng.standard_normal(tuple(image.shape[1:]), np.float32)
        return image + torch.from_numpy(noise) * between(self.std, rng)


@dataclass(frozen=True, kw_only=True)
class GaussianBlur(Transform):
    """A Gaussian blur, as torchvision's GaussianBlur; its kernel reaches three standard deviations."""

    sigma: Range = (0.1, 1.0)
    """Standard deviation in pixels of the tower's input."""

    def check(self, key: str) -> None:
        super().check(key)
        self.require(self.sigma[0] > 0 and self.sigma[1] <= 10, key, "sigma", "be above 0 and at most 10")

    def apply(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        import math

        from torchvision.transforms.v2 import functional

        sigma = between(self.sigma, rng)
        reach = min(math.ceil(3 * sigma), min(image.shape[1:]) - 1)
        return functional.gaussian_blur(image, [2 * reach + 1] * 2, [sigma] * 2)
