"""Sentences of scientific prose, by rules: "Fig. 2", "E. coli", "et al." and "p = 0.05" end none."""

from __future__ import annotations

import re

_END = re.compile(r"(?<![.!?…])[.!?…]+(?:[\"'”’»)\]]|\[[\d,;–\-\s]{1,40}\]|[⁰¹²³⁴⁵⁶⁷⁸⁹⁻ʼ])*\s+(?=\S)")
"""A full stop with what may stand between it and the blank: quotes, brackets, numbers of citations."""

_ABBREVIATIONS = frozenset(
    re.findall(
        r"\S+",
        "fig figs figure suppl supp supplementary eq eqs eqn eqns ref refs tab tabs sect sects ch chap app vol vols ed eds "
        "e.g i.e eg ie cf viz vs v.s ca c.f approx resp incl excl dr drs prof mr mrs ms st sr jr ph.d m.d "
        "jan feb mar apr jun jul aug sep sept oct nov dec sp spp ssp subsp var cv str bv pv nov a.k.a n.b p.o i.v s.c i.p "
        "dept univ inst intl assoc",
    )
)
"""Words whose full stop ends no sentence."""

_NUMBER_WORDS = frozenset(re.findall(r"\S+", "no nos nr p pp art fasc lot cat pt pts"))
"""Words whose full stop ends no sentence where a number follows."""

_OPEN_ENDED = frozenset(re.findall(r"\S+", "al etc inc ltd co corp u.s u.k u.s.a a.m p.m"))
"""Words whose full stop ends a sentence only where the next word begins one for certain."""

_STARTERS = frozenset(
    re.findall(
        r"\S+",
        "the this these those that there then thus they their it its in on at as an a we our he she his her for from to by "
        "with when where while which who after before because both all some most many each every no not one two three if "
        "however moreover furthermore therefore although here more other results data patients figure fig table "
        "interestingly similarly finally additionally conversely consequently hence overall among during under using "
        "since such is are was were",
    )
)

_LONG_WORD = 60
_BRACKETS = 300
"""Characters within which an open round bracket must close for the text in it to count as one piece."""


def sentences(text: str) -> list[tuple[int, int]]:
    """(start, stop) of the sentences of a text with single blanks, in order; together they cover its words."""
    bracketed = _bracketed(text)
    spans = []
    start = 0
    for match in _END.finditer(text):
        if not bracketed[match.start()] and _ends(text, start, match.start(), match.end()):
            spans.append((start, match.start() + len(match[0].rstrip())))
            start = match.end()
    if text[start:].strip():
        spans.append((start, len(text.rstrip())))
    return spans


def _ends(text: str, start: int, stop: int, next_start: int) -> bool:
    """Whether the full stop at `stop`, of a sentence from `start`, ends it; the next word is at `next_start`."""
    following = text[next_start : next_start + 40].split(" ", 1)[0]
    if text[stop] in "!?…":
        return not following[0].islower()
    word = text[max(start, stop - _LONG_WORD) : stop].rsplit(" ", 1)[-1].lstrip("([{\"'“‘")
    if not word or not _can_begin(following):
        return False
    bare = word.lower()
    if bare in _ABBREVIATIONS or (start + len(word) == stop and word.isdigit()):  # "1." at the start numbers a list
        return False
    if bare in _NUMBER_WORDS:
        return not following[0].isdigit()
    is_initial = len(word) == 1 and word.isupper()  # E. coli, J. Smith; but also "hepatitis C. The"
    if is_initial or bare in _OPEN_ENDED or re.fullmatch(r"(?:\w\.)+\w", word):
        return re.sub(r"\W", "", following).lower() in _STARTERS
    return True


def _can_begin(word: str) -> bool:
    """Capitals, numbers, brackets begin a sentence; of small letters only names such as p53, mRNA, α-actin."""
    first = word.lstrip("([{\"'“‘")[:1]
    if not first.islower():
        return True
    return any(c.isupper() or c.isdigit() for c in word) or ("α" <= first <= "ω")


def _bracketed(text: str) -> bytearray:
    """1 at each character inside round brackets that close not far from where they open."""
    is_inside = bytearray(len(text))
    open_positions: list[int] = []
    for position, character in enumerate(text):
        if character == "(":
            open_positions.append(position)
        elif character == ")" and open_positions:
            begin = open_positions.pop()
            if position - begin <= _BRACKETS:
                is_inside[begin + 1 : position] = b"\1" * (position - begin - 1)
    return is_inside
