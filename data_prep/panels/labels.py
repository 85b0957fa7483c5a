"""Where a caption names panels: (A), (a, b), (a–c), A), A., A:, "a Axial CT", (top), (left panel)."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile


@dataclass(frozen=True)
class Mention:
    """One place of a caption that names panels: `caption[start:stop]`."""

    start: int
    stop: int
    labels: frozenset[str]
    is_reference: bool
    """As in "the mass in (A)": it points to a panel, and does not say which words describe it."""


@dataclass(frozen=True)
class Labelling:
    """How a caption names the panels."""

    labels: tuple[str, ...]
    """In the order of the panels, as the caption writes them; letters run from A without a gap."""
    mentions: list[Mention]
    layout: str
    """"any" with letters; "row" or "column" where the labels are words of place."""


_LETTER = r"(?<![\w'’.])[A-Za-z](?![\w'’])"
_JOIN = r"\s*(?:,\s*and|,\s*&|[,;/&–—-]|and|to)\s*"
_LIST = rf"(?P<labels>(?<!-){_LETTER}(?:{_JOIN}{_LETTER}){{0,25}})"
_NOUN = r"(?:panels?|images?|pictures?|figures?|figs?\.?|parts?|photographs?|columns?|rows?|frames?)"
_SENTENCE_START = r"(?:^|(?<=[.;:!?)\]…]))\s*"

STYLES = (
    # (A), (a, b), [a–c], (panel A)
    re.compile(rf"[(\[]\s*(?:{_NOUN}\s+)?{_LIST}\s*[)\]]", re.I),
    # A) and a, b)
    re.compile(rf"(?<![\w(\[]){_LIST}\)"),
    # A: anywhere between words, as in "showing A: the sinus; B: the mucosa"
    re.compile(rf"(?<![\w(\[])(?:[Pp]anels?\s+)?{_LIST}\s?:(?=\s|[A-Z])"),
    # A. and A, where a sentence starts
    re.compile(rf"{_SENTENCE_START}(?:[Pp]anels?\s+)?{_LIST}\s?[.,](?=\s)"),
    # a Axial CT. b Coronal CT: where a sentence starts, before a capital or a figure
    re.compile(rf"{_SENTENCE_START}(?:[Pp]anels?\s+)?{_LIST}\s+(?=[A-Z0-9(])"),
)
"""The ways in which captions write letters; of two that label equally many panels the earlier one is believed."""

# "left" alone is mostly a side of the body, which is the other side of the picture: it has to name a picture.
_POSITION_WORD = re.compile(
    rf"[(\[]\s*(?:the\s+)?(?:(?P<side>left|right|middle|cent(?:er|re)|upper|lower|top|bottom)(?:[\s-]+hand)?\s+{_NOUN}"
    rf"|(?P<edge>top|bottom))\s*[)\]]"
    rf"|{_SENTENCE_START}(?:(?P<side2>left|right|middle|cent(?:er|re)|upper|lower|top|bottom)\s+{_NOUN}|(?P<edge2>top|bottom)):",
    re.I,
)
POSITION_WORDS = (
    (("left", "middle", "right"), "row"),
    (("left", "right"), "row"),
    (("top", "middle", "bottom"), "column"),
    (("top", "bottom"), "column"),
    (("upper", "middle", "lower"), "column"),
    (("upper", "lower"), "column"),
)

_POINTS_AT = re.compile(
    rf"(?:\b(?:in|on|of|from|to|as|see|than|with)\s+(?:the\s+)?(?:{_NOUN}\s+)?|[=<>]\s*)$", re.IGNORECASE
)

LOOK_BACK = 40
"""Characters before a label in which the words that make it a reference are looked for."""

FAR_LETTERS = 3
"""Letters this far beyond the last label mark structures, as in "left (L) lung"; nearer ones mean a label was missed."""


def find_mentions(caption: str) -> Labelling | None:
    """The panels that the caption names, or None where it names fewer than two or leaves letters out."""
    best: Labelling | None = None
    for style in STYLES:
        for letters in (string.ascii_uppercase, string.ascii_lowercase):
            mentions = [m for m in _letter_mentions(style, caption) if all(label in letters for label in m.labels)]
            letters_named = frozenset().union(*(m.labels for m in mentions))
            labels = tuple(takewhile(letters_named.__contains__, letters))
            strange = [letter for letter in letters_named if letters.index(letter) >= len(labels)]
            complete = len(labels) >= 2 and all(letters.index(s) >= len(labels) - 1 + FAR_LETTERS for s in strange)
            mentions = [m for m in mentions if m.labels <= frozenset(labels)]
            complete = complete and len({m.labels for m in mentions}) >= 2  # "an (a-p) view" tells no panels apart
            if complete and (best is None or len(labels) > len(best.labels)):
                best = Labelling(labels, _first_define(mentions), "any")
    return best or _place_mentions(caption)


def _letter_mentions(style: re.Pattern[str], caption: str) -> Iterator[Mention]:
    depth = _opened(caption)
    for match in style.finditer(caption):
        labels = _expand(match["labels"])
        unopened = match[0].endswith(")") and match[0][0] not in "(["
        if labels and not (unopened and depth[match.start()] > 0):
            start = match.start() + len(match[0]) - len(match[0].lstrip())
            is_reference = _POINTS_AT.search(caption[max(start - LOOK_BACK, 0) : start]) is not None
            yield Mention(start, match.end(), frozenset(labels), is_reference)


def _first_define(mentions: list[Mention]) -> list[Mention]:
    """A label's first mention describes its panel, whatever word it follows: "comparison of (a) teeth and (b) bone"."""
    defined: set[str] = set()
    resolved = []
    for mention in mentions:
        resolved.append(mention if mention.labels <= defined else replace(mention, is_reference=False))
        defined |= mention.labels
    return resolved


def _expand(text: str) -> set[str]:
    """The letters of "a", "a, b", "a and b", "a–c", "A-C, F"; none where a range runs backwards."""
    text = re.sub(r"\s*(?:[–—-]|\bto\b)\s*", "-", text)
    letters: set[str] = set()
    for piece in re.findall(r"[A-Za-z]-[A-Za-z]|(?<![A-Za-z])[A-Za-z](?![A-Za-z])", text):
        first, last = ord(piece[0]), ord(piece[-1])
        if last < first or piece[0].isupper() != piece[-1].isupper():
            return set()
        letters.update(map(chr, range(first, last + 1)))
    return letters


def _opened(caption: str) -> list[int]:
    """For each character, how many brackets are open before it; one that closes a label, as in "a)", opened none."""
    closes = {match.start(1) for match in re.finditer(r"(?<!\b[A-Za-z])(\))", caption)}
    steps = ((char == "(") - (position in closes) for position, char in enumerate(caption))
    return [0, *accumulate(steps)]


def _place_mentions(caption: str) -> Labelling | None:
    mentions = []
    for match in _POSITION_WORD.finditer(caption):
        word = next(group for group in match.groups() if group).lower()
        word = "middle" if word.startswith("cent") else word
        start = match.start() + len(match[0]) - len(match[0].lstrip())
        mentions.append(Mention(start, match.end(), frozenset([word]), False))
    labels = frozenset().union(*(m.labels for m in mentions))
    return next(
        (Labelling(words, mentions, layout) for words, layout in POSITION_WORDS if labels == frozenset(words)), None
    )
