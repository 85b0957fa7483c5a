"""Training data of a checkpoint, over all its stages, as far as it is on this machine."""

from pathlib import Path
from typing import Any

from medvlp.builders.data import open_shards
from medvlp.config import ConfigError, LlavaConfig, TrainConfig, from_dict
from medvlp.shards import ShardDataset, ShardError
from medvlp.training.checkpoints import CheckpointError, load_checkpoint


def training_splits(path: str) -> tuple[list[ShardDataset], list[str]]:
    """The splits that a checkpoint was trained on, and what is not here or not as it was: its own, and those of the checkpoints
    that it was started from.

    Raises:
        CheckpointError: the checkpoint itself cannot be read.
    """
    datasets: dict[Path, ShardDataset] = {}
    unknown: list[str] = []
    visited: set[Path] = set()
    queue = [path]
    while queue:
        checkpoint = Path(queue.pop(0))
        if checkpoint.resolve() in visited:
            continue
        visited.add(checkpoint.resolve())
        try:
            content = load_checkpoint(checkpoint)
            config = from_dict(content["medvlp"]["config"])
        except (CheckpointError, ConfigError) as error:
            if checkpoint == Path(path):
                raise CheckpointError(str(error)) from None
            reason = "is not here" if isinstance(error, CheckpointError) else "does not say so"
            unknown.append(f"what {checkpoint} was trained on, which {reason}")
            continue
        queue += earlier(config)
        hashes = _manifests(content)
        for name, source in config.data.sources.items():
            folder = Path(source.path)
            try:
                dataset = open_shards(str(folder))
            except ShardError:
                unknown.append(f"{folder}, which is not here")
                continue
            if hashes.get(name, dataset.manifest_hash) != dataset.manifest_hash:
                unknown.append(f"{folder}, which has changed since")
                continue
            datasets[folder.resolve()] = dataset
    return list(datasets.values()), list(dict.fromkeys(unknown))


def _manifests(content: dict[str, Any]) -> dict[str, str]:
    """Source → hash of its shards' manifest, as the loader's state has them; empty where it is not told."""
    try:
        (state,) = content["loops"]["fit_loop"]["state_dict"]["combined_loader"]
        return dict(state["shards"])
    except (KeyError, TypeError, ValueError):
        return {}


def earlier(config: TrainConfig) -> list[str]:
    """Checkpoints that a run began with: all of it, or a vision tower."""
    names = [config.init_from, config.model.vision.source if isinstance(config.model, LlavaConfig) else ""]
    return [name for name in names if name.endswith(".ckpt")]
