"""Between OmegaConf's nodes, typed configurations, and the plain dicts of checkpoints and config.yaml."""

import dataclasses
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medvlp.config.composition.messages import first_line
from medvlp.config.composition.renamed import renamed_values
from medvlp.config.composition.search import list_options
from medvlp.config.kinds import KINDS
from medvlp.config.rules import ConfigError
from medvlp.config.train import TrainConfig


def to_object(node: Any) -> Any:
    """The typed object of a node. Raises ConfigError where a required key is not set, naming the options that there are."""
    missing = sorted(OmegaConf.missing_keys(node))
    if missing:
        options = {} if "." in missing[0] else list_options(f"configs/{missing[0]}")
        hint = f". Options: {', '.join(sorted(options))}" if options else ""
        raise ConfigError(f"{missing[0]} is not set; give {missing[0]}=<value>{hint}")
    try:
        return OmegaConf.to_object(node)
    except OmegaConfBaseException as error:
        raise ConfigError(first_line(error)) from None


def as_dict(config: Any) -> dict[str, Any]:
    """Plain dicts, lists, strings and numbers: what a checkpoint and config.yaml hold."""
    return dataclasses.asdict(config)


def from_dict(values: dict[str, Any]) -> TrainConfig:
    """A training configuration from `as_dict`'s output, typed again.

    Raises:
        ConfigError: an unknown key, kind or value.
    """
    try:
        values = renamed_values(values)
        node = OmegaConf.structured(TrainConfig)
        for group, kinds in KINDS.items():
            kind = values[group]["kind"]
            if kind not in kinds:
                raise ConfigError(f"{group}.kind={kind!r} is unknown here; known: {sorted(kinds)}")
            node[group] = OmegaConf.structured(kinds[kind])
        config: TrainConfig = to_object(OmegaConf.merge(node, values))
    except (OmegaConfBaseException, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"not a training configuration: {first_line(error)}") from None
    return config
