"""Free text without what identifies a person: found by kind, replaced by the kind's placeholder.

The kinds follow the identifiers of HIPAA's safe harbour (45 CFR 164.514(b)(2)). Within the texts of one sample what was
found once is also removed wherever else it stands: a surname from the header, a record number in a caption.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from data_prep.deidentify import dates, identifiers, name_lists, names, places

Finder = Callable[[str], Iterator[tuple[int, int]]]


def _find_names(text: str) -> Iterator[tuple[int, int]]:
    yield from names.find_names(text)
    yield from name_lists.find_listed(text)


KINDS: dict[str, Finder] = {
    "email": identifiers.find_emails,
    "url": identifiers.find_urls,
    "date": dates.find_dates,
    "phone": identifiers.find_phones,
    "id": identifiers.find_ids,
    "age": identifiers.find_ages,
    "address": places.find_addresses,
    "hospital": places.find_hospitals,
    "name": _find_names,
}
"""Kind → what finds it. Where finds overlap all of it is removed, under the kind that begins first, then as listed here."""

Span = tuple[int, int, str]
"""Start, end (exclusive), kind."""

_SHORTEST_AGAIN = 5
"""Characters that a find needs to be looked for elsewhere as it stands: shorter ones are parts of other words."""


def find(text: str) -> list[Span]:
    """What identifies a person in the text, in order, without overlaps."""
    return _merged((start, end, kind) for kind, finder in KINDS.items() for start, end in finder(text))


def deidentify(texts: list[str]) -> tuple[list[str], Counter[str]]:
    """The texts of one sample with [DATE], [NAME], ... in place of what was found, and how often by kind.

    Nothing that was removed is returned, logged or kept.
    """
    spans_by_text = [find(text) for text in texts]
    if not any(spans_by_text):
        return texts, Counter()
    patterns = _repeated(
        {
            (text[start:end], kind)
            for text, spans in zip(texts, spans_by_text, strict=True)
            for start, end, kind in spans
        }
    )
    counts: Counter[str] = Counter()
    cleaned = []
    for text, spans in zip(texts, spans_by_text, strict=True):
        repeats = ((*match.span(), kind) for kind, pattern in patterns for match in pattern.finditer(text))
        spans = _merged([*spans, *repeats])
        counts.update(kind for *_, kind in spans)
        cleaned.append(_replaced(text, spans))
    return cleaned, counts


def _repeated(identifiers: set[tuple[str, str]]) -> list[tuple[str, re.Pattern[str]]]:
    patterns = []
    for kind in KINDS:
        strings = {text for text, its_kind in identifiers if its_kind == kind and _worth_looking_for(text, kind)}
        if strings:
            longest_first = sorted(strings, key=lambda text: (-len(text), text))
            patterns.append((kind, re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)))
    surnames = names.again({string for string, kind in identifiers if kind == "name"})
    return [*patterns, ("name", surnames)] if surnames else patterns


def _worth_looking_for(text: str, kind: str) -> bool:
    # Single words of names are `names.again`'s, which knows eponyms; an age over 89 is found wherever it stands.
    return len(text) >= _SHORTEST_AGAIN and kind != "age" and (kind != "name" or " " in text)


def _merged(spans: Iterable[Span]) -> list[Span]:
    order = list(KINDS)
    merged: list[Span] = []
    for start, end, kind in sorted(spans, key=lambda span: (span[0], order.index(span[2]), -span[1])):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]), merged[-1][2])
        elif start < end:
            merged.append((start, end, kind))
    return merged


def _replaced(text: str, spans: list[Span]) -> str:
    pieces, last = [], 0
    for start, end, kind in spans:
        pieces += [text[last:start], f"[{kind.upper()}]"]
        last = end
    return "".join([*pieces, text[last:]])
