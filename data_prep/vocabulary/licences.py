"""Licences: the id that a publisher's wording names, families of ids, and which of two is the stricter.

Ids are SPDX's where the publisher gives a version (CC-BY-4.0), and the family's name where not (CC-BY): publishers'
lists say "CC BY" and no more. `unknown` is a wording that names no licence, NO-CC one that is none of Creative Commons.
"""

from __future__ import annotations

import re
from functools import lru_cache

from data_prep.errors import PrepError

UNKNOWN = "unknown"
NO_CC = "NO-CC"

FAMILIES = ("CC0", "PDM", "CC-BY", "CC-BY-SA", "CC-BY-ND", "CC-BY-NC", "CC-BY-NC-SA", "CC-BY-NC-ND", NO_CC)
"""From the freest to the strictest; where two statements differ, the stricter one holds."""

_SPDX_IDS = {
    name.lower(): name
    for name in (
        *("MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "GPL-2.0-only", "GPL-3.0-only", "AGPL-3.0-only"),
        *("ODbL-1.0", "ODC-By-1.0", "PDDL-1.0", "CDLA-Permissive-2.0", "CDLA-Sharing-1.0", "OGL-UK-3.0"),
    )
}
"""Licences outside Creative Commons that data sets come under, by SPDX's id."""

MAX_CHARACTERS = 20_000
"""Of a licence's wording that are looked at. The longest that journals print have about 3,000."""

_URL = re.compile(
    r"creativecommons\.org/(?:licen[sc]es/(by(?:-(?:nc|nd|sa))*)|publicdomain/(zero|mark))(?:/(\d(?:\.\d)?))?"
)
_CODE = re.compile(r"\bcc[ -]?(by(?:[ /-]{0,3}(?:nc|nd|sa)\b)*|0|zero)\b(?:[ ,/(-]{0,3}v?(\d\.\d))?")
_WORD = (
    r"(?:attributions?|non[ -]?commercial|no[ -]?deriv(?:ative|s)*(?: works?)?|share[ -]?alike|by(?: attribution)?"
    r"(?:[ -](?:nc|nd|sa)\b)*)"
)
_PROSE = re.compile(
    rf"creative commons(?: public)?(?: licen[sc]es?)?((?:[ ,/&\"'’(:-]{{0,4}}(?:and )?{_WORD})+)"
    r"(?:[ ,(\"'’-]{0,3}(?:licen[sc]es?|unported|international|generic|version|ver\.?|public|v\.?)){0,4}"
    r"[ ,(\"'’-]{0,3}(?:v\.?)?(\d\.\d)?"
)
_TITLE = re.compile(
    rf"({_WORD}(?:[ ,/-]{{1,3}}{_WORD})*) (?:(\d\.\d) ?)?(?:international|unported|generic|licen[sc]e)?(?: ?\(.*)?"
)
_ZERO = re.compile(r"creative commons (?:public domain )?(?:zero|dedication)|public domain dedication|\bcc zero\b")
_PUBLIC_DOMAIN = re.compile(r"(?<!not )(?<!not in )(?<!not in the )(?:public[ -]domain|\bpdm(?:-1\.0)?\b|\bcc-pddc\b)")
_REFERENCE = re.compile(r"licenseref-[a-z0-9.-]{1,100}")
"""SPDX's form for a licence that has no id there; it stays as it is."""

_NO_CC = re.compile(r"no[- ]?cc(?:[- ]code)?|tdm|all rights reserved\.?|©.{0,80}all rights reserved\.?")


@lru_cache(maxsize=4096)
def normalise(wording: str) -> str:
    """The id of the licence that a code, an address, or a paragraph names; "unknown" if it names none.

    Of several Creative Commons licences in one wording the strictest counts: "CC BY ... the Public Domain Dedication
    applies to the data" is CC-BY. Ports to a jurisdiction (by/2.0/uk) count as the licence that they port.
    """
    text = re.sub(r"[_\u2010-\u2015\u2212\u00ad]", "-", wording[:MAX_CHARACTERS])
    text = " ".join(text.split()).lower()
    if text in _SPDX_IDS:
        return _SPDX_IDS[text]
    if _REFERENCE.fullmatch(text):
        return wording.strip()
    if _NO_CC.fullmatch(text):
        return NO_CC
    licences = _creative_commons(text)
    if licences:
        return strictest(licences)
    return "PDM-1.0" if _PUBLIC_DOMAIN.search(text) else UNKNOWN


def _creative_commons(text: str) -> list[str]:
    licences = []
    for parts, domain, number in _URL.findall(text):
        licences.append(_identifier(parts or domain, number))
    for parts, number in [*_CODE.findall(text), *_PROSE.findall(text)]:
        licences.append(_identifier(parts, number))
    if not licences and (title := _TITLE.fullmatch(text)):
        licences.append(_identifier(title[1], title[2] or ""))
    return [*licences, *(["CC0-1.0"] if _ZERO.search(text) else [])]


def _identifier(parts: str, number: str) -> str:
    if parts in ("0", "zero"):
        return "CC0-1.0"
    if parts == "mark":
        return "PDM-1.0"
    patterns = {
        "NC": r"\bnc\b|non[ -]?commercial",
        "ND": r"\bnd\b|no[ -]?deriv",
        "SA": r"\bsa\b|share[ -]?alike",
    }
    clauses = [clause for clause, pattern in patterns.items() if re.search(pattern, parts)]
    if "ND" in clauses and "SA" in clauses:  # a contradiction in terms: no derivatives is the stricter of the two
        clauses.remove("SA")
    number = f"{number}.0" if number and "." not in number else number
    return "-".join(["CC", "BY", *clauses, *([number] if number else [])])


def family_of(licence: str) -> str:
    """The licence without its version: CC-BY-4.0 → CC-BY. Others than Creative Commons' are families by themselves."""
    bare = re.sub(r"-\d\.\d$", "", licence)
    return bare if bare in FAMILIES else licence


def strictest(licences: list[str]) -> str:
    """The strictest of some ids (at least one); of equally strict ones the first with a version.

    Unknown says nothing, so it yields to any other. A licence outside Creative Commons stands between CC-BY-NC-ND and
    NO-CC: its terms are not compared.
    """

    def strictness(licence: str) -> float:
        if licence == UNKNOWN:
            return -1
        family = family_of(licence)
        return FAMILIES.index(family) if family in FAMILIES else len(FAMILIES) - 1.5

    top = max(map(strictness, licences))
    candidates = [licence for licence in licences if strictness(licence) == top]
    return next((licence for licence in candidates if re.search(r"-\d\.\d$", licence)), candidates[0])


def allows(allow: list[str], licence: str) -> bool:
    """Whether a list admits an id: CC-BY admits any version of CC-BY and nothing else, CC-BY-4.0 that version alone."""
    return not {licence, family_of(licence)}.isdisjoint(map(normalise, allow))


def check_allow(allow: list[str]) -> None:
    """Raises PrepError for an entry that names no licence: a slip there would silently drop everything."""
    for entry in allow:
        if normalise(str(entry)) == UNKNOWN:
            raise PrepError(
                f"licence {entry!r} in licences is not known; write ids such as CC0, PDM, CC-BY, CC-BY-SA, CC-BY-NC-4.0, "
                "NO-CC; leave licences empty to let all through, those of unknown licence too"
            )
