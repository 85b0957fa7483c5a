"""Base classes of the options of models and of objectives.

A kind is a dataclass of its options with their `check`, and one line in the tables of `kinds.py`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

if TYPE_CHECKING:
    from medvlp.config.train import TrainConfig


@dataclass(kw_only=True)
class ModelConfig:
    """Base of every model's options."""

    kind: str = MISSING
    """Which model this is; the option chosen for `model` sets it."""

    def check(self) -> None:
        """Rules of these options. Raises ConfigError."""


@dataclass(kw_only=True)
class ObjectiveConfig:
    """Base of every objective's options."""

    kind: str = MISSING
    """Which objective this is; the option chosen for `objective` sets it."""
    trains_pairs: ClassVar[bool] = False
    """Whether it trains on pairs of images and texts, which a source's keys may make."""
    trains_towers: ClassVar[bool] = False
    """Whether it trains a CLIP's towers, which can be divided among ranks (trainer.strategy=fsdp)."""

    def check(self, training: "TrainConfig") -> None:
        """Rules of these options, and of what the rest of a training must be for them. Raises ConfigError."""
