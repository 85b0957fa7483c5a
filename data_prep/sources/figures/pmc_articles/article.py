"""Articles in JATS (NISO Z39.96), the XML of PubMed Central: figures, who wrote them, and under which licence.

The file is data that nobody vouches for: entities are never expanded, nothing is fetched, and libxml2's own limits on
depth, text and amplification hold. The article's own DTD is not needed: NCBI writes characters by number.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from lxml import etree

from data_prep.errors import BadRow
from data_prep.sources.figures.pmc_articles.figures import Figure, figures_of
from data_prep.sources.figures.pmc_articles.references import refer
from data_prep.sources.figures.pmc_articles.rights import licence_of
from data_prep.sources.figures.pmc_articles.text import first_text, text_of
from data_prep.vocabulary.text import tidy

MAX_XML_BYTES = 64 * 2**20
MAX_AUTHORS = 500
_RETRACTED = re.compile(r"\s*[\[(]?\s*retract(?:ed|ion)\b", re.IGNORECASE)


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
    volume_page: str
    """Volume and page, as a citation gives them."""
    licence: str
    licence_url: str
    retracted: list[str]
    """What says so; empty where nothing does."""
    figures: list[Figure]
    other_graphics: Counter[str]
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
    other_graphics: Counter[str] = Counter()
    figures = figures_of(root, other_graphics)
    refer(root, figures)
    title = meta.find("title-group/article-title")
    title_text = "" if title is None else tidy(text_of(title))[:2000]
    return Article(
        ids=_ids(meta),
        title=title_text,
        journal=tidy(first_text(root, "front/journal-meta//journal-title", "front/journal-meta/journal-id"))[:500],
        year=_year(meta),
        authors=_authors(meta),
        kind=tidy(root.get("article-type") or "")[:100],
        volume_page=_volume_page(meta),
        licence=licence,
        licence_url=url,
        retracted=_retracted(root, meta, title_text),
        figures=[figure for _, figure in figures],
        other_graphics=other_graphics,
    )


def _ids(meta: Any) -> dict[str, str]:
    ids = {}
    for element in meta.iterfind("article-id"):
        kind, text = element.get("pub-id-type"), text_of(element)
        if kind in ("pmc", "pmcid") and (number := re.fullmatch(r"(?:PMC)?(\d{1,12})(?:\.\d+)?", text)):
            ids["pmc"] = f"PMC{number[1]}"
        elif kind in ("pmid", "doi") and text:
            ids[kind] = tidy(text)[:200]
    return ids


def _year(meta: Any) -> int | None:
    """Of the issue, as citations have it, else of the first publication on line."""
    years = {}
    for date in meta.iterfind("pub-date"):
        text = first_text(date, "year")
        if re.fullmatch(r"\d{4}", text):
            years[date.get("pub-type") or date.get("date-type") or ""] = int(text)
    order = ("ppub", "collection", "epub-ppub", "epub", "pub")
    return next((years[kind] for kind in order if kind in years), next(iter(years.values()), None))


def _authors(meta: Any) -> list[str]:
    authors = []
    for contributor in meta.iterfind("contrib-group/contrib"):
        if contributor.get("contrib-type", "author") != "author":
            continue
        name = contributor.find(".//name")
        if name is not None:
            text = " ".join(filter(None, (first_text(name, part) for part in ("given-names", "surname"))))
        else:
            text = first_text(contributor, ".//string-name", ".//collab")
        if text:
            authors.append(tidy(text)[:200])
    return authors[:MAX_AUTHORS]


def _volume_page(meta: Any) -> str:
    volume = first_text(meta, "volume")
    page = first_text(meta, "elocation-id", "fpage")
    return tidy(":".join(filter(None, (volume, page))))[:100]


def _retracted(root: Any, meta: Any, title: str) -> list[str]:
    """What says that an article is retracted, or as the notice that retracts another (which nobody should train on)."""
    kind = root.get("article-type") or ""
    signs = [f"article-type {kind[:60]}"] if kind.endswith(("retraction", "retracted-article")) else []
    for related in root.iterfind("front//related-article"):
        relation = related.get("related-article-type") or ""
        if "retract" in relation and "corrected" not in relation:
            signs.append(f"related-article {relation}"[:60])
    subjects = [text_of(subject) for subject in meta.iterfind("article-categories//subject")]
    signs += ["subject"] if any(_RETRACTED.match(subject) for subject in subjects) else []
    signs += ["title"] if re.match(r"\s*[\[(]?\s*(?:RETRACTED|Retracted(?: article)?\s*[:\])])", title) else []
    return list(dict.fromkeys(signs))[:10]
