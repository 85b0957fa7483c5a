from pathlib import Path

import pytest
import yaml

from medvlp.config import compose, expand_grid, list_options, load_task
from medvlp.config.composition.search import SHIPPED

RECIPES = sorted(list_options("recipes"))
NEEDED = {"eval": ["checkpoints=[a.ckpt]"], "train": [], "prep": []}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_composes_and_stays_short(name):
    path = Path(SHIPPED / "recipes" / f"{name}.yaml")
    verb = yaml.safe_load(path.read_text())["verb"]
    for cell in expand_grid(verb, [f"recipes={name}", *NEEDED[verb]], multirun=False):
        config = compose(verb, cell)
        assert config.verb == verb
        for task in getattr(config, "tasks", []):
            assert load_task(task).name == task
    assert len(path.read_text().splitlines()) <= 25


@pytest.mark.parametrize("name", sorted(list_options("configs/task")))
def test_a_task_is_named_after_its_file(name):
    assert load_task(name).name == name


def test_every_option_says_what_it_is():
    silent = [
        f"{folder}/{name}"
        for folder in ("recipes", "configs/data", "configs/model", "configs/task", "configs/objective")
        for name, sentence in list_options(folder).items()
        if not sentence
    ]
    assert silent == []
