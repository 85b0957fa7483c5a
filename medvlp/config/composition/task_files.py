"""Evaluation tasks as files: configs/task/<name>.yaml."""

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medvlp.config.composition.messages import first_line
from medvlp.config.composition.search import search_folders
from medvlp.config.composition.typed import to_object
from medvlp.config.composition.yaml_files import read_mapping
from medvlp.config.rules import ConfigError, suggestion
from medvlp.config.tasks import TaskConfig


def load_task(name: str) -> TaskConfig:
    """A task by name, from configs/task/ of the working folder or the shipped ones.

    Raises:
        ConfigError: unknown name (with the nearest), or a file that does not fit the schema or its rules (with the key).
    """
    paths = {path.stem: path for root in reversed(search_folders()) for path in (root / "configs/task").glob("*.yaml")}
    if name not in paths:
        raise ConfigError(f"unknown task {name!r}{suggestion(name, list(paths))} Available: {', '.join(sorted(paths))}")
    try:
        task: TaskConfig = to_object(OmegaConf.merge(OmegaConf.structured(TaskConfig), read_mapping(paths[name])))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{paths[name]}: {first_line(error)}") from None
    task.check()
    return task
