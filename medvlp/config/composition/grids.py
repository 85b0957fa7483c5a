"""Several runs from one command: a grid's cells, and a recipe's stages."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from medvlp.config.composition.compose import compose, compose_node
from medvlp.config.composition.keys import parse_override
from medvlp.config.composition.overrides import value_of
from medvlp.config.composition.renamed import renamed_argument
from medvlp.config.composition.search import SHIPPED, search_folders
from medvlp.config.rules import ConfigError

MAX_NAME = 120
"""Characters of a cell's values in the name of its folder; file systems take 255 bytes."""


def expand_grid(verb: str, overrides: Sequence[str], multirun: bool) -> list[list[str]]:
    """The cells of a grid as lists of overrides, each with a run_name of its own; one cell where there is no grid.

    A grid is a recipe whose `hydra.sweeper.params` list values, or `--multirun` with `key=a,b` on the command line.
    """
    params: dict[str, Any] = {}
    if not multirun:
        if search_folders() == [SHIPPED] and value_of(overrides, "recipes") is None:
            return [list(overrides)]  # only a recipe, or a configuration of one's own, makes a grid
        # A grid's recipe turns multirun on itself; a cell of it, started by us, turns it off again.
        _, hydra = compose_node(verb, overrides)
        if hydra is None or "MULTIRUN" not in str(hydra.get("mode")):
            return [list(overrides)]
        params = OmegaConf.to_container(hydra.sweeper).get("params") or {}  # type: ignore[union-attr]
    axes: dict[str, list[str]] = {}
    single = []
    for argument in map(renamed_argument, [*(f"{key}={value}" for key, value in params.items()), *overrides]):
        override = parse_override(verb, argument, is_grid=True)
        if not override.is_sweep_override():
            single.append(argument)
        elif override.is_discrete_sweep():
            axes[override.get_key_element()] = list(override.sweep_string_iterator())
        else:
            raise ConfigError(f"{argument}: a grid has cells; list its values, e.g. {override.get_key_element()}=1,2")
    base = value_of(single, "run_name")
    if base is None:
        base = compose_node(verb, single)[0].get("run_name")
    common = [argument for argument in single if not argument.startswith(("run_name=", "hydra."))]
    cells: list[list[str]] = []
    for values in itertools.product(*axes.values()):
        suffix = "__".join(_cell_name(key, value) for key, value in zip(axes, values, strict=True))
        run_name = f"run_name={base}__{suffix}"
        if len(suffix) > MAX_NAME or any(run_name in cell for cell in cells):  # width<9 and width>9 read alike
            run_name = f"{run_name[: len(f'run_name={base}__') + MAX_NAME]}-{len(cells) + 1}"
        cell = [f"{key}={value}" for key, value in zip(axes, values, strict=True)]
        cells.append([*common, *cell, run_name, "hydra.mode=RUN"])
    return cells


def _cell_name(key: str, value: str) -> str:
    """A key with its value, as a part of a folder's name."""
    text = re.sub(r"[\[\]'\"]", "", value)
    return re.sub(r"[^\w.+-]+", "-", f"{key.split('.')[-1]}-{text}").rstrip("-")


def compose_stages(verb: str, stages: Mapping[str, Sequence[str]], overrides: Sequence[str]) -> dict[str, Any]:
    """Stage → its configuration: the recipe, then the stage's overrides, then the command line's.

    Raises:
        ConfigError: a stage's overrides are wrong.
    """
    recipe = [argument for argument in overrides if argument.startswith("recipes=")]
    changes = [argument for argument in overrides if argument not in recipe]
    return {name: compose(verb, [*recipe, *stage, *changes]) for name, stage in stages.items()}
