"""Lists of persons without titles, as credit lines have them: "Courtesy of J. Smith, Garcia-Lopez M and Mei Young".

One of two names that stand side by side in a list may be known to no list of names, or be an ordinary word: the others
vouch for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_prep.deidentify.names import NO_NAMES, PARTICLE, word_lists
from data_prep.deidentify.places import LETTER, UP

_WORD = rf"[{UP}][{LETTER}]{{0,30}}[a-zß-öø-ÿ](?:['’-][{LETTER}]{{1,30}}){{0,2}}"
_SURNAME = rf"(?:(?:{PARTICLE}|De|Del|Della|Di|Da|La|Le|Van|Von|El|Al) ){{0,2}}(?:[{UP}]['’])?{_WORD}"
_DOTTED = rf"(?:[{UP}]\.[ -]?){{1,3}}"
_INITIALS = rf"(?:[{UP}]{{1,3}}|(?:[{UP}]\.-?){{1,3}})(?![{LETTER}])"
_PERSON = (
    rf"(?:{_SURNAME}, {_DOTTED}(?![{LETTER}])|{_DOTTED}{_SURNAME}|{_SURNAME} {_INITIALS}"
    rf"|{_WORD}(?: [{UP}]\.?| {_WORD})? {_SURNAME})(?![{LETTER}])"
)
_JOIN = r"(?:,? (?:and|&|und|et|y) |[,;] (?:and |& )?)"
_MOST = 30
"""Persons of a list that are looked at together; those of a longer one are looked at in turn."""

_LIST = re.compile(rf"(?<![{LETTER}'’^-]){_PERSON}(?:{_JOIN}{_PERSON}){{1,{_MOST - 1}}}")
_SINGLE_PERSON = re.compile(_PERSON)
_CREDIT = re.compile(
    r"(?i:\bcourtesy(?: of)?|\bcredits?|\bcontributors?|\bcontributed by|\bauthors?|\bwritten by|\bprovided by|\bphotos?"
    r"(?: by)?|\billustrat(?:ion|ed) by|\bpermission (?:from|of)|\bcollection of|\bradiologists?|\breaders?|\bteam"
    r"|\breferrers?|\backnowledge?ments?|\bthanks to|\bsubmitted by|\bsource)\s{0,2}:?\s{1,2}$"
)
_REACH = 40
"""Characters before a list in which a word that gives credit may stand."""


def find_listed(text: str) -> Iterator[tuple[int, int]]:
    """Persons in lists of two and more, and single ones with initials after a word that gives credit."""
    for listing in _LIST.finditer(text):
        persons = [(match.span(), match[0]) for match in _SINGLE_PERSON.finditer(text, *listing.span())]
        is_credit = bool(_CREDIT.search(text, max(0, listing.start() - _REACH), listing.start()))
        if _are_persons([name for _, name in persons], is_credit):
            yield from (span for span, name in persons if _may_be_person(name))
    for match in _SINGLE_PERSON.finditer(text):
        if _CREDIT.search(text, max(0, match.start() - _REACH), match.start()) and _are_persons([match[0]], True):
            yield match.span()


def _are_persons(names: list[str], is_credit: bool) -> bool:
    """Whether enough of the names are known: one in a credit line, else half of them, and not one surname with letters
    behind it, as a classification has ("Weber A, Weber B")."""
    words = [_parts(name) for name in names]
    if any(not parts or parts[0] in NO_NAMES for parts in words):
        return False
    count = sum(_is_known(parts) for parts in words)
    if is_credit:
        return count > 0 or not any(part in word_lists()[2] for parts in words for part in parts)
    return 2 * count >= len(words) and len({tuple(parts) for parts in words}) > 1


def _may_be_person(name: str) -> bool:
    """Next to others; two words of which none can be a name are another thing."""
    firsts, lasts, words = word_lists()
    return _has_initials(name) or any(part in firsts or part in lasts or part not in words for part in _parts(name))


def _has_initials(name: str) -> bool:
    return re.search(rf"(?<![{LETTER}'’])(?:[{UP}]\.|[{UP}]{{1,3}}$)", name) is not None


def _is_known(parts: list[str]) -> bool:
    """Whether a word is only ever a name; of two words, the first a first name and the second a surname."""
    firsts, lasts, words = word_lists()
    if len(parts) > 1:
        return parts[0] in firsts and any(part in lasts and part not in words for part in parts[1:])
    return parts[0] in lasts and parts[0] not in words


def _parts(name: str) -> list[str]:
    """The words of a name in lower case, without particles and initials."""
    words = re.findall(rf"[{LETTER}]+(?:['’][{LETTER}]+)?", name)
    return [
        part.lower().replace("’", "'").replace("'", "")
        for part in words
        if len(part) > 1 and not part.isupper() and not re.fullmatch(PARTICLE, part)
    ]
