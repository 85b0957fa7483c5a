"""The licence that an article in JATS, or a figure of it, states for itself."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from data_prep.sources.figures.pmc_articles.text import text_of
from data_prep.vocabulary.licences import UNKNOWN, normalise, strictest

HREF = "{http://www.w3.org/1999/xlink}href"


def licence_of(element: Any) -> tuple[str, str]:
    """(id, address) of the licence that an element's permissions state; ("unknown", "") where they state none."""
    statements = [_statement(licence) for licence in element.iterfind(".//license")]
    # Before JATS had <license>, journals wrote it into the copyright statement.
    if all(normalise(statement) == UNKNOWN for statement in statements):
        statements += [text_of(part) for part in element.iterfind(".//copyright-statement")]
    licence = strictest([normalise(statement) for statement in statements] or [UNKNOWN])
    urls = re.findall(r"https?://(?:www\.)?creativecommons\.org/[\w./-]+", " ".join(statements))
    return licence, next((url.rstrip(".") for url in urls if normalise(url) == licence), "")


def _statement(licence: Any) -> str:
    """All that a <license> says in text and in addresses; not in comments, where some journals keep RDF."""
    kind = licence.get("license-type") or ""
    addresses = [element.get(HREF) or "" for element in licence.iter(etree.Element)]
    return " ".join([kind if normalise(kind) != UNKNOWN else "", *addresses, text_of(licence)])
