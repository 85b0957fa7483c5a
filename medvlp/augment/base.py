"""Transform, the base of every random change of an image. S: its side in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from medvlp.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Range = tuple[float, float]
"""Smallest and largest value, between which one is drawn evenly."""


class AugmentError(UserError):
    """A transform that does not exist, or one of its options is wrong."""


@dataclass(frozen=True, kw_only=True)
class Transform:
    """A random change; a field of two numbers is a `Range`."""

    probability: float = 1.0
    """With which it is applied to an image."""

    @property
    def mirrors(self) -> bool:
        """Whether it may turn left into right, which texts do not follow."""
        return False

    def check(self, key: str) -> None:
        """Rules of its options. Raises AugmentError."""
        self.require(0 < self.probability <= 1, key, "probability", "be above 0 and at most 1")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                self.require(-math.inf < value[0] <= value[1] < math.inf, key, field.name, "be [smallest, largest]")

    def require(self, holds: bool, key: str, name: str, rule: str) -> None:
        """Raises AugmentError unless the rule of an option holds."""
        if not holds:
            value = getattr(self, name)
            raise AugmentError(f"{key}.{name}={list(value) if isinstance(value, tuple) else value} must {rule}")

    def apply(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """float32 (3, S, S) from 0 to 1 → likewise; what lies outside afterwards is cut off."""
        raise NotImplementedError


def between(limits: Range, rng: np.random.Generator) -> float:
    """A value drawn evenly."""
    return float(rng.uniform(*limits))


def around(centre: float, deviation: float, rng: np.random.Generator) -> float:
    """A value drawn evenly from centre ± deviation."""
    return float(rng.uniform(centre - deviation, centre + deviation))


def augmented(view: Tensor, transforms: Sequence[Transform], rng: np.random.Generator) -> Tensor:
    """uint8 or float32 (3, S, S) on the scale of 0 to 255, changed by those of the transforms that are drawn, in their order.

    The random state alone decides: the same on every rank, in every worker and after a resume.
    """
    import torch

    chosen_transforms = [transform for transform in transforms if rng.random() < transform.probability]
    if not chosen_transforms:
        return view
    image = view.float() / 255
    for transform in chosen_transforms:
        image = transform.apply(image, rng).clamp(0, 1)
    image *= 255
    return image if view.is_floating_point() else image.round().to(torch.uint8)
