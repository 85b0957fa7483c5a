"""The base class of every objective's batch."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from torch import Tensor


@dataclass(kw_only=True)
class Batch:
    """The samples of one forward pass of a rank; a subclass adds their tensors.

    Lightning moves the tensors of a dataclass to the device, as it does those of a dict.
    """

    keys: list[str]
    """Of the samples."""
    positions: list[int]
    """Of the samples, in the epoch's global order."""
    bad: list[dict[str, Any]]
    """Samples that could not be read, as `RequestedSamples` names them."""

    def pin_memory(self) -> Self:
        """The batch with its tensors in pinned memory; torch's loader looks for this method, and into no dataclass."""
        return replace(self, **{field.name: pinned(getattr(self, field.name)) for field in fields(self)})


def pinned(value: Any) -> Any:
    """A tensor, or a mapping's tensors, in pinned memory; anything else as it is."""
    if isinstance(value, Tensor):
        return value.pin_memory()
    return {name: pinned(item) for name, item in value.items()} if isinstance(value, dict) else value


def sample_fields(units: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`Batch`'s own fields, of samples as `RequestedSamples` reads them."""
    items = [item for unit in units for item in unit["items"]]
    return {
        "keys": [item["key"] for item in items],
        "positions": [item["position"] for item in items],
        "bad": [problem for unit in units for problem in unit["bad"]],
    }
