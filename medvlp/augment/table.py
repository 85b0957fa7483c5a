"""Transforms by name, and their options from a recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from medvlp.augment.base import AugmentError, Transform
from medvlp.augment.colour import ColorJitter, Gamma, GaussianBlur, GaussianNoise, Grayscale, Intensity
from medvlp.augment.monai import Monai
from medvlp.augment.shape import CoarseDropout, HorizontalFlip, Rotation, VerticalFlip

TRANSFORMS: dict[str, type[Transform]] = {
    "color_jitter": ColorJitter,
    "grayscale": Grayscale,
    "intensity": Intensity,
    "gamma": Gamma,
    "gaussian_noise": GaussianNoise,
    "gaussian_blur": GaussianBlur,
    "rotation": Rotation,
    "coarse_dropout": CoarseDropout,
    "horizontal_flip": HorizontalFlip,
    "vertical_flip": VerticalFlip,
    "monai": Monai,
}


def parse_transforms(entries: Sequence[Mapping[str, Any]], key: str) -> tuple[Transform, ...]:
    """Transforms of `[{name: color_jitter, probability: 0.8, brightness: 0.3}, …]`, in their order.

    Raises:
        AugmentError: names the entry, what it has and what there is.
    """
    return tuple(_parsed(entry, f"{key}[{number}]") for number, entry in enumerate(entries))


def _parsed(entry: Mapping[str, Any], key: str) -> Transform:
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise AugmentError(f"{key} is {entry!r}, expected {{name: color_jitter, probability: 0.8, …}}")
    name = str(entry["name"])
    kind = TRANSFORMS.get(name)
    if kind is None:
        raise AugmentError(
            f"{key}.name={name!r} is no transform{_hint(name, TRANSFORMS)} There are {', '.join(TRANSFORMS)}"
        )
    defaults = {field.name: getattr(kind(), field.name) for field in fields(kind)}
    values: dict[str, Any] = {}
    for option, value in entry.items():
        if option == "name":
            continue
        if option not in defaults:
            raise AugmentError(
                f"{key}.{option} is no option of {name}{_hint(option, defaults)} Its options: {', '.join(defaults)}"
            )
        values[option] = _typed(value, defaults[option], f"{key}.{option}")
    transform = kind(**values)
    transform.check(key)
    return transform


def _typed(value: Any, default: Any, key: str) -> Any:
    """A value of the kind of its default. Raises AugmentError."""
    if isinstance(default, tuple):
        is_pair = isinstance(value, Sequence) and len(value) == 2 and all(map(_is_number, value))
        if not is_pair:
            raise AugmentError(f"{key}={value} must be [smallest, largest], such as {list(default)}")
        return tuple(map(float, value))
    if isinstance(default, float):
        if not _is_number(value):
            raise AugmentError(f"{key}={value} must be a number, such as {default}")
        return float(value)
    expected = str if isinstance(default, str) else Mapping
    if not isinstance(value, expected):
        raise AugmentError(f"{key}={value} must be {'a name' if expected is str else 'names with values'}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _hint(name: str, choices: Mapping[str, Any]) -> str:
    close = get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else "."
