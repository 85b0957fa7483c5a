"""Prompt sets of a task over answers: keys that replace the task's own, several by name."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medvlp.config.evaluation.answering.prompting import PROMPT_SET_KEYS, PromptingConfig
from medvlp.config.rules import ConfigError

Config = TypeVar("Config", bound=Any)


def with_prompt_set(config: Config, name: str, values: Any) -> Config:
    """A task with the keys of one of its prompt sets. Of `prompting` those that the set names replace the task's.

    Raises:
        ConfigError: no mapping, a key that a set cannot replace, or a value of another type.
    """
    location = f"task {config.name}: prompt_sets.{name}"
    possible = [key for key in PROMPT_SET_KEYS if key in {field.name for field in fields(config)}]
    if not isinstance(values, Mapping) or set(values) - set(possible):
        raise ConfigError(f"{location}: {values!r}, expected a mapping with some of the keys {', '.join(possible)}")
    changes = dict(values)
    try:
        if "prompting" in changes:
            node = OmegaConf.structured(config.prompting)
            prompting: PromptingConfig = OmegaConf.to_object(OmegaConf.merge(node, changes["prompting"] or {}))  # type: ignore[assignment]
            changes["prompting"] = prompting
        plain = {key: value for key, value in changes.items() if key != "prompting"}
        typed: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(replace(config, prompt_sets={})), plain))
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise ConfigError(f"{location}: {str(error).splitlines()[0]}") from None
    of_set: Config = typed
    return replace(of_set, **{key: value for key, value in changes.items() if key == "prompting"})


def check_prompt_sets(config: Any) -> None:
    """That each set makes a task, and that none shows what the choice is made on. Raises ConfigError."""
    task = f"task {config.name}"
    if config.prompt_sets and getattr(config, "instructions", {}):
        raise ConfigError(f"{task}: give instructions or prompt_sets, not both; a set may have an instruction")
    by_name = {name: with_prompt_set(config, name, values) for name, values in config.prompt_sets.items()}
    for of_set in by_name.values():
        of_set.check()
    is_chosen = bool(config.prompt_sets or getattr(config, "instructions", {}))
    for of_set in by_name.values() or [config]:
        if is_chosen and of_set.prompting.shots and of_set.prompting.split == config.valid_split:
            raise ConfigError(
                f"{task}: prompting.split={of_set.prompting.split} is valid_split, on which the prompts are chosen; its answers "
                f"would stand in them. Name another split"
            )
