"""Captures of a step: its weights, batches and random states in files, so that it can be computed again.

A capture is a folder of one step: `weights.pt` by rank 0, `rank-<n>.pt` by every rank. Plain values and tensors only.
"""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medvlp.data.batch import Batch
from medvlp.errors import UserError
from medvlp.shards import ShardError
from medvlp.shards.atomic import whole_file

FORMAT = 1
WEIGHTS = "weights.pt"
CLASS = "batch class"


class CaptureError(UserError):
    """A capture is missing, damaged, or of something else."""


def write_weights(folder: Path, state: dict[str, Tensor], card: dict[str, Any]) -> None:
    """The weights before the step. card: plain values, such as the run's configuration and step."""
    _write(folder / WEIGHTS, {"format": FORMAT, "state_dict": state, **card})


def write_rank(folder: Path, rank: int, seeds: Sequence[int], batches: Sequence[Batch]) -> None:
    """A rank's batches of the step. seeds: that the random state was set to before each."""
    content = {"format": FORMAT, "seeds": list(seeds), "batches": [plain_batch(batch) for batch in batches]}
    _write(folder / f"rank-{rank}.pt", content)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        torch.save(content, file)


def plain_batch(value: Any) -> Any:
    """A batch as plain values and tensors."""
    if isinstance(value, Batch):
        return {CLASS: type(value).__name__} | {f.name: plain_batch(getattr(value, f.name)) for f in fields(value)}
    if is_dataclass(value):
        raise TypeError(f"{type(value).__name__} in a batch is neither plain nor a batch")
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, list | tuple):
        return type(value)(plain_batch(item) for item in value)
    return {name: plain_batch(item) for name, item in value.items()} if isinstance(value, dict) else value


def batch_classes(base: type[Batch] = Batch) -> dict[str, type[Batch]]:
    """Every kind of batch that is imported, by name."""
    return {base.__name__: base} | {n: c for child in base.__subclasses__() for n, c in batch_classes(child).items()}


def batch_from(value: Any) -> Any:
    """A batch from `plain_batch`. Raises KeyError: an unknown kind."""
    if isinstance(value, dict) and CLASS in value:
        batch_class = batch_classes()[value[CLASS]]
        return batch_class(**{name: batch_from(item) for name, item in value.items() if name != CLASS})
    return [batch_from(item) for item in value] if isinstance(value, list) else value


def read_capture(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(weights and card, each rank's seeds and batches, still plain).

    Raises:
        CaptureError: it is not there, damaged, or lacks a rank.
    """
    card = _read(folder / WEIGHTS)
    return card, [_read(folder / f"rank-{rank}.pt") for rank in range(int(card["ranks"]))]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CaptureError(f"{path}: no such file; a capture is a folder step-<n> in a run's non_finite/")
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']}, this medvlp reads {FORMAT}")
    except (OSError, ShardError) as error:
        raise CaptureError(f"{path}: {error}") from None
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError and more
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CaptureError(f"{path} is damaged, or no capture ({line})") from None
    return content
