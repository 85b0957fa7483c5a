"""What a score leaves out, in words: a number that grew because items fell away must not look like a better model."""

from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from medvlp.config.rules import fold

NAMED = 10
"""Reasons with a line of their own, those with most items first."""


def exclusion_lines(excluded: Mapping[str, int], bad: Mapping[str, int], unit: str, used: int) -> list[str]:
    """A line for each reason.

    Args:
        excluded: reason in words → items.
        bad: reason of an unreadable sample, as a code → samples.
        unit: what is counted: sample or question.
        used: items that the scores are over.
    """
    total = used + sum(excluded.values()) + (sum(bad.values()) if unit == "sample" else 0)
    ordered = Counter(excluded).most_common()
    lines = [f"{count} of {total} {unit}s: {reason}" for reason, count in ordered[:NAMED]]
    if rest := ordered[NAMED:]:
        lines.append(f"{sum(count for _, count in rest)} of {total} {unit}s: for {len(rest)} other reasons")
    of_all = f" of {total}" if unit == "sample" else ""
    codes = Counter(bad).most_common()
    return lines + [f"{count}{of_all} samples: cannot be read ({code.replace('_', ' ')})" for code, count in codes]


def slip(kind: str, name: str, count: int, other: str, others: int) -> str:
    """What to say of one of `mistaken`'s pairs; `kind`: what the wanted name is, such as class."""
    has = f"{kind} {name!r} has {count or 'no'} {'sample' if count == 1 else 'samples'}"
    samples = f"{others} sample{'s' if others > 1 else ''}"
    if get_close_matches(fold(name), [fold(other)], cutoff=0.5):
        return f"{has}; did you mean {other!r} ({samples}, no {kind})?"
    return f"{has}, and {other!r} ({samples}) is no {kind}."


def mistaken(
    wanted: Iterable[str], found: Mapping[str, int], ignored: Iterable[str] = ()
) -> list[tuple[str, str, int]]:
    """(wanted name, name that the data have, its items) where one is probably meant by the other.

    A wanted name that no item has, beside a name that nobody wants, is one of them: its nearest. So is a name in the
    data that differs from a wanted one in case, blanks or punctuation only.

    Args:
        wanted: names that a task states.
        found: names that the data have → items.
        ignored: names in the data that are left out on purpose.
    """
    wanted = list(wanted)
    strangers = {name: count for name, count in found.items() if name not in wanted and name not in set(ignored)}
    pairs = []
    for name in wanted:
        same = [stranger for stranger in strangers if fold(stranger) == fold(name)]
        if not same and not found.get(name) and strangers:
            folded = {fold(stranger): stranger for stranger in strangers}
            near = get_close_matches(fold(name), folded, n=1, cutoff=0.0)
            same = [folded[near[0]]] if near else [max(strangers, key=lambda one: strangers[one])]
        pairs += [(name, stranger, strangers[stranger]) for stranger in same]
    return pairs
