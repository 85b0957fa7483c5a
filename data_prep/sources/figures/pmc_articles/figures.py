"""The figures of an article in JATS: labels, captions, graphics, and rights of their own."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from data_prep.errors import BadRow
from data_prep.readers.fields import MAX_TEXT
from data_prep.sources.figures.pmc_articles.rights import HREF, licence_of
from data_prep.sources.figures.pmc_articles.text import TextBuilder, first_text, flow, text_of
from data_prep.vocabulary.licences import NO_CC, UNKNOWN, normalise
from data_prep.vocabulary.text import tidy

MAX_FIGURES = 2000
"""Of an article; the longest reviews and atlases have some hundreds."""


NESTED_ARTICLES = ("sub-article", "response")
"""Decision letters, translations: documents of their own inside an article's file."""

_CONTAINERS = {
    "fig": "figure",
    "fig-group": "figure",
    "table-wrap": "table",
    "disp-formula": "formula",
    "inline-formula": "formula",
    "chem-struct-wrap": "formula",
    "supplementary-material": "supplement",
    "sub-article": "other article",
    "response": "other article",
}
"""What a graphic belongs to, by the nearest of these around it."""


@dataclass
class Figure:
    """A figure: one label and caption, one or more graphics."""

    id: str
    label: str
    caption: str
    """At most MAX_TEXT + 1 characters: a longer one is of no use to anybody."""
    graphics: list[list[str]]
    """Its graphics; each is the list of alternatives that show the same."""
    licence: str
    """Of the figure, where it has a statement of its own; "unknown" otherwise."""
    rights: str
    """That statement, or the attribution, as printed."""
    has_media: bool
    references: list[str] = field(default_factory=list)
    """The sentences of the text that refer to it."""
    sections: list[str] = field(default_factory=list)
    """The title of the section that each of them stands in."""


def figures_of(root: Any, other_graphics: Counter[str]) -> list[tuple[Any, Figure]]:
    """(element, figure) of the article's figures, in document order; graphics of others are counted."""
    graphics: dict[Any, dict[Any, list[str]]] = {}
    for graphic in root.iter("graphic", "inline-graphic"):
        container, kind = _container(graphic)
        if kind != "figure" or graphic.tag == "inline-graphic":
            other_graphics["inline" if graphic.tag == "inline-graphic" and kind in ("figure", "text") else kind] += 1
            continue
        parent = graphic.getparent()
        alternatives = parent if parent.tag == "alternatives" else graphic
        graphics.setdefault(container, {}).setdefault(alternatives, []).append((graphic.get(HREF) or "").strip())
    holders = [text_of(statement) for statement in root.iterfind("front//copyright-statement")]
    captions = {group: _caption(group) for group in root.iter("fig-group")}
    figures = []
    for element in root.iter("fig", "fig-group"):
        figure_graphics = graphics.get(element, {})
        if (figure_graphics or element.tag == "fig") and not any(element.iterancestors(*NESTED_ARTICLES)):
            figures.append((element, _figure(element, list(figure_graphics.values()), holders, captions)))
        if len(figures) > MAX_FIGURES:
            raise BadRow("too_many_figures", f"more than {MAX_FIGURES} figures in one article")
    return figures


def _container(graphic: Any) -> tuple[Any, str]:
    container = next(graphic.iterancestors(*_CONTAINERS), None)
    if container is None:
        return None, "text"
    within_another = next(graphic.iterancestors(*NESTED_ARTICLES), None) is not None
    return container, "other article" if within_another else _CONTAINERS[container.tag]


def _figure(element: Any, graphics: list[list[str]], holders: list[str], captions: dict[Any, str]) -> Figure:
    group = next(element.iterancestors("fig-group"), None)
    label, caption = first_text(element, "label"), _caption(element)
    if group is not None:
        label = label or first_text(group, "label")
        caption = " ".join(filter(None, (captions[group], caption)))
    rights, licence = _rights(element, holders)
    return Figure(
        id=(element.get("id") or "")[:200],
        label=tidy(label)[:200],
        caption=caption[: MAX_TEXT + 1],
        graphics=graphics,
        licence=licence,
        rights=tidy(rights)[:2000],
        has_media=element.find(".//media") is not None,
    )


def _rights(element: Any, holders: list[str]) -> tuple[str, str]:
    """(statement or attribution as printed, licence) of a figure's own; ("", "unknown") where it has none.

    holders: the article's own copyright statements. A figure that another publisher lent for this article is none of
    Creative Commons, whatever the article is.
    """
    rights = " ".join(
        text for path in ("permissions", "attrib") for e in element.iterfind(path) if (text := text_of(e))
    )
    licence = licence_of(element)[0] if element.find("permissions") is not None else normalise(rights)
    holder = first_text(element, "permissions/copyright-statement")
    is_the_articles = holder in holders or re.search(r"\bauthors?\b", holder, re.IGNORECASE) is not None
    is_lent = bool(re.search(r"\bpermission\b|\ball rights reserved\b", rights, re.IGNORECASE))
    if licence == UNKNOWN and (is_lent or (holder and not is_the_articles)):
        licence = NO_CC
    return rights, licence


def _caption(element: Any) -> str:
    """Title and paragraphs; a title that ends in a word gets a full stop, since a sentence follows."""
    captions = element.findall("caption")
    language = "{http://www.w3.org/XML/1998/namespace}lang"
    caption = next(
        (caption for caption in captions if caption.get(language) == "en"), captions[0] if captions else None
    )
    if caption is None:
        return ""
    title = caption.find("title")
    words = TextBuilder()
    if title is not None:
        heading = text_of(title)
        words.add(heading + (". " if heading[-1:].isalnum() or heading[-1:] == ")" else " ") if heading else "")
        caption.remove(title)
    flow(caption, words)
    if title is not None:
        caption.insert(0, title)
    text = words.text.strip()
    return text.removesuffix(".") if title is not None and text == f"{heading}." else text
