"""The sentences of an article that refer to its figures."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from lxml import etree

from data_prep.captions.sentences import sentences
from data_prep.readers.fields import MAX_TEXT
from data_prep.sources.figures.pmc_articles.figures import NESTED_ARTICLES, Figure
from data_prep.sources.figures.pmc_articles.text import TextBuilder, first_text, flow
from data_prep.vocabulary.text import tidy

MAX_REFERENCES = 100
"""Sentences kept for a figure, each of at most MAX_SENTENCE characters: more is not prose."""
MAX_SENTENCE = 4000
MAX_TITLE = 300
MAX_RANGE = 50
"""Figures from the first to the last of "Figures 2–4"."""

_DASH = re.compile(r"\s*(?:[-–—‐−]|to|through)\s*")


def refer(root: Any, figures: list[tuple[Any, Figure]]) -> None:
    """Give each figure the sentences that refer to it."""
    targets = _targets(figures)
    for paragraph, section in _paragraphs(root):
        if not any(targets.keys() & (link.get("rid") or "").split() for link in paragraph.iter("xref")):
            continue
        words = TextBuilder()
        flow(paragraph, words)
        text = words.text
        if len(text) > MAX_TEXT:
            continue
        spans = sentences(text)
        starts = [start for start, _ in spans]
        for offset, numbers in _references(text, words, targets, [figure for _, figure in figures]):
            start, stop = spans[max(0, bisect_right(starts, offset) - 1)] if spans else (0, 0)
            for number in numbers if 0 < stop - start <= MAX_SENTENCE else []:
                _add(figures[number][1], text[start:stop], section)


def _add(figure: Figure, sentence: str, section: str) -> None:
    if len(figure.references) < MAX_REFERENCES and sentence not in figure.references:
        figure.references.append(sentence)
        figure.sections.append(section)


def _targets(figures: list[tuple[Any, Figure]]) -> dict[str, list[int]]:
    """Id → figures: a figure's own id, the ids of its parts, and that of the group around it."""
    targets: dict[str, list[int]] = {}
    for number, (element, _) in enumerate(figures):
        group_ids = [group.get("id") for group in element.iterancestors("fig-group")]
        part_ids = [part.get("id") for part in element.iter("fig", "graphic", "caption", "p")]
        for name in dict.fromkeys([element.get("id"), *part_ids, *group_ids]):
            if name:
                targets.setdefault(name, []).append(number)
    return targets


def _paragraphs(root: Any) -> Iterator[tuple[Any, str]]:
    """(paragraph, title of its section) of the running text; none of captions, tables, footnotes, references."""
    skipped_tags = {"fig", "fig-group", "table-wrap", "ref-list", "supplementary-material", "fn", *NESTED_ARTICLES}
    walk = etree.iterwalk(root, events=("start", "end"))
    titles: list[str] = []
    for event, element in walk:
        if element.tag in skipped_tags:
            if event == "start":
                walk.skip_subtree()
        elif element.tag in ("sec", "abstract", "app"):
            titles = [*titles, tidy(first_text(element, "title"))[:MAX_TITLE]] if event == "start" else titles[:-1]
        elif element.tag == "p" and event == "start":
            yield element, titles[-1] if titles else ""


def _references(
    text: str, words: TextBuilder, targets: dict[str, list[int]], figures: list[Figure]
) -> Iterator[tuple[int, list[int]]]:
    """(place in the text, figures) of each reference; of "Figures 2–4" also the figures in between."""
    previous: tuple[int, list[int]] = (-1, [])
    for start, stop, ids in words.links:
        numbers = [number for name in ids for number in targets.get(name, [])]
        if not numbers:
            continue
        between: list[int] = []
        if previous[1] and _DASH.fullmatch(text[previous[0] : start]):
            between = _between(previous[1][-1], numbers[0], figures)
        elif spelled := re.search(r"(\d+)\s*[-–—]\s*(\d+)\s*$", text[start:stop]):  # one link over "2–4"
            last = _numbered(figures, numbers[-1], spelled[2])
            between = [] if last is None else [*_between(numbers[-1], last, figures), last]
        yield start, [*between, *numbers]
        previous = (stop, numbers)


def _between(first: int, last: int, figures: list[Figure]) -> list[int]:
    """Figures strictly between two, of the same kind by their labels ("Figure 3", not "Scheme 1")."""
    kind = _kind(figures[first])
    return [number for number in range(first + 1, min(last, first + MAX_RANGE)) if _kind(figures[number]) == kind]


def _numbered(figures: list[Figure], position: int, digits: str) -> int | None:
    label = (_kind(figures[position]), digits)
    for number, figure in enumerate(figures[position + 1 : position + MAX_RANGE], start=position + 1):
        if (_kind(figure), "".join(re.findall(r"\d+", figure.label))) == label:
            return number
    return None


def _kind(figure: Figure) -> str:
    return re.sub(r"[\d\W_]+.*", "", figure.label).lower()
