"""Renamed keys: old names are taken for one release wherever a configuration comes from, and the new one is said once."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from medvlp.config.rules import ConfigError
from medvlp.distributed import launched_rank

RENAMED_KEYS = {
    "model.tower": "model.vision",
    "data.sources.*.texts": "data.sources.*.text_fields",
    "data.sources.*.questions": "data.sources.*.caption_prompts",
    "data.sources.*.question": "data.sources.*.question_template",
    "data.sources.*.answer": "data.sources.*.answer_template",
    "shown": "examples",
}
"""Old key → new key, on the command line, in YAML files, and in the configurations inside checkpoints. `*` is any name."""

RENAMED_OPTIONS = {"objective": {"words": "bag_of_words"}}
"""Group → old option (and kind) → new option."""

_notices: set[str] = set()


def renamed_argument(argument: str) -> str:
    """`key=value` under its present name."""
    key, equals, value = argument.partition("=")
    group, _, field = key.partition(".")
    if group in RENAMED_OPTIONS and field == "kind":  # of an option, the file that has its name is looked for first
        value = renamed_option(group, value)
    return f"{renamed_key(key)}{equals}{value}"


def renamed_key(key: str) -> str:
    """A dotted key under its present name; also one below a renamed key."""
    return ".".join(_renamed_path(key.split(".")))


def renamed_option(group: str, option: str) -> str:
    """An option of a group, or a kind, under its present name."""
    new = RENAMED_OPTIONS.get(group, {}).get(option)
    if new is None:
        return option
    _notify(f"{group}={option}", f"{group}={new}")
    return new


def renamed_values(values: Any, path: Sequence[Any] = ()) -> Any:
    """Nested values (of a YAML file or a checkpoint) with every key under its present name; values are left as they are.

    Args:
        path: keys that lead to them in a whole configuration.
    Raises:
        ConfigError: an old name and the new one of the same key, side by side.
    """
    if not isinstance(values, Mapping):
        return values
    result: dict[Any, Any] = {}
    for key, value in values.items():
        new = _renamed_path([*path, key])[-1]
        if new != key and new in values:
            raise ConfigError(
                f"{'.'.join([*path, key])} and {new} are the old name and the new one of the same key; keep {new}"
            )
        if key == "kind" and len(path) == 1 and isinstance(value, str):
            value = renamed_option(path[0], value)
        result[new] = renamed_values(value, [*path, new])
    return result


def _renamed_path(path: Sequence[Any]) -> list[Any]:
    for old, new in RENAMED_KEYS.items():
        old_parts, new_parts = old.split("."), new.split(".")
        start, end = path[: len(old_parts)], path[len(old_parts) :]
        if len(start) == len(old_parts) and all(
            part in ("*", name) for part, name in zip(old_parts, start, strict=True)
        ):
            _notify(old, new)
            return [name if part == "*" else part for part, name in zip(new_parts, start, strict=True)] + list(end)
    return list(path)


def _notify(old: str, new: str) -> None:
    """Tell the person who started this command, once."""
    if old not in _notices and launched_rank() == 0:
        print(f"medvlp: {old} is now {new}; the old name is taken until the next release", file=sys.stderr, flush=True)
    _notices.add(old)
