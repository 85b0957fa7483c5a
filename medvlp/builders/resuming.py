"""What a resumed run may change, and what it has changed."""

from collections.abc import Iterator
from typing import Any

from medvlp.config import TrainConfig, as_dict

WATCHED = {
    "": ("seed", "model", "objective"),
    "data": ("global_batch_size", "shuffle_block", "shuffle_window", "augment"),
    "optim": ("lr", "weight_decay", "beta1", "beta2", "eps", "parts"),
    "trainer": ("accumulate", "precision"),
}
"""What decides how a step computes; where data lie and how long a run is are not among it."""
OF_THE_COMMAND = ("resume", "run_name", "run_root", "verb", "stages", "init_from", "init_parts")
"""Keys that say which run this is and how it started."""


def run_differences(before: TrainConfig, now: TrainConfig) -> list[str]:
    """Settings that decide what a step computes, and that differ."""
    differing = []
    for group, names in WATCHED.items():
        one, other = (getattr(config, group) if group else config for config in (before, now))
        differing += [f"{group}.{n}" if group else n for n in names if getattr(one, n) != getattr(other, n)]
    blends = [{name: (s.weight, s.text_fields) for name, s in config.data.sources.items()} for config in (before, now)]
    return differing + (["data.sources"] if blends[0] != blends[1] else [])


def run_changes(before: TrainConfig, now: TrainConfig) -> list[str]:
    """`key old → new` of every setting that differs between a checkpoint's run and the one that goes on from it."""
    old, new = (dict(_leaves(as_dict(config), "")) for config in (before, now))
    names = [name for name in dict.fromkeys([*old, *new]) if name.partition(".")[0] not in OF_THE_COMMAND]
    return [f"{n} {old.get(n, 'absent')} → {new.get(n, 'absent')}" for n in names if old.get(n) != new.get(n)]


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
