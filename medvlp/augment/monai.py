"""Any of MONAI's random transforms of 2D arrays by its name; MONAI is imported where one is named, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from medvlp.augment.base import AugmentError, Transform

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

NAME = re.compile(r"Rand[A-Z][A-Za-z0-9]*")
MIRRORING = ("RandFlip", "RandAxisFlip")


@dataclass(frozen=True, kw_only=True)
class Monai(Transform):
    """One of MONAI's transforms whose names begin with Rand, on (3, S, S) from 0 to 1; it has to keep the shape."""

    transform: str = ""
    """Of `monai.transforms`, for arrays: RandBiasField, RandGibbsNoise, RandRicianNoise, Rand2DElastic, …"""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of its constructor, but for prob, which is `probability`."""

    @property
    def mirrors(self) -> bool:
        return self.transform in MIRRORING

    def check(self, key: str) -> None:
        super().check(key)
        self.require(bool(NAME.fullmatch(self.transform)), key, "transform", "be MONAI's, and begin with Rand")
        self.require("prob" not in self.arguments, key, "arguments", "have no prob: say probability next to it")
        try:
            assert self.random is not None  # made here, so that what is wrong is said before the run
        except AugmentError as error:
            raise AugmentError(f"{key}: {error}") from None

    @cached_property
    def random(self) -> Any:
        """MONAI's transform, which is always applied. Raises AugmentError: there is none, or not with these arguments."""
        from inspect import signature

        from monai import transforms

        kind: Any = getattr(transforms, self.transform, None)
        is_known = isinstance(kind, type) and issubclass(kind, transforms.Randomizable)
        if not is_known or issubclass(kind, transforms.MapTransform):
            raise AugmentError(f"{self.transform!r} is no random transform of arrays in monai.transforms")
        always = {"prob": 1.0} if "prob" in signature(kind).parameters else {}
        try:
            return kind(**always, **self.arguments)
        except Exception as error:  # of MONAI's checks, of many kinds
            raise AugmentError(f"{self.transform}: {type(error).__name__}: {error}") from None

    def apply(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Raises AugmentError: the transform changes the shape, or cannot be applied."""
        import torch

        self.random.set_random_state(seed=int(rng.integers(2**32)))
        try:
            changed = torch.as_tensor(self.random(image)).as_subclass(torch.Tensor).float()
        except Exception as error:  # of MONAI's transforms, of many kinds
            raise AugmentError(f"data.augment: {self.transform}: {type(error).__name__}: {error}") from error
        if changed.shape != image.shape:
            raise AugmentError(
                f"data.augment: {self.transform} makes {tuple(changed.shape)} of {tuple(image.shape)}; an image keeps its shape"
            )
        return changed
