"""`medvlp plan` against this device."""

from typing import Any

import torch

from benchmarks.gpu.parts import Missing
from benchmarks.gpu.scale import Scale


def plan(scale: Scale, device: torch.device) -> dict[str, Any]:
    raise Missing("to come")
