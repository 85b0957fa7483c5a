"""Reading the files of a run, as far as a killed process wrote them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from medvlp.config import ConfigError, read_text
from medvlp.errors import UserError
from medvlp.jsonl import Row, read_rows, torn_bytes
from medvlp.shards import ShardError


class NotARun(UserError):
    """A folder without the files of a run, or with files that cannot be read; the message says which."""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Content of an unexpected shape becomes NotARun, which names the file that it came from."""
    try:
        yield
    except (NotARun, ShardError):
        raise  # they name what is wrong by themselves
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise NotARun(f"{path} is not as medvlp writes it ({problem}); restore it, or make it again") from None


@dataclass(frozen=True)
class JsonLines:
    """The rows of a .jsonl file, and a note if it ends in the middle of one."""

    rows: list[Row] = field(default_factory=list)
    note: str = ""


def read_jsonl(path: Path) -> JsonLines:
    """All rows; an absent file has none. An incomplete last line is what a killed run leaves: it is dropped, with a note.

    Raises:
        BrokenLine: a broken line elsewhere, with its number.
    """
    torn = f"The last line of {path.name} is incomplete, as a killed run leaves it; it is ignored."
    return JsonLines(list(read_rows(path)), torn if torn_bytes(path) else "")


def read_json(path: Path) -> Row:
    """A JSON object; an absent file is an empty one.

    Raises:
        NotARun: the file is not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise NotARun(f"{path} is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise NotARun(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def read_yaml(path: Path) -> Row:
    """A YAML mapping; an absent file is an empty one.

    Raises:
        NotARun: the file is not a YAML mapping.
    """
    try:
        content = (yaml.safe_load(read_text(path)) if path.is_file() else None) or {}
    except (ConfigError, yaml.YAMLError, RecursionError) as error:
        raise NotARun(str(error) if isinstance(error, ConfigError) else f"{path} is not YAML ({error})") from None
    if not isinstance(content, dict):
        raise NotARun(f"{path}: expected a YAML mapping, found {type(content).__name__}")
    return content
