"""Training data of a checkpoint, over all its stages, as far as it is on this machine."""

from pathlib import Path
from typing import Any

from medvlp.builders.data import open_shards
from medvlp.config import ClassifierConfig, ConfigError, LlavaConfig, TrainConfig, from_dict
from medvlp.config.model_names import source_name
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
        checkpoints, untold = earlier(config)
        queue += checkpoints
        unknown += untold
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


def earlier(config: TrainConfig) -> tuple[list[str], list[str]]:
    """Checkpoints that a run began with (all of it, or a vision tower), and what is not known of other beginnings."""
    checkpoints, unknown = [], []
    vision = config.model.vision.source if isinstance(config.model, LlavaConfig | ClassifierConfig) else ""
    for key, source in (("init_from", config.init_from), ("model.vision.source", vision)):
        try:
            name = source_name(source, key)
        except ConfigError:
            name = None
        if name and name.scheme == "checkpoint":
            checkpoints.append(name.target)
        elif name and (key == "init_from" or name.scheme != "hf"):
            unknown.append(f"what others trained {source} on")
        elif key == "init_from" and source:
            unknown.append(f"what {source} was trained on, which is not here")
    return checkpoints, unknown
