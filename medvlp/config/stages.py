"""A recipe of several runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from medvlp.config.compose import compose


def compose_stages(verb: str, stages: Mapping[str, Sequence[str]], words: Sequence[str]) -> dict[str, Any]:
    """Stage → its configuration: the recipe, then the stage's overrides, then what the command line gives.

    Raises:
        ConfigError: a stage's overrides are wrong.
    """
    recipe = [word for word in words if word.startswith("recipes=")]
    given = [word for word in words if word not in recipe]
    return {name: compose(verb, [*recipe, *more, *given]) for name, more in stages.items()}
