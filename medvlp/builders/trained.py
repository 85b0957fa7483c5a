"""Training data of a checkpoint, over all its stages, as far as it is on this machine, and what was held out of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from medvlp.builders.data import open_shards
from medvlp.combinations import CombinationError, ItemFilter, filter_of, item_values
from medvlp.config import ClassifierConfig, ConfigError, LlavaConfig, TrainConfig, from_dict
from medvlp.config.model_names import source_name
from medvlp.data.views.filtered import FilteredDataset, open_split
from medvlp.selection import ConditionError, Conditions
from medvlp.shards import BadSample, ShardDataset, ShardError
from medvlp.training.checkpoints import CheckpointError, load_checkpoint


@dataclass(frozen=True)
class TrainedSource:
    """A source of a run. dataset: as it was trained on; None where it is not here. held_out: as the checkpoint states it."""

    folder: Path
    dataset: ShardDataset | None
    held_out: ItemFilter


@dataclass(frozen=True)
class TrainingSplits:
    """The splits that a checkpoint was trained on, without what was held out of them, and what is not here or not as it was:
    its own, and those of the checkpoints that it was started from.

    unseen: of the combinations that one of the checkpoints states as held out those that none of its sources has, as filters
    that give a reason to what is unseen. notes: sentences about the others.
    """

    splits: list[ShardDataset]
    unknown: list[str]
    unseen: list[ItemFilter] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def training_splits(path: str) -> TrainingSplits:
    """What a checkpoint was trained on.

    Raises:
        CheckpointError: the checkpoint itself cannot be read.
    """
    sources: list[TrainedSource] = []
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
        for name in config.data.sources:
            source, problem = trained_source(config, name, content, hashes.get(name))
            sources.append(source)
            unknown += [problem] if problem else []
    datasets = {
        (source.folder.resolve(), source.dataset.manifest_hash): source.dataset for source in sources if source.dataset
    }
    return TrainingSplits(list(datasets.values()), list(dict.fromkeys(unknown)), *unseen_combinations(sources))


def trained_source(
    config: TrainConfig, name: str, content: dict[str, Any], shards_hash: str | None
) -> tuple[TrainedSource, str]:
    """A source of a checkpoint, and why its data are not known; "" where they are.

    shards_hash: of the shards that were trained on; None where it is not told.
    """
    source = config.data.sources[name]
    folder, held_out = Path(source.path), ItemFilter()
    try:
        held_out = filter_of(content["medvlp"].get("held_out", {}).get(name, {}), f"held out of {name}")
        dataset = open_shards(source.path)
        if shards_hash in (None, dataset.manifest_hash):
            rows_hash = rows_hash_in(content, name)
            view = filtered(
                dataset.folder, source.item_filter(name), dataset.manifest_hash, source.conditions, rows_hash
            )
            return TrainedSource(folder, view, held_out), ""
    except ShardError:
        return TrainedSource(folder, None, held_out), f"{folder}, which is not here"
    except (CombinationError, ConditionError, AttributeError) as error:
        return TrainedSource(folder, None, held_out), f"{folder}, of which {error}"
    return TrainedSource(folder, None, held_out), f"{folder}, which has changed since"


@lru_cache(maxsize=64)
def filtered(
    folder: Path, item_filter: ItemFilter, shards_hash: str, conditions: Conditions, rows_hash: str
) -> ShardDataset:
    """A split as it was trained on; read once for the checkpoints of a sweep.

    shards_hash: of what is there now. rows_hash: of the rows that conditions selected then; "" where it is not told.
    Raises:
        ConditionError: they select others now.
    """
    dataset = open_split(folder, item_filter, str(folder), conditions=conditions)
    if isinstance(dataset, FilteredDataset) and dataset.selected and rows_hash not in ("", dataset.selected.rows_hash):
        raise ConditionError("where selects other samples now: its score tables or lists have changed")
    return dataset


def rows_hash_in(content: dict[str, Any], name: str) -> str:
    """sha256 of the rows that conditions selected of a source, as a checkpoint states it; "" where it does not."""
    selected = content["medvlp"].get("selected", {}).get(name, {})
    return str(selected.get("rows_sha256", ""))


def unseen_combinations(sources: Sequence[TrainedSource]) -> tuple[list[ItemFilter], list[str]]:
    """Of what is held out of any source that which is in none, and sentences about the rest. Sources that do not state it as
    held out are looked through."""
    parts = dict.fromkeys(part for source in sources for part in source.held_out.parts)
    unseen, notes = [], []
    for part in parts:
        silent_sources = [source for source in sources if part not in source.held_out.parts]
        absent = [str(source.folder) for source in silent_sources if source.dataset is None]
        counts = {str(source.folder): occurrences(source.dataset, part) for source in silent_sources if source.dataset}
        present = [f"{count} items of {folder}" for folder, count in counts.items() if count]
        if present:
            notes.append(f"{part.name} was held out of some data, but {' and '.join(present)} are of it")
        elif absent:
            notes.append(f"{part.name} was held out of some data; whether {' and '.join(absent)} had it is not known")
        else:
            unseen.append(part)
    return unseen, notes


_occurrences: dict[tuple[str, str, ItemFilter], int] = {}


def occurrences(dataset: ShardDataset, part: ItemFilter) -> int:
    """Items of a split that a filter would hold out; counted once a process."""
    key = str(dataset.folder), dataset.manifest_hash, part
    if key not in _occurrences:
        _occurrences[key] = sum(
            bool(part.reason(values)) for row in range(len(dataset)) for values in _values(dataset, row)
        )
    return _occurrences[key]


def _values(dataset: ShardDataset, row: int) -> list[Any]:
    try:
        return item_values(dataset.read_text(row))
    except BadSample:
        return []


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
