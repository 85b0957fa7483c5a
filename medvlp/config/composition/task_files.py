"""Evaluation tasks as files: configs/task/<name>.yaml."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medvlp.config.composition.messages import first_line
from medvlp.config.composition.search import search_folders
from medvlp.config.composition.typed import to_object
from medvlp.config.composition.yaml_files import read_mapping
from medvlp.config.rules import ConfigError, one_of, suggestion
from medvlp.config.tasks import TASKS, TaskConfig


def load_task(name: str) -> TaskConfig:
    """A task by name, from configs/task/ of the working folder or the shipped ones, as its kind's dataclass.

    Raises:
        ConfigError: unknown name (with the nearest), or a file that does not fit its kind's options or their rules (with the
            key).
    """
    paths = task_files()
    if name not in paths:
        groups = task_groups()
        raise ConfigError(
            f"unknown task {name!r}{suggestion(name, [*paths, *groups])} Available: {', '.join(sorted(paths))}; and groups of "
            f"tasks: {', '.join(groups)}"
        )
    path = paths[name]
    node = read_mapping(path)
    schema = _schema_of(path, node)
    try:
        task: TaskConfig = to_object(OmegaConf.merge(OmegaConf.structured(schema), node))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {first_line(error)}") from None
    task.check()
    return task


def task_files() -> dict[str, Path]:
    """Name → file, by the alphabet; one of the working folder goes before a shipped one of its name."""
    paths = {path.stem: path for root in reversed(search_folders()) for path in (root / "configs/task").glob("*.yaml")}
    return dict(sorted(paths.items()))


def task_groups() -> dict[str, list[str]]:
    """Group → its tasks, both by the alphabet.

    Raises:
        ConfigError: a file that is not understood; it could be of any group.
    """
    groups: dict[str, list[str]] = {}
    for name, path in task_files().items():
        values = OmegaConf.to_container(read_mapping(path), resolve=False).get("groups")  # type: ignore[union-attr]
        for group in values if isinstance(values, list) else []:
            groups.setdefault(str(group), []).append(name)
    return dict(sorted(groups.items()))


def expand_tasks(names: Sequence[str]) -> list[str]:
    """Tasks and groups as tasks, each once: a group's by the alphabet, in the group's position. A task goes before a group of
    its name; what is neither stays, and `load_task` refuses it.

    Raises:
        ConfigError: a name that is no task's, and a file that is not understood.
    """
    paths = task_files()
    groups = task_groups() if any(name not in paths for name in names) else {}
    return list(
        dict.fromkeys(task for name in names for task in ([name] if name in paths else groups.get(name, [name])))
    )


def _schema_of(path: Path, node: DictConfig) -> type[TaskConfig]:
    """The dataclass of a file's kind. Raises ConfigError for a kind that does not exist, and for a key that it does not have."""
    if "kind" not in node:
        raise ConfigError(f"{path}: kind is not set; give one of {', '.join(TASKS)}")
    kind = str(node.get("kind"))
    one_of(f"task {node.get('name', path.stem)}: kind", kind, list(TASKS))
    schema, _ = TASKS[kind]
    keys = _keys(schema)
    for key in map(str, node):
        kinds_with_it = [name for name, (options, _) in TASKS.items() if key in _keys(options)]
        if key not in keys and kinds_with_it:
            raise ConfigError(
                f"{path}: {key} is an option of kind: {' or '.join(kinds_with_it)}, and this task is of kind: {kind}, "
                f"whose keys are {', '.join(keys)}"
            )
        if key not in keys:
            raise ConfigError(
                f"{path}: unknown key {key!r}{suggestion(key, keys)} Keys of kind: {kind}: {', '.join(keys)}"
            )
    return schema


def _keys(schema: type[TaskConfig]) -> list[str]:
    return [option.name for option in dataclasses.fields(schema)]
