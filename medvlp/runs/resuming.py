"""Resuming: what a run may change when it goes on, what it has changed, and whether it came to its end."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from medvlp.config import ConfigError, TrainConfig, as_dict, from_dict, read_text
from medvlp.config.templates.files import load_templates
from medvlp.distributed import launched_rank

WATCHED = {
    "": ("seed", "model", "objective"),
    "data": ("global_batch_size", "shuffle_block", "shuffle_window", "augment"),
    "optim": ("lr", "weight_decay", "beta1", "beta2", "eps", "parts", "fused", "ema_decay"),
    "trainer": ("accumulate", "precision"),
}
"""What decides how a step computes; where data lie and how long a run is are not among it."""
TEMPLATES = "label_templates"
"""In a checkpoint's description: `template_hashes`."""
OF_THE_COMMAND = ("resume", "run_name", "run_root", "verb", "stages", "init_from", "init_parts")
"""Keys that say which run this is and how it started."""
OF_THE_WEIGHTS = re.compile(
    r"(seed|(model|objective|optim)\.|data\.(global_batch_size|shares|shuffle_|augment|sources\.[^.]+\.(?!path|shards))|"
    r"trainer\.(max_steps|max_epochs|accumulate|precision))"
)
"""Keys that decide what weights a run ends with; where its data lie, and what is logged, do not."""


def check_same_run(config: TrainConfig, checkpoint: Path, total_steps: int) -> None:
    """A resumed run goes on as it began: same seed, model, objective, optimizer, order and batch. What may change, and
    has, is said.

    Raises:
        ConfigError: names what differs and must not, or the checkpoint is past the run's end.
        CheckpointError: no run can go on from it.
    """
    from medvlp.training.checkpoints import check_resumable

    content = check_resumable(checkpoint)
    old = from_dict(content["medvlp"]["config"])
    differences = run_differences(old, config) + template_changes(content["medvlp"].get(TEMPLATES, {}), config)
    if differences:
        raise ConfigError(
            f"resume={checkpoint}: {', '.join(differences)} differ from that run's. A resumed run goes on as it began; "
            f"for a change, start a new run with init_from={checkpoint}"
        )
    if content["global_step"] > total_steps:
        raise ConfigError(
            f"resume={checkpoint} is at step {content['global_step']}, past this run's end at step {total_steps}; raise "
            f"trainer.max_steps (or max_epochs), or resume from an earlier checkpoint"
        )
    changes = run_changes(old, config)
    if changes and launched_rank() == 0:
        print(f"changed since {checkpoint}, and followed from here: {', '.join(changes)}", flush=True)


def template_hashes(config: TrainConfig) -> dict[str, str]:
    """Source → sha256 of the file that its captions are made with, of those that label_captions gives captions."""
    sources = config.data.sources.items()
    return {
        name: load_templates(source.label_templates, f"data.sources.{name}.label_templates").digest
        for name, source in sources
        if source.label_captions
    }


def template_changes(old: Mapping[str, str], config: TrainConfig) -> list[str]:
    """Keys whose files of templates have other content than they had. old: as `template_hashes`."""
    new = template_hashes(config)
    return [
        f"the content of data.sources.{name}.label_templates" for name in new if old.get(name, new[name]) != new[name]
    ]


def has_ended(folder: Path) -> bool:
    """Whether a run came to its end."""
    from medvlp.training.run_folder import Status

    return bool(Status(folder).read().get("state") == "done")


def ended_as(folder: Path, config: TrainConfig) -> bool:
    """Whether a run came to its end with this configuration: with another it may have to go on, or must not."""
    return has_ended(folder) and not changes_of_weights(folder, config)


def changes_of_weights(folder: Path, config: TrainConfig) -> list[str]:
    """`key old → new` of every setting that decides a run's weights and differs between its config.yaml and `config`."""
    try:
        old = from_dict(yaml.safe_load(read_text(folder / "config.yaml")))
    except (ConfigError, OSError) as error:
        return [str(error)]
    return [change for change in run_changes(old, config) if OF_THE_WEIGHTS.match(change)]


def run_differences(old: TrainConfig, new: TrainConfig) -> list[str]:
    """Settings that decide what a step computes, and that differ."""
    differences = []
    for group, names in WATCHED.items():
        old_group, new_group = (getattr(config, group) if group else config for config in (old, new))
        prefix = f"{group}." if group else ""
        differences += [prefix + name for name in names if getattr(old_group, name) != getattr(new_group, name)]
    blends = [
        {
            name: (
                *(s.weight, s.text_fields, s.text_weights, s.text_templates, s.label_captions, s.label_templates),
                *(s.several_images, s.max_images, s.only, s.exclude),
            )
            for name, s in config.data.sources.items()
        }
        for config in (old, new)
    ]
    return differences + (["data.sources"] if blends[0] != blends[1] else [])


def run_changes(old: TrainConfig, new: TrainConfig) -> list[str]:
    """`key old → new` of every setting that differs between a checkpoint's run and the one that goes on from it."""
    old_values, new_values = (dict(_leaves(as_dict(config), "")) for config in (old, new))
    names = [name for name in dict.fromkeys([*old_values, *new_values]) if name.partition(".")[0] not in OF_THE_COMMAND]
    return [
        f"{name} {old_values.get(name, 'absent')} → {new_values.get(name, 'absent')}"
        for name in names
        if old_values.get(name) != new_values.get(name)
    ]


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
