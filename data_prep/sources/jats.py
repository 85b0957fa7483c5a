"""Articles in JATS (NISO Z39.96), the XML of PubMed Central: figures, who wrote them, and under which licence.

The file is data that nobody vouches for: entities are never expanded, nothing is fetched, and libxml2's own limits on
depth, text and amplification hold. The article's own DTD is not needed: NCBI writes characters by number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from data_prep.sources.files import BadRow
from data_prep.sources.jats_text import Words, flow, text_of
from data_prep.sources.sentences import sentences
from data_prep.stages.licence import NO_CC, UNKNOWN, normalise, strictest

MAX_XML_BYTES = 64 * 2**20
MAX_AUTHORS = 500
MAX_REFERENCES = 100
"""Sentences kept for a figure, each of at most MAX_SENTENCE characters: more is not prose."""
MAX_SENTENCE = 4000

HREF = "{http://www.w3.org/1999/xlink}href"

_OTHER_ARTICLES = ("sub-article", "response")
"""Decision letters, translations: documents of their own inside an article's file."""

_OWNERS = {
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

_RETRACTED = re.compile(r"\s*[\[(]?\s*retract(?:ed|ion)\b", re.IGNORECASE)
_DASH = re.compile(r"\s*(?:[-–—‐−]|to|through)\s*")


@dataclass
class Figure:
    """A figure: one label and caption, one or more graphics."""

    id: str
    label: str
    caption: str
    slots: list[list[str]]
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


@dataclass
class Article:
    """What is known of an article from its own file."""

    ids: dict[str, str]
    """pmc ("PMC123"), pmid, doi; absent where the file does not say."""
    title: str
    journal: str
    year: int | None
    authors: list[str]
    kind: str
    """article-type: research-article, case-report, ..."""
    place: str
    """Volume and page, as a citation gives them."""
    licence: str
    licence_url: str
    retracted: list[str]
    """What says so; empty where nothing does."""
    figures: list[Figure]
    others: Counter[str]
    """Graphics that belong to no figure, by what they belong to."""


def parse_article(data: bytes) -> Article:
    """The article in a JATS file. Raises BadRow: bad_xml, entities_refused, xml_too_large, not_an_article."""
    root = _parse(data)
    try:
        return _article(root)
    except RecursionError:
        raise BadRow("bad_xml", "elements are nested too deeply") from None


def _parse(data: bytes) -> Any:
    if len(data) > MAX_XML_BYTES:
        raise BadRow("xml_too_large", f"{len(data)} bytes, at most {MAX_XML_BYTES} are parsed")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False, recover=False
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        if "entity" in str(error).lower() and b"<!ENTITY" in data:
            raise BadRow("entities_refused", f"the file declares entities: {error.msg}") from None
        raise BadRow("bad_xml", f"line {error.lineno}: {error.msg}"[:300]) from None
    except ValueError as error:  # an encoding that lxml does not know
        raise BadRow("bad_xml", str(error)[:300]) from None
    dtd = root.getroottree().docinfo.internalDTD
    if dtd is not None and next(dtd.iterentities(), None) is not None:
        raise BadRow("entities_refused", "the file declares entities of its own, which articles do not need")
    for element in root.iter(etree.Element):  # mml:math → math; an article in OAI's wrapping has a namespace too
        if element.tag.startswith("{"):
            element.tag = element.tag.rpartition("}")[2]
    article = next(root.iter("article"), None)
    if article is None:
        raise BadRow("not_an_article", f"the root element is <{root.tag[:40]}>, expected <article>")
    return article


def _article(root: Any) -> Article:
    meta = root.find("front/article-meta")
    if meta is None:
        raise BadRow("not_an_article", "the article has no <article-meta>")
    licence, url = licence_of(meta)
    others: Counter[str] = Counter()
    figures = _figures(root, others)
    _refer(root, figures)
    title = meta.find("title-group/article-title")
    title_text = "" if title is None else text_of(title)
    return Article(
        ids=_ids(meta),
        title=title_text,
        journal=_first_text(root, "front/journal-meta//journal-title", "front/journal-meta/journal-id"),
        year=_year(meta),
        authors=_authors(meta),
        kind=root.get("article-type") or "",
        place=_place(meta),
        licence=licence,
        licence_url=url,
        retracted=_retracted(root, meta, title_text),
        figures=[figure for _, figure in figures],
        others=others,
    )


def _first_text(element: Any, *paths: str) -> str:
    return next((text for path in paths for found in element.iterfind(path) if (text := text_of(found))), "")


def _ids(meta: Any) -> dict[str, str]:
    ids = {}
    for element in meta.iterfind("article-id"):
        kind, text = element.get("pub-id-type"), text_of(element)
        if kind in ("pmc", "pmcid") and (number := re.fullmatch(r"(?:PMC)?(\d{1,12})(?:\.\d+)?", text)):
            ids["pmc"] = f"PMC{number[1]}"
        elif kind in ("pmid", "doi") and text:
            ids[kind] = text
    return ids


def _year(meta: Any) -> int | None:
    """Of the issue, as citations have it, else of the first publication on line."""
    found = {}
    for date in meta.iterfind("pub-date"):
        text = _first_text(date, "year")
        if re.fullmatch(r"\d{4}", text):
            found[date.get("pub-type") or date.get("date-type") or ""] = int(text)
    order = ("ppub", "collection", "epub-ppub", "epub", "pub")
    return next((found[kind] for kind in order if kind in found), next(iter(found.values()), None))


def _authors(meta: Any) -> list[str]:
    authors = []
    for contributor in meta.iterfind("contrib-group/contrib"):
        if contributor.get("contrib-type", "author") != "author":
            continue
        name = contributor.find(".//name")
        if name is not None:
            text = " ".join(filter(None, (_first_text(name, part) for part in ("given-names", "surname"))))
        else:
            text = _first_text(contributor, ".//string-name", ".//collab")
        if text:
            authors.append(text[:200])
    return authors[:MAX_AUTHORS]


def _place(meta: Any) -> str:
    volume = _first_text(meta, "volume")
    page = _first_text(meta, "elocation-id", "fpage")
    return ":".join(filter(None, (volume, page)))


def licence_of(element: Any) -> tuple[str, str]:
    """(id, address) of the licence that an element's permissions state; ("unknown", "") where they state none."""
    statements = [_statement(licence) for licence in element.iterfind(".//license")]
    # Before JATS had <license>, journals wrote it into the copyright statement.
    if all(normalise(statement) == UNKNOWN for statement in statements):
        statements += [text_of(each) for each in element.iterfind(".//copyright-statement")]
    licence = strictest([normalise(statement) for statement in statements] or [UNKNOWN])
    urls = re.findall(r"https?://(?:www\.)?creativecommons\.org/[\w./-]+", " ".join(statements))
    return licence, next((url.rstrip(".") for url in urls if normalise(url) == licence), "")


def _statement(licence: Any) -> str:
    """All that a <license> says in text and in addresses; not in comments, where some journals keep RDF."""
    kind = licence.get("license-type") or ""
    addresses = [each.get(HREF) or "" for each in licence.iter(etree.Element)]
    return " ".join([kind if normalise(kind) != UNKNOWN else "", *addresses, text_of(licence)])


def _retracted(root: Any, meta: Any, title: str) -> list[str]:
    """What marks an article as retracted, or as the notice that retracts another (which nobody should train on)."""
    kind = root.get("article-type") or ""
    found = [f"article-type {kind}"] if kind.endswith(("retraction", "retracted-article")) else []
    for related in root.iterfind("front//related-article"):
        relation = related.get("related-article-type") or ""
        if "retract" in relation and "corrected" not in relation:
            found.append(f"related-article {relation}"[:60])
    subjects = [text_of(subject) for subject in meta.iterfind("article-categories//subject")]
    found += ["subject"] if any(_RETRACTED.match(subject) for subject in subjects) else []
    found += ["title"] if re.match(r"\s*[\[(]?\s*(?:RETRACTED|Retracted(?: article)?\s*[:\])])", title) else []
    return list(dict.fromkeys(found))


def _figures(root: Any, others: Counter[str]) -> list[tuple[Any, Figure]]:
    """(element, figure) of the article's figures, in document order; graphics of others are counted."""
    slots: dict[Any, dict[Any, list[str]]] = {}
    for graphic in root.iter("graphic", "inline-graphic"):
        owner, kind = _owner(graphic)
        if kind != "figure" or graphic.tag == "inline-graphic":
            others[kind if kind != "figure" else "inline"] += 1
            continue
        parent = graphic.getparent()
        slot = parent if parent.tag == "alternatives" else graphic
        slots.setdefault(owner, {}).setdefault(slot, []).append((graphic.get(HREF) or "").strip())
    found = []
    for element in root.iter("fig", "fig-group"):
        own = slots.get(element, {})
        if (own or element.tag == "fig") and not any(element.iterancestors(*_OTHER_ARTICLES)):
            found.append((element, _figure(element, list(own.values()))))
    return found


def _owner(graphic: Any) -> tuple[Any, str]:
    owner = next(graphic.iterancestors(*_OWNERS), None)
    if owner is None:
        return None, "text"
    within_another = next(graphic.iterancestors(*_OTHER_ARTICLES), None) is not None
    return owner, "other article" if within_another else _OWNERS[owner.tag]


def _figure(element: Any, slots: list[list[str]]) -> Figure:
    group = next(element.iterancestors("fig-group"), None)
    label, caption = _first_text(element, "label"), _caption(element)
    if group is not None:
        label = label or _first_text(group, "label")
        caption = " ".join(filter(None, (_caption(group), caption)))
    rights = " ".join(
        text for path in ("permissions", "attrib") for e in element.iterfind(path) if (text := text_of(e))
    )
    licence = licence_of(element)[0] if element.find("permissions") is not None else normalise(rights)
    if licence == UNKNOWN and re.search(r"\bpermission\b|\ball rights reserved\b|©", rights, re.IGNORECASE):
        licence = NO_CC  # lent by a publisher for this article; the article's licence does not reach it
    return Figure(
        id=element.get("id") or "",
        label=label,
        caption=caption,
        slots=slots,
        licence=licence,
        rights=rights,
        has_media=element.find(".//media") is not None,
    )


def _caption(element: Any) -> str:
    """Title and paragraphs; a title that ends in a word gets a full stop, since a sentence follows."""
    captions = element.findall("caption")
    language = "{http://www.w3.org/XML/1998/namespace}lang"
    caption = next((each for each in captions if each.get(language) == "en"), captions[0] if captions else None)
    if caption is None:
        return ""
    title = caption.find("title")
    words = Words()
    if title is not None:
        heading = text_of(title)
        words.add(heading + (". " if heading[-1:].isalnum() or heading[-1:] == ")" else " ") if heading else "")
        caption.remove(title)
    flow(caption, words)
    if title is not None:
        caption.insert(0, title)
    text = words.text.strip()
    return text.removesuffix(".") if title is not None and text == f"{heading}." else text


def _refer(root: Any, figures: list[tuple[Any, Figure]]) -> None:
    """Give each figure the sentences that refer to it."""
    targets = _targets(figures)
    for paragraph, section in _paragraphs(root):
        if not any(targets.keys() & (link.get("rid") or "").split() for link in paragraph.iter("xref")):
            continue
        words = Words()
        flow(paragraph, words)
        text = words.text
        spans = sentences(text)
        for place, numbers in _references(text, words, targets, [figure for _, figure in figures]):
            start, stop = next(((a, b) for a, b in spans if a <= place < b), (0, 0))
            for number in numbers:
                figure = figures[number][1]
                sentence = text[start:stop]
                if sentence not in figure.references and 0 < len(sentence) <= MAX_SENTENCE:
                    figure.references.append(sentence)
                    figure.sections.append(section)
    for _, figure in figures:
        del figure.references[MAX_REFERENCES:], figure.sections[MAX_REFERENCES:]


def _targets(figures: list[tuple[Any, Figure]]) -> dict[str, list[int]]:
    """Id → figures: a figure's own id, the ids of its parts, and that of the group around it."""
    targets: dict[str, list[int]] = {}
    for number, (element, _) in enumerate(figures):
        around = [group.get("id") for group in element.iterancestors("fig-group")]
        inside = [part.get("id") for part in element.iter("fig", "graphic", "caption", "p")]
        for name in dict.fromkeys([*inside, *around]):
            if name:
                targets.setdefault(name, []).append(number)
    return targets


def _paragraphs(root: Any) -> Iterator[tuple[Any, str]]:
    """(paragraph, title of its section) of the running text; none of captions, tables, footnotes, references."""
    apart = {"fig", "fig-group", "table-wrap", "ref-list", "supplementary-material", "fn", *_OTHER_ARTICLES}
    walk = etree.iterwalk(root, events=("start", "end"))
    titles: list[str] = []
    for event, element in walk:
        if element.tag in apart:
            if event == "start":
                walk.skip_subtree()
        elif element.tag in ("sec", "abstract", "app"):
            titles = [*titles, _first_text(element, "title")] if event == "start" else titles[:-1]
        elif element.tag == "p" and event == "start":
            yield element, titles[-1] if titles else ""


def _references(
    text: str, words: Words, targets: dict[str, list[int]], figures: list[Figure]
) -> Iterator[tuple[int, list[int]]]:
    """(place in the text, figures) of each reference; of "Figures 2–4" also the figures in between."""
    before: tuple[int, list[int]] = (-1, [])
    for start, stop, ids in words.links:
        numbers = [number for name in ids for number in targets.get(name, [])]
        if not numbers:
            continue
        between: list[int] = []
        if before[1] and _DASH.fullmatch(text[before[0] : start]):
            between = _between(before[1][-1], numbers[0], figures)
        elif spelled := re.search(r"(\d+)\s*[-–—]\s*(\d+)\s*$", text[start:stop]):  # one link over "2–4"
            last = _numbered(figures, numbers[-1], spelled[2])
            between = [] if last is None else [*_between(numbers[-1], last, figures), last]
        yield start, [*between, *numbers]
        before = (stop, numbers)


def _between(first: int, last: int, figures: list[Figure]) -> list[int]:
    """Figures strictly between two, of the same kind by their labels ("Figure 3", not "Scheme 1")."""
    kind = _kind(figures[first])
    return [number for number in range(first + 1, last) if _kind(figures[number]) == kind]


def _numbered(figures: list[Figure], like: int, digits: str) -> int | None:
    wanted = (_kind(figures[like]), digits)
    for number, figure in enumerate(figures):
        if number > like and (_kind(figure), "".join(re.findall(r"\d+", figure.label))) == wanted:
            return number
    return None


def _kind(figure: Figure) -> str:
    return re.sub(r"[\d\W_]+.*", "", figure.label).lower()
