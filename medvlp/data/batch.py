"""The base class of every objective's batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

import torch
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
    sources: list[int] = field(default_factory=list)
    """Of the samples, as numbers in the order of the blend."""
    missing: list[str] = field(default_factory=list)
    """Fields that texts lack although the configuration names them, `<number of the source>/<field>` for each sample."""
    inputs: ClassVar[tuple[str, ...]] = ()
    """Fields that only a model's encoders read: large, and of a shape that differs from batch to batch."""

    @classmethod
    def joined(cls, batches: Sequence[Self]) -> Self:
        """The samples of several batches in one, without their inputs (no rows)."""
        first = batches[0]
        values: dict[str, Any] = {
            f.name: rowless(getattr(first, f.name))
            if f.name in first.inputs
            else joined_values([getattr(batch, f.name) for batch in batches])
            for f in fields(first)
        }
        return replace(first, **values)

    def pin_memory(self) -> Self:
        """The batch with its tensors in pinned memory; torch's loader looks for this method, and into no dataclass."""
        return replace(self, **{f.name: pinned(getattr(self, f.name)) for f in fields(self)})


@dataclass(kw_only=True)
class StepBatch(Batch):
    """A rank's samples of a whole optimizer step, in parts that go through the model one after the other."""

    parts: list[Batch]

    @classmethod
    def of(cls, parts: Sequence[Batch]) -> "StepBatch":
        """The parts in their order."""
        return cls(
            keys=[key for part in parts for key in part.keys],
            positions=[position for part in parts for position in part.positions],
            bad=[problem for part in parts for problem in part.bad],
            sources=[source for part in parts for source in part.sources],
            missing=[name for part in parts for name in part.missing],
            parts=list(parts),
        )


def joined_values(values: Sequence[Any]) -> Any:
    """Rows of tensors and of lists, one after the other, in mappings too; anything else is the first's."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values)) if first.ndim else first
    if isinstance(first, list):
        return [item for value in values for item in value]
    if isinstance(first, dict):
        return {name: joined_values([value[name] for value in values]) for name in first}
    return first


def rowless(value: Tensor | None) -> Tensor | None:
    """A tensor without its rows; None stays."""
    return None if value is None else value[:0]


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
        "sources": [item.get("source", 0) for item in items],
        "missing": [f"{item.get('source', 0)}/{name}" for item in items for name in item.get("missing", ())],
        "bad": [problem for unit in units for problem in unit["bad"]],
    }
