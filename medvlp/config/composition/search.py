"""Where recipes and options lie: the working folder's own come first, then the shipped ones."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from medvlp.config.composition.prepared import PreparedData
from medvlp.config.composition.yaml_files import CheckedSource, RecipesSource, check_recipe, first_comment
from medvlp.config.rules import ConfigError, check_name, suggestion

PACKAGE = Path(__file__).resolve().parents[2]
SHIPPED = PACKAGE / "_shipped" if (PACKAGE / "_shipped").is_dir() else PACKAGE.parent
"""Parent of configs/ and recipes/: inside an installed wheel, or the repository."""


def search_folders() -> list[Path]:
    """Parents of configs/ and recipes/ that are searched, in this order."""
    folder = Path.cwd()
    is_searched = folder != SHIPPED and any((folder / name).is_dir() for name in ("configs", "recipes"))
    return [folder, SHIPPED] if is_searched else [SHIPPED]


def list_options(folder: str) -> dict[str, str]:
    """Names under `recipes` or `configs/<group>`, each with the first comment line of its file."""
    options = {}
    for root in reversed(search_folders()):
        for path in sorted((root / folder).rglob("*.yaml")):
            options[path.relative_to(root / folder).with_suffix("").as_posix()] = first_comment(path)
    return options


def read_recipe(name: str) -> DictConfig:
    """A recipe's own values, without those of its defaults.

    Raises:
        ConfigError: there is none of that name (with the nearest), or it is no recipe.
    """
    return check_recipe(recipe_path(name))


def recipe_path(name: str) -> Path:
    """The file of a recipe. Raises ConfigError where there is none, with the nearest name."""
    for part in name.split("/"):  # eval writes to runs/eval/<recipe>
        check_name("recipes", part)
    for root in search_folders():
        if (path := root / "recipes" / f"{name}.yaml").is_file():
            return path
    names = sorted(list_options("recipes"))
    raise ConfigError(f"unknown recipe {name!r}{suggestion(name, names)} Available: {', '.join(names)}")


def group_folder(key: str) -> str:
    """The first folder under a configs/ whose options a key chooses from; "" where there is none."""
    folders = (os.path.join(root, "configs", key) for root in search_folders())
    return next(filter(os.path.isdir, folders), "")


@contextmanager
def hydra_search() -> Iterator[None]:
    """Hydra looking through every search folder, the working folder first, and then through what is prepared.

    `hydra.searchpath` would not do: it comes after the main folder, so a shipped option would hide one's own.
    """
    roots = search_folders()
    options = [f"{CheckedSource.scheme()}://{root / 'configs'}" for root in roots if (root / "configs").is_dir()]
    first, *later = [*options, *(f"{RecipesSource.scheme()}://{root}" for root in roots)]
    search = create_config_search_path(first)
    schema = search.get_path().pop()  # Hydra insists on its being the last
    for path in later:
        search.append("medvlp", path)
    search.append("medvlp", f"{PreparedData.scheme()}://")
    search.get_path().append(schema)
    with initialize_config_dir(str(SHIPPED / "configs"), version_base="1.3"):
        GlobalHydra.instance().clear()
        Hydra.create_main_hydra2("medvlp", search)
        yield
