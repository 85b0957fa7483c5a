"""Options of how training sees an image: its crop, its decoding, its depth, and random changes by name."""

from dataclasses import dataclass, field
from typing import Any

from medvlp.augment import Transform, parse_transforms
from medvlp.config.rules import ConfigError, one_of

DECODINGS = ("whole", "scaled")
DEPTHS = (8, 16)


@dataclass(kw_only=True)
class AugmentConfig:
    """Random crops, and what else is named. Nothing flips unless it is named: left findings would turn into right ones."""

    scale: list[float] = field(default_factory=lambda: [0.9, 1.0])
    """Smallest and largest share of the image's area that a crop keeps."""
    ratio: list[float] = field(default_factory=lambda: [0.75, 1.3333333333333333])
    """Narrowest and widest aspect ratio of a crop."""
    decode: str = "whole"
    """whole: every pixel of a JPEG; scaled: at a half, a quarter or an eighth of its sides where the crop stays as large as the
    tower's input. Less CPU on large images, and pixels that differ a little; evaluation always decodes the whole."""
    bits: int = 8
    """Bits of a grey value that reach the tower: 8, or 16 where the file has more than 8. Images are then float32, four times as
    large in memory; evaluation decodes 8."""
    transforms: list[dict[str, Any]] = field(default_factory=list)
    """Random changes after the crop, in this order, such as `[{name: color_jitter, probability: 0.8, brightness: 0.3}, {name:
    grayscale, probability: 0.2}]`. Their names and options: docs/training.md."""

    def check(self) -> None:
        """Both ranges are ranges, decoding, depth and transforms are known. Raises ConfigError, AugmentError."""
        one_of("data.augment.decode", self.decode, DECODINGS)
        if self.bits not in DEPTHS:
            raise ConfigError(f"data.augment.bits={self.bits} must be 8 or 16")
        for key, bounds, most in (("scale", self.scale, 1.0), ("ratio", self.ratio, float("inf"))):
            if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1] <= most:
                limit = " <= 1" if most == 1 else ""
                raise ConfigError(
                    f"data.augment.{key}={bounds} must be [smallest, largest] with 0 < smallest <= largest{limit}"
                )
        self.chain()

    def chain(self) -> tuple[Transform, ...]:
        """The transforms. Raises AugmentError."""
        return parse_transforms(self.transforms, "data.augment.transforms")
