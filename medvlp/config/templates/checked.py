"""Values of a parsed YAML file that nobody vouches for: each is what its key expects, or the error names file and key."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from medvlp.config.rules import ConfigError
from medvlp.errors import UserError


class CheckedFile:
    """A parsed file. Every method raises `error`: file, key, what is wrong with it, what was expected."""

    error: ClassVar[type[UserError]] = ConfigError

    def __init__(self, path: Path, content: Any, keys: Sequence[str]) -> None:
        """keys: those that the file may have."""
        self.path = path
        self.content = self.mapping(content, "the file", keys)

    def texts(self, value: Any, key: str) -> tuple[str, ...]:
        """A list of texts."""
        if not isinstance(value, list):
            self.fail(key, f"is a {type(value).__name__}", "expected a list of texts")
        return tuple(self.text(item, f"{key}[{number}]") for number, item in enumerate(value))

    def text(self, value: Any, key: str) -> str:
        """A text; numbers are the texts that they were typed as."""
        # YAML reads a bare `no` as false and `0` as a number.
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self.fail(key, f"is {value!r}", "expected a text; put it in quotes")
        return str(value).strip()

    def flag(self, value: Any, key: str) -> bool:
        """true or false."""
        if not isinstance(value, bool):
            self.fail(key, f"is {value!r}", "expected true or false")
        return value

    def mapping(self, value: Any, key: str, allowed: Sequence[str] = ()) -> dict[str, Any]:
        """Names with values; allowed: the names that there may be, empty: any."""
        if not isinstance(value, dict):
            self.fail(key, f"is a {type(value).__name__}", "expected names with values")
        items = {self.text(name, f"a name in {key}"): item for name, item in value.items()}
        strange = next((name for name in items if allowed and name not in allowed), "")
        if strange:
            close = get_close_matches(strange, allowed, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            self.fail(strange, "is not known", f"{hint}expected {', '.join(allowed)}")
        return items

    def fail(self, key: str, problem: str, expected: str) -> NoReturn:
        """Raises `error`."""
        raise self.error(f"{self.path}: {key} {problem}; {expected}")
