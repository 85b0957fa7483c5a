"""Files of templates and mappings by name, as preparation reads them: what is wrong with one is the input's fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep.errors import PrepError
from medvlp.wording.label_captions import Templates


def load_templates(name: str) -> Templates:
    """The templates of a name, or of a path that ends in .yaml. Raises PrepError: file, key and how to fix it."""
    from medvlp.config.templates import files

    with _of_input():
        return files.load_templates(name, "options.templates")


def find_yaml(name: str, group: str, advice: str) -> Path:
    """The file of a name under configs/<group>, in the working folder or shipped, or of a path that ends in .yaml.

    Raises PrepError for none, with the names that there are.
    """
    from medvlp.config.templates import files

    with _of_input():
        return files.find_yaml(
            name, group, advice, f"options.{group.removesuffix('s') if group == 'mappings' else group}"
        )


def read_yaml(path: Path) -> tuple[str, Any]:
    """(text, what it says) of a file, within bounds. Raises PrepError."""
    from medvlp.config.templates import files

    with _of_input():
        return files.read_yaml(path)


@contextmanager
def _of_input() -> Iterator[None]:
    from medvlp.config import ConfigError

    try:
        yield
    except ConfigError as error:
        raise PrepError(str(error)) from None
