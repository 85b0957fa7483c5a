"""Random states of a device and of the CPU, taken and put back."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class RandomState:
    """State of torch's generators.

    cpu: of the CPU's. device: of the accelerator's; None where there is none.
    """

    cpu: Tensor
    device: Tensor | None = None

    @classmethod
    def of(cls, device: torch.device) -> "RandomState":
        """The present state."""
        accelerator = _accelerator(device)
        return cls(torch.get_rng_state(), accelerator.get_rng_state() if accelerator else None)

    def restore(self, device: torch.device) -> None:
        """Make it the present state."""
        torch.set_rng_state(self.cpu)
        accelerator = _accelerator(device)
        if accelerator and self.device is not None:
            accelerator.set_rng_state(self.device)


def _accelerator(device: torch.device) -> Any:
    """torch.cuda or torch.mps, whose current device is the run's; None of the CPU."""
    return None if device.type == "cpu" else getattr(torch, device.type)
