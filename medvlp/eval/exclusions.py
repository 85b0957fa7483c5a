"""Excluded items as lines of text: a number that grew because items fell away must not look like a better model."""

from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from medvlp.config.rules import fold

MAX_REASONS = 10
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
    lines = [f"{count} of {total} {unit}s: {reason}" for reason, count in ordered[:MAX_REASONS]]
    if rare := ordered[MAX_REASONS:]:
        lines.append(f"{sum(count for _, count in rare)} of {total} {unit}s: for {len(rare)} other reasons")
    of_all = f" of {total}" if unit == "sample" else ""
    codes = Counter(bad).most_common()
    return lines + [f"{count}{of_all} samples: cannot be read ({code.replace('_', ' ')})" for code, count in codes]


def slip(unit: str, name: str, count: int, data_name: str, data_count: int) -> str:
    """The sentence about one of `mistaken`'s pairs; `unit`: what the task's name is of, such as class."""
    sentence = f"{unit} {name!r} has {count or 'no'} {'sample' if count == 1 else 'samples'}"
    samples = f"{data_count} sample{'s' if data_count > 1 else ''}"
    if get_close_matches(fold(name), [fold(data_name)], cutoff=0.5):
        return f"{sentence}; did you mean {data_name!r} ({samples}, no {unit})?"
    return f"{sentence}, and {data_name!r} ({samples}) is no {unit}."


def mistaken(
    names: Iterable[str], counts: Mapping[str, int], ignored: Iterable[str] = ()
) -> list[tuple[str, str, int]]:
    """(name of the task, name in the data, its items) where one is probably meant by the other.

    A name that no item has, while the data have a name that the task does not state, is one of them: its nearest. So is a
    name in the data that differs from one of the task's in case, blanks or punctuation only.

    Args:
        names: names that a task states.
        counts: names that the data have → items.
        ignored: names in the data that are no item of the task on purpose.
    """
    names = list(names)
    strangers = {name: count for name, count in counts.items() if name not in names and name not in set(ignored)}
    pairs = []
    for name in names:
        same = [stranger for stranger in strangers if fold(stranger) == fold(name)]
        if not same and not counts.get(name) and strangers:
            folded = {fold(stranger): stranger for stranger in strangers}
            near = get_close_matches(fold(name), folded, n=1, cutoff=0.0)
            same = [folded[near[0]]] if near else [max(strangers, key=lambda stranger: strangers[stranger])]
        pairs += [(name, stranger, strangers[stranger]) for stranger in same]
    return pairs
