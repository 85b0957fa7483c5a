"""Text from data inside Markdown: it can neither become markup nor leave its line."""

import re
from collections.abc import Iterable, Sequence

# Controls, and the marks that turn the direction of what follows: a title could show itself as another text.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\u2028\u2029]+")
_ADDRESS = re.compile(r"(?:https?|ftp)://|\bwww\.|(?<=\w)@(?=\w)", re.IGNORECASE)
_MARKUP = re.compile(r"([\\`*_\[\]#|~$!])")


def one_line(text: str) -> str:
    """Text without line ends, controls and marks of direction."""
    visible = _INVISIBLE.sub(" ", text.encode("utf-8", "replace").decode("utf-8"))
    return " ".join(visible.split())


def plain(value: object) -> str:
    """A value as text that Markdown leaves as it is."""
    text = one_line(str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Some readers make links of bare addresses: of what a title says, nobody should be able to click.
    return _ADDRESS.sub(_unlinked, _MARKUP.sub(r"\\\1", text))


def _unlinked(address: re.Match[str]) -> str:
    return address[0].replace(":", "&#58;").replace(".", "&#46;").replace("@", "&#64;")


def code(value: object) -> str:
    """A value as code."""
    return f"`{one_line(str(value)).replace('`', chr(39)).replace('|', '¦')}`"


def link(text: object, address: str) -> str:
    """A link, or the text alone where the address is not one of the web."""
    if not re.fullmatch(r"https?://[^\s<>\"\\^`{|}\x00-\x1f\x7f]+", address):
        return plain(text)
    return f"[{plain(text)}](<{address}>)"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[int] = ()) -> list[str]:
    """Lines of a table. Cells that are not numbers are taken as Markdown: escape them. numbers: columns to the right."""
    rule = ["---:" if column in numbers else "---" for column in range(len(head))]
    return [f"| {' | '.join(map(str, row))} |" for row in (head, rule, *rows)]
