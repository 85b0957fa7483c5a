"""Fields by which results are given, `modality` or `age:0-40-65`."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from medvlp.config.rules import ConfigError

NOT_STATED, NO_NUMBER = "(not stated)", "(not a number)"
"""Names of the items that a field does not divide: they are no group of their own, and never the worst one."""


@dataclass(frozen=True)
class Grouping:
    """A field of labels or metadata, and the edges of its bins where it holds numbers.

    text: as it was given, which names it in results. edges: each begins a bin; what is below the first is one more.
    """

    text: str
    field: str
    edges: tuple[float, ...] = ()


def parse_grouping(text: str, key: str = "by") -> Grouping:
    """The field and its edges: `age:0-40-65` is from 0 to under 40, from 40 to under 65, and from 65.

    Raises:
        ConfigError: no field, or edges that are not numbers that rise.
    """
    name, colon, bins = text.strip().rpartition(":")
    if not colon:
        name, bins = bins, ""
    advice = "write a field, e.g. modality, or a field and the edges of its bins, e.g. age:0-40-65"
    if not name:
        raise ConfigError(f"{key}={text!r} names no field; {advice}")
    if not colon:
        return Grouping(text.strip(), name)
    try:
        edges = tuple(float(edge) for edge in bins.split("-"))
    except ValueError:
        raise ConfigError(f"{key}={text!r}: {bins!r} are no edges of bins; {advice}") from None
    if not all(math.isfinite(edge) for edge in edges) or list(edges) != sorted(set(edges)):
        raise ConfigError(f"{key}={text!r}: the edges of bins must rise, found {bins}; {advice}")
    return Grouping(text.strip(), name, edges)


def parse_groupings(texts: Iterable[str], key: str = "by") -> list[Grouping]:
    """Each of the texts, once. Raises ConfigError as `parse_grouping`."""
    return list({grouping.text: grouping for grouping in (parse_grouping(text, key) for text in texts)}.values())
