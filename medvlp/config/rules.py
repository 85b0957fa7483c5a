"""Rules that several groups share: choices, ranges, and names that become folders or files."""

import math
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from medvlp.errors import UserError

MAX_NAME_BYTES = 150
"""File systems take 255, and to a name endings and numbers are added."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class ConfigError(UserError):
    """The configuration is wrong; the message says which key, and how to fix it."""


def suggestion(name: str, choices: Sequence[str]) -> str:
    """`; did you mean 'x'?` for the nearest choice, or a full stop."""
    close = get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else "."


def fold(name: str) -> str:
    """A name without case, and with nothing but letters and digits: what two spellings of one name share."""
    return "".join(character for character in name.casefold() if character.isalnum()) or name


def one_of(key: str, value: str, choices: Sequence[str]) -> None:
    """Raise ConfigError unless a string is one of its choices."""
    if value not in choices:
        raise ConfigError(f"{key}={value!r} is not a choice{suggestion(value, choices)} Choices: {', '.join(choices)}")


def some_of(key: str, values: Sequence[str], choices: Sequence[str]) -> None:
    """Raise ConfigError unless there is at least one string, and each is one of the choices."""
    if not values:
        raise ConfigError(f"{key} is empty; name at least one of {', '.join(choices)}, or leave it out")
    for value in values:
        one_of(key, value, choices)


def at_least(key: str, value: int, low: int) -> None:
    """Raise ConfigError unless a number reaches its least value."""
    if value < low:
        raise ConfigError(f"{key}={value} must be at least {low}")


def not_negative(key: str, value: float) -> None:
    """Raise ConfigError unless a number is finite and 0 or more."""
    if value < 0:
        raise ConfigError(f"{key}={value} must not be negative")
    if not math.isfinite(value):
        raise ConfigError(f"{key}={value} must be a number")


def share(key: str, value: float, below_1: bool = False) -> None:
    """Raise ConfigError unless a number is a share."""
    if not 0 <= value <= 1 or (below_1 and value == 1):
        raise ConfigError(f"{key}={value} is a share: from 0 to 1")


def check_name(key: str, name: str, advice: str = "") -> None:
    """Raise ConfigError unless a name can become a folder's or a file's."""
    if fault := fault_of(name):
        raise ConfigError(f"{key}={name!r} must be a plain folder name: {fault}{advice}")


def fault_of(name: str) -> str:
    """Why a name cannot become a folder's, in words; empty if it can. Anything goes that stays where it is put."""
    if not name or name != name.strip():
        return "it is empty, or has white space at an end"
    if "/" in name or "\\" in name:
        return "a slash leads into other folders"
    if name.startswith((".", "-")):
        return f"it begins with {name[0]!r}"
    if _CONTROL.search(name):
        return "it has control characters"
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "it cannot be written as UTF-8"
    if size > MAX_NAME_BYTES:
        return f"it has {size} bytes, at most {MAX_NAME_BYTES} are taken"
    return "" if Path(name).name == name else "it is not the name of a file"


def not_in_both(task: str, classes: Iterable[str], exclude: Iterable[str]) -> None:
    """Raises ConfigError where a class is excluded as well."""
    overlap = sorted({*classes} & {*exclude})
    if overlap:
        raise ConfigError(f"{task}: {overlap} stand under classes and under exclude; name each under one of the two")
