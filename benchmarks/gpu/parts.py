"""The parts of the check in the order in which they run: what matters most first."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Missing(Exception):
    """Something that a part needs is not here; the message names it."""


@dataclass(frozen=True)
class Part:
    """module, function: what runs, (scale, device) → figures. seconds: that it may take on a GPU."""

    module: str
    function: str
    seconds: int


PARTS = {
    "reached": Part("device", "reached", 30),
    "pace_77": Part("clip", "pace_77", 45),
    "pace_256": Part("clip", "pace_256", 45),
    "plan": Part("planned", "plan", 45),
    "packed": Part("assistant", "packed", 60),
    "attention": Part("assistant", "attention", 45),
    "one_rank": Part("device", "one_rank", 45),
    "in_parts": Part("clip", "in_parts", 45),
    "losses": Part("clip", "losses", 30),
    "nf4": Part("assistant", "nf4", 30),
    "fsdp2": Part("device", "fsdp2", 45),
    "parity": Part("clip", "parity", 90),
    "pace_77_compiled": Part("clip", "pace_77_compiled", 100),
}


def function_of(name: str) -> Callable[..., dict[str, Any]]:
    """What a part runs. Raises Missing: a package."""
    part = PARTS[name]
    try:
        module = importlib.import_module(f"benchmarks.gpu.{part.module}")
    except ModuleNotFoundError as error:
        raise Missing(f"no package {error.name}") from None
    function: Callable[..., dict[str, Any]] = getattr(module, part.function)
    return function
