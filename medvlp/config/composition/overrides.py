"""Arguments as they are typed, `key=value`, and how Hydra's grammar writes them.

The schema decides how a value is read. A text is what stands behind the first `=`, whatever characters it has; quotes
around all of it are taken off, for those who are used to Hydra's. Numbers, true, false and null are read as such where the
field is no text. One value for a list is a list of one.
"""

import re
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Any, get_args

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from medvlp.config.rules import ConfigError

TEXT, TEXTS, NUMBERS = "text", "texts", "numbers"
"""Families of field types that need more than Hydra's grammar."""

EXPECTED = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    NUMBERS: "numbers, such as [0.5,1.0]",
}
ITEM = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^,]*?)\s*(?:,|$)""", re.DOTALL)
"""One element of a list: in quotes, or up to the next comma."""
SWEEP = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(")


def value_of(arguments: Sequence[str], key: str) -> str | None:
    """The text that an argument gives for a key, if any; the last one, where several do."""
    values = [unquoted(argument.partition("=")[2]) for argument in arguments if argument.startswith(f"{key}=")]
    return values[-1] if values else None


def unquoted(text: str) -> str:
    """A text without the quotes around all of it, if there are any."""
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        return text
    try:
        value = _parse(f"x={text}").value()
    except HydraException:
        return text
    return value if isinstance(value, str) else text


def quoted(text: str) -> str:
    """A text as Hydra's grammar writes it."""
    return QuotedString(text, Quote.single).with_quotes()


def elements(text: str) -> list[str]:
    """The texts of a list: `[a,b c,'d,e']`, or one text without brackets.

    Commas divide; a text with a comma stands in quotes, or alone and without brackets.
    """
    if not (text.startswith("[") and text.endswith("]")):
        return [unquoted(text)] if text else []
    return divided(text[1:-1])


def divided(text: str) -> list[str]:
    """Texts between commas, without the space around them and the quotes around all of one."""
    if not text.strip():
        return []
    return [unquoted(match[1]) for match in _items(text)]


def _items(text: str) -> Iterator[re.Match[str]]:
    position = 0
    while position <= len(text):
        match = ITEM.match(text, position)
        assert match is not None  # the last alternative matches anything up to a comma or the end
        yield match
        if not match[0].endswith(",") or match.end(1) == len(text):
            return
        position = match.end()


def family(field_type: Any) -> Any:
    """TEXT, TEXTS or NUMBERS, or the type itself; what may be null too is as what may not."""
    plain = (
        next(member for member in get_args(field_type) if member is not NoneType)
        if is_optional(field_type)
        else field_type
    )
    families = {str: TEXT, list[str]: TEXTS, list[float]: NUMBERS, list[int]: NUMBERS}
    return next((name for member, name in families.items() if plain == member), plain)


def is_optional(field_type: Any) -> bool:
    """Whether null is a value of the field."""
    return isinstance(field_type, UnionType) and NoneType in get_args(field_type)


def in_grammar(argument: str, field_type: Any, is_grid: bool = False) -> str:
    """An argument as Hydra's grammar writes it, so that its value reaches the field as typed.

    Args:
        field_type: of the key's field; None where the schema does not know it, or where it has no type of its own.
        is_grid: commas divide the cells of a grid.
    Raises:
        ConfigError: a reference to another key, or a value that the field's type cannot be.
    """
    key, _, value = argument.partition("=")
    if "${" in value:
        raise ConfigError(
            f"{argument}: ${{...}} refers to other keys in recipes and configs only; on the command line, type the value itself"
        )
    kind = family(field_type)
    if (value == "null" and is_optional(field_type)) or (is_grid and SWEEP.match(value)):
        return argument
    if kind == TEXT:
        return f"{key}={_quoted(divided(value)) if is_grid and value else quoted(unquoted(value))}"
    if kind == TEXTS:
        return f"{key}=[{_quoted(elements(value))}]"
    if kind is Any:
        return f"{key}={_plain(value)}"
    if kind == NUMBERS and not value.startswith("["):
        return f"{key}=[{value}]"
    return argument


def parsed(argument: str, field_type: Any, is_grid: bool = False, key: str = "") -> Override:
    """An argument as Hydra understands it, under another key if one is given; see `in_grammar`.

    Raises:
        ConfigError: a value that the field's type cannot be.
    """
    text = in_grammar(argument, field_type, is_grid)
    if key:
        text = f"{key}={text.partition('=')[2]}"
    try:
        return _parse(text)
    except HydraException as error:
        expected = EXPECTED.get(family(field_type))
        value = argument.partition("=")[2]
        reason = f"{value!r} is not {expected}" if expected else str(error).splitlines()[0]
        raise ConfigError(f"{argument}: {reason}") from None


def _parse(argument: str) -> Override:
    return OverridesParser.create().parse_override(argument)


def _quoted(texts: Sequence[str]) -> str:
    return ",".join(map(quoted, texts))


def _plain(value: str) -> str:
    """A value whose type nobody has stated: a list of texts, a number that is written in one way only, true, false, null,
    or else a text."""
    if value.startswith("[") and value.endswith("]"):
        return f"[{_quoted(elements(value))}]"
    if value in ("true", "false", "null"):
        return value
    for number in (int, float):
        try:
            if str(number(value)) == value:
                return value
        except ValueError:
            pass
    return quoted(unquoted(value))
