"""Checkpoints as a run writes them, without a run."""

from pathlib import Path
from typing import Any

import torch

from medvlp.models.weights import weights_hash
from medvlp.training.checkpoints import FORMAT, save_checkpoint


def content(step: int, value: float = 1.0) -> dict[str, Any]:
    """What is in a checkpoint, of one tensor."""
    state = {"a": torch.full((3,), value)}
    config = {"model": {"kind": "clip"}}
    progress = {"current": {"ready": step}, "is_last_batch": False}
    return {
        "state_dict": state,
        "global_step": step,
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "lr_schedulers": [{}],
        "loops": {"fit_loop": {"epoch_loop.batch_progress": progress}},
        "medvlp": {"format": FORMAT, "config": config, "weights_sha256": weights_hash(state)},
    }


def save(path: Path, step: int, value: float = 1.0) -> None:
    """A checkpoint on disk."""
    save_checkpoint(content(step, value), path)
