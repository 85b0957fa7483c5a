"""From the command line to a typed, checked configuration: Hydra composes, OmegaConf checks types, people get one sentence."""

from collections.abc import Sequence
from typing import Any

from hydra import compose as hydra_compose
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medvlp.config.composition.keys import parse_override, set_in_mapping
from medvlp.config.composition.messages import missing_option, readable
from medvlp.config.composition.overrides import value_of
from medvlp.config.composition.renamed import renamed_argument
from medvlp.config.composition.search import group_folder, hydra_search, read_recipe, recipe_path
from medvlp.config.composition.task_files import expand_tasks
from medvlp.config.composition.typed import to_object
from medvlp.config.kinds import OPEN_MAPPINGS, VERBS
from medvlp.config.rules import ConfigError
from medvlp.config.train import TrainConfig


def compose(verb: str, overrides: Sequence[str]) -> Any:
    """The typed, checked configuration of a verb.

    Args:
        verb: one of `kinds.VERBS`.
        overrides: `key=value` arguments as typed on the command line.
    Raises:
        ConfigError: names the key or file, and says how to fix it.
    """
    node, _ = compose_node(verb, overrides)
    config = to_object(node)
    if isinstance(config, TrainConfig):  # `medvlp eval` asks which were named themselves
        config.tasks = expand_tasks(config.tasks)
    config.check()
    return config


def compose_node(verb: str, overrides: Sequence[str]) -> tuple[DictConfig, DictConfig | None]:
    """The configuration of a verb before it is typed, and Hydra's own part of it.

    Raises:
        ConfigError: an argument, a recipe or an option is wrong.
    """
    overrides = [renamed_argument(argument) for argument in overrides]
    for argument in overrides:
        _check_form(verb, argument)
    recipe = value_of(overrides, "recipes")
    if recipe is not None:
        _check_verb(verb, recipe)
    parsed = {argument: parse_override(verb, argument) for argument in overrides}
    for argument, override in parsed.items():
        if override.is_sweep_override():
            raise ConfigError(
                f"{argument}: several values for one key are a grid, which only `medvlp train -m` runs; give one"
            )
        if not isinstance(override.value(), str | list | dict) and (folder := group_folder(override.key_or_group)):
            raise ConfigError(f"{argument}: expected the name of an option, which is a file in the folder {folder}")
    in_mappings = [argument for argument in overrides if argument.startswith(tuple(OPEN_MAPPINGS))]
    in_schema = [str(parsed[argument].input_line) for argument in overrides if argument not in in_mappings]
    try:
        with hydra_search():
            node = hydra_compose(VERBS[verb].primary, in_schema, return_hydra_config=True)
        OmegaConf.set_struct(node, False)
        hydra = node.pop("hydra", None)
        node.pop("recipes", None)
        for argument in in_mappings:
            set_in_mapping(node, argument.partition("=")[0], parsed[argument].value())
        if verb == "train":
            _replace_length(node, overrides)
        OmegaConf.resolve(node)
        return node, hydra
    except MissingConfigException as error:
        raise ConfigError(missing_option(error)) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(readable(verb, error, overrides)) from None
    except RecursionError:
        raise ConfigError(
            f"recipe {recipe!r} takes itself as a default, by itself or by one of its own defaults"
        ) from None


def _check_form(verb: str, argument: str) -> None:
    """An argument is `key=value`, of a key that is set as a whole."""
    key, equals, _ = argument.partition("=")
    if not equals or not key or key.startswith("~"):
        raise ConfigError(f"{argument!r} is not key=value; see medvlp {verb} --help")
    if key.startswith("+"):
        raise ConfigError(
            f"{argument!r}: no key can be added to the schema, and no `+` is needed; `medvlp {verb} --help`"
        )
    if f"{key}." in OPEN_MAPPINGS:
        field = ".<field>" if OPEN_MAPPINGS[f"{key}."] else ""
        raise ConfigError(f"{key} is set name by name, e.g. {key}.<name>{field}=<value>")


def _check_verb(verb: str, recipe: str) -> None:
    """A recipe is for the verb that it is given to; `medvlp check` and `medvlp plan` take those of `medvlp train`."""
    recipe_verb = read_recipe(recipe).get("verb")
    if recipe_verb != verb and (verb, recipe_verb) not in (("check", "train"), ("plan", "train")):
        reason = f"is for `medvlp {recipe_verb}`" if recipe_verb else f"does not say `verb: {verb}`"
        raise ConfigError(f"recipe {recipe!r} ({recipe_path(recipe)}) {reason}, but this is `medvlp {verb}`")


def _replace_length(node: DictConfig, overrides: Sequence[str]) -> None:
    """A length on the command line replaces the recipe's, whichever of the two that states."""
    limits = ["trainer.max_steps", "trainer.max_epochs"]
    typed = [key for key in limits if any(argument.startswith(f"{key}=") for argument in overrides)]
    if len(typed) == 1 and OmegaConf.select(node, typed[0]) is not None:
        limits.remove(typed[0])
        OmegaConf.update(node, limits[0], None)
