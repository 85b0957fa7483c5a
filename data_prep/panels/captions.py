"""Captions of panels: the part of a figure's caption that speaks of each.

    "Ductal carcinoma. Mediolateral (A) and craniocaudal (B) views show a lobulated mass."
    A → "Ductal carcinoma. Mediolateral views show a lobulated mass."
    B → "Ductal carcinoma. craniocaudal views show a lobulated mass."

The rule: a panel's caption is the text that no label claims (the lead, closing lists of abbreviations) with the text
that its own label claims, in the order of the figure's caption. A sentence is claimed by the label in it, a sentence
without one by the label of the sentence before. In a sentence that names several panels, labels stand before their text
("(a) buccal view, (b) lingual view") or after it ("before (a) and after (b) coiling"); where the separators between
them do not show which, the caption is `Unclear`: nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from data_prep.panels.labels import Mention, find_mentions

Labels = frozenset[str]
Fragment = tuple[str, Labels]
"""A piece of the caption and the labels that claim it; no labels: all panels share it."""


class Unclear(Exception):
    """The caption labels panels, but which words belong to which label cannot be told."""


@dataclass(frozen=True)
class Parts:
    """A caption taken apart."""

    texts: dict[str, str]
    """Label, in the order of the panels → the caption of that panel."""
    layout: str
    """"any", or where labels are words of place: "row" (left, right) or "column" (top, bottom)."""


MAX_LENGTH = 8000
"""Characters: longer captions are not taken apart. Figures of PMC stay below 5,000; the work grows as the square."""


def split_caption(caption: str) -> Parts | None:
    """The caption of each panel, or None where the caption labels no panels. Raises Unclear."""
    if len(caption) > MAX_LENGTH:
        raise Unclear(f"the caption has {len(caption)} characters, more than {MAX_LENGTH}")
    labelling = find_mentions(caption)
    if labelling is None:
        return None
    fragments = list(_fragments(caption, labelling.mentions))
    for label in labelling.labels:
        if not any(label in claiming and re.search(r"[^\W_]{2}", text) for text, claiming in fragments):
            raise Unclear(f"there are no words of its own for panel {label}")
    return Parts(
        {
            label: _join([text for text, claiming in fragments if not claiming or label in claiming])
            for label in labelling.labels
        },
        labelling.layout,
    )


def _fragments(caption: str, mentions: list[Mention]) -> Iterator[Fragment]:
    current: Labels = frozenset()
    for start, stop in _sentences(caption, mentions):
        mentions_inside = [m for m in mentions if start <= m.start < stop]
        start, mentions_inside = _without_announcement(caption, start, mentions_inside)
        defining = [m for m in mentions_inside if not m.is_reference]
        groups = {m.labels for m in defining or mentions_inside}
        if not mentions_inside:
            yield caption[start:stop], frozenset() if _CLOSING.match(caption, start, stop) else current
        elif not defining:  # "The arrow in (B) shows the mass."
            current = frozenset().union(*groups)
            yield caption[start:stop], current
        elif len(groups) == 1:
            current = defining[0].labels
            opening = caption[start : defining[0].start]
            if opening.rstrip().endswith(":"):  # "Radiographs: a preoperative. b at one month.": the list's heading
                yield opening, frozenset()
                start = defining[0].start
            yield _without(caption, start, stop, defining), current
        elif _is_leading(caption, start, stop, defining):
            current = defining[-1].labels
            yield from _leading(caption, start, stop, defining)
        else:
            current = frozenset()  # what follows a sentence about several panels is about all of them
            yield from _trailing(caption, start, stop, defining)


def _without_announcement(caption: str, start: int, mentions: list[Mention]) -> tuple[int, list[Mention]]:
    """The sentence past an opening "(A, B)" that only announces its "before (A) and after (B)", and its mentions."""
    if len(mentions) > 1 and not re.search(r"\w", caption[start : mentions[0].start]):
        first, further = mentions[0], mentions[1:]
        if len(first.labels) > 1 and frozenset().union(*(m.labels for m in further)) == first.labels:
            return first.stop, further
    return start, mentions


_SEPARATOR_AFTER = re.compile(r"\s*(?:[,;.:]|$|(?:and|or|as well as|whereas|while|versus|vs\.?|then|&)(?!\w))")
_SEPARATOR_BEFORE = re.compile(r"(?:[,;:.]|\b(?:and|or|whereas|while|versus|vs\.?)|&)\s*$")
_EDGES = re.compile(
    r"^(?:[\s,;:.–—-]|(?:and|or|as well as|whereas|while|versus|vs\.?|then|&)(?!\w))+"
    r"|(?:[\s,;:–—-]|\b(?:and|or|as well as|whereas|while|versus|vs\.?|then|&)(?=\W*$))+$"
)


def _is_leading(caption: str, start: int, stop: int, mentions: list[Mention]) -> bool:
    if not re.search(r"\w", caption[start : mentions[0].start]):
        return True
    separators_before = all(_SEPARATOR_BEFORE.search(caption, start, m.start) for m in mentions[1:])
    separators_after = all(_SEPARATOR_AFTER.match(caption, m.stop, stop) for m in mentions[:-1])
    if separators_before == separators_after:
        if separators_before and _SEPARATOR_AFTER.match(caption, mentions[-1].stop, stop):
            return False
        raise Unclear("labels stand neither all before nor all after the words that they label")
    return separators_before


def _leading(caption: str, start: int, stop: int, mentions: list[Mention]) -> Iterator[Fragment]:
    labels = frozenset().union(*(m.labels for m in mentions))
    head = caption[start : mentions[0].start]
    yield head, labels
    for mention, end in zip(mentions, [m.start for m in mentions[1:]] + [stop], strict=True):
        yield _OPEN * bool(head.strip()) + _EDGES.sub("", caption[mention.stop : end]), mention.labels


def _trailing(caption: str, start: int, stop: int, mentions: list[Mention]) -> Iterator[Fragment]:
    labels = frozenset().union(*(m.labels for m in mentions))
    begins = [start] + [m.stop for m in mentions[:-1]]
    claims = [_EDGES.sub("", caption[begin : m.start]) for begin, m in zip(begins, mentions, strict=True)]
    head = claims[0].rpartition(": ")[0] + ": " if ": " in claims[0] else ""
    if all(len(text.split()) == 1 for text in claims[1:]):
        # Single words stand for single words: in "CT with coronal (A) and sagittal (B) views" both are CT.
        head = claims[0].rpartition(" ")[0]
    yield head, labels
    yield _OPEN + claims[0][len(head) :], mentions[0].labels
    yield from ((_OPEN * bool(head) + text, m.labels) for text, m in zip(claims[1:], mentions[1:], strict=True))
    yield _OPEN + caption[mentions[-1].stop : stop], labels


_OPEN = "\0"
"""Marks a fragment that continues the words before it, so that no full stop is put between them."""


def _without(caption: str, start: int, stop: int, mentions: list[Mention]) -> str:
    pieces, position = "", start
    for mention in mentions:
        pieces += caption[position : mention.start]
        position = mention.stop
    return re.sub(r"^[\s,;:.–—-]+", "", pieces + caption[position:stop])


_END = re.compile(r"(?<=[.!?…])\s+(?=[(\[\"“]?[A-Z0-9])|(?<=[a-z)\]]{2}[.!?])(?=[(\[]?[A-Z])")
_ABBREVIATION = re.compile(r"(?:\b(?:[A-Z]|[Ff]igs?|Dr|Mrs?|vs|al|no|approx|e\.g|i\.e|i\.v|ca|cf)\.|\.\.)\s*$")
_STOP = re.compile(r"[.!?]\s*$")
_CLOSING = re.compile(
    r"\s*(?:abbreviations?\b|scale ?bars?\b|bars?\s*[,:=]|(?:all|both) (?:panels|images|scale|views)\b|\[?colou?r figure"
    r"|doi\b|https?:|(?:images? )?courtesy|(?:re|ad)(?:produced|printed|apted)\b|(?-i:[A-Z][A-Za-z]?[A-Z0-9]\w*)\s*[,:=]\s)",
    re.I,
)
"""Openings of sentences that speak of the whole figure, wherever they stand."""


def _sentences(caption: str, mentions: list[Mention]) -> Iterator[tuple[int, int]]:
    """(start, stop) of each sentence; a label after a full stop opens one, whatever its case."""
    ends = {end.end() for end in _END.finditer(caption) if not _ABBREVIATION.search(_before(caption, end.end()))}
    ends |= {m.start for m in mentions if _STOP.search(_before(caption, m.start))}
    edges = [0, *sorted(ends - {0}), len(caption)]
    return ((start, stop) for start, stop in pairwise(edges) if start < stop)


def _before(caption: str, position: int) -> str:
    return caption[max(position - 12, 0) : position]


def _join(pieces: list[str]) -> str:
    caption = ""
    for piece in pieces:
        text = " ".join(piece.removeprefix(_OPEN).split())
        if not re.search(r"\w", text) or (text in caption and _CLOSING.match(text)):
            continue
        if caption and not piece.startswith(_OPEN) and caption[-1] not in ".!?…:":
            caption = caption.rstrip(",; ") + "."
        caption = f"{caption} {text}"
    caption = re.sub(r"\s+([,;.:)])", r"\1", caption).strip().rstrip(",;:")
    return caption if not caption or caption[-1] in ".!?…" else caption + "."
