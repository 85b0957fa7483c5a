"""Where dates stand in clinical text. A year alone may stay (HIPAA, 45 CFR 164.514(b)(2)(i)(C)); all finer parts go.

What makes dates hard here is what looks like them: fractions (3/4 views, 5/6 nephrectomy), vertebrae (C5/6), blood
pressure, and months that are words or abbreviations (may, march fracture, OCT, MAR, SEP, c-Jun, Oct 4).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_FULL = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October"]
_FULL += ["November", "December"]
_SHORT = ["Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sept", "Sep", "Oct", "Nov", "Dec"]
_FULL_ANY = "|".join([*_FULL, *(m.upper() for m in _FULL), *(m.lower() for m in _FULL if m not in ("March", "May"))])
_SHORT_ANY = "|".join([*_SHORT, *(m.upper() for m in _SHORT), *(m.lower() for m in _SHORT if m not in ("Mar", "Dec"))])

FULL = f"(?:{_FULL_ANY})"
MONTH = rf"(?:{FULL}|(?:{_SHORT_ANY})(?![A-Za-z])\.?)"
DAY = r"(?:3[01]|[12]\d|0?[1-9])"
NTH = rf"{DAY}(?:st|nd|rd|th|ST|ND|RD|TH)?"
YEAR = r"(?:(?:19|20)\d\d)"
WEEKDAY = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
TIME = (
    r"(?:[ ,]+(?:at )?(?:[01]\d|2[0-3])[0-5]\d(?: ?h(?:rs|ours)?\b)?(?![\w.,/-]*\d| ?(?:mg|m[lL]|cc|g)\b)"
    r"|(?:T|,? ?(?:at )?| )(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?"
    r"(?: ?[AaPp]\.?[Mm]\b\.?| ?(?:Z|UTC|GMT|EST|EDT|CST|CDT|MST|MDT|PST|PDT|CET|CEST|[+-]\d\d:?\d\d)\b| ?h(?:rs"
    r"|ours)?\b)?)?"
)
_TO = r" ?(?:-|–|to|and|or|through|until|/|&) ?"
_NOT_BEFORE = r"(?<![\w./-])"

_PATTERNS = [
    # 2021-03-14, 2021/03/14 14:32, 2021.03.14, 2021-03-14T14:32:05Z, 20210314, 20210314143205
    rf"{_NOT_BEFORE}{YEAR}([-/.])(?:1[0-2]|0?[1-9])\1{DAY}(?!\d){TIME}",
    r"(?<![\d.])(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?)?"
    r"(?![\d.]*\d)",
    # 14 March 2021, 14th of March, 14-MAR-2021, 14MAR2021, 14. March 2021, 14 to 16 March 2021, Mon 14 Mar 21
    rf"\b(?:{WEEKDAY},? )?(?:the )?(?:{NTH}{_TO})?{NTH}\.?[ -]?(?:of )?{MONTH}[ ,.-]{{0,2}}(?:of )?(?:{YEAR}|'?\d\d)"
    rf"(?![\d/.]*\d){TIME}",
    rf"\b(?:{WEEKDAY},? )?(?:the )?(?:{NTH}{_TO})?{NTH}\.?[ -]?(?:of )?{FULL}\b{TIME}",
    # March 14, 2021; Mar. 14th 2021; March 14 - 16, 2021; March-14-2021; March 14 and April 2, 2021
    rf"\b(?:{WEEKDAY},? )?{MONTH}[ -]?{NTH}(?:{_TO}(?:{MONTH} )?{NTH})?(?:, ?|[ -]| ?/ ?|, of )(?:of )?(?:{YEAR}"
    rf"|'\d\d)(?!\d){TIME}",
    rf"\b(?:{WEEKDAY},? )?{FULL} {NTH}(?:{_TO}(?:{FULL} )?{NTH}\b)?(?![\d%]|[.,]\d|-[a-z]){TIME}",
    # March 2021, March of 2021, Mar-2021, March to June 2021, March '21, spring of 2021
    rf"\b(?:(?:early|mid|late)[ -])?(?:{MONTH}{_TO})?{MONTH}(?:,? |-|/|'| '|, )(?:of )?(?:{YEAR}|(?<=')\d\d)\b",
    rf"\b{MONTH}-\d\d(?![\w/-])",
    # In lower case, may and march need a day and a year to be months.
    rf"\b(?:{NTH}(?: of)? (?:march|may|mar),? |(?:march|may|mar) {NTH},? ){YEAR}\b{TIME}",
    rf"\b(?i:spring|summer|autumn|fall|winter),? (?:of )?{YEAR}\b",
    # "in March", "since late June", "last December": a month without day or year needs such a word before it
    rf"\b(?i:in|since|during|last|until|till|by|early|mid|late|this|next|from|before|after|end of|beginning of)[ -]"
    rf"(?:early |mid-?|late )?(?P<bare>{FULL}(?:{_TO}{FULL})?)\b(?! (?:fracture|h[ae]+m|not|be|have|also|include)|'s"
    rf"|-)",
    rf"\b{WEEKDAY}s?\b",
]
_FIXED = [re.compile(pattern) for pattern in _PATTERNS]

# Month or day first, or both unknown: one of the two numbers has to be a month.
_SEPARATED = re.compile(
    rf"(?:(?<=(?:19|20)\d\d[-–])|(?<![\w.])(?<!\d[/-]))(\d{{1,2}})([-/.])(\d{{1,2}})\2({YEAR}|\d\d)(?![\d/]|\.\d)"
    rf"(?!\2\d){TIME}"
)
_NOT_A_DATE = (
    r"(?![\d/%]|[.,]\d|-\w)(?!\s*(?:views?|of|lobes?|leads?|cases?|patients?|slices|power|strength|th|mm|cm|nephr"
    r"|scale|in)\b)"
)
# Of two numbers the second is a year where it can be no day: 3/80.
_MONTH_SHORT_YEAR = re.compile(
    rf"\b(?i:in|since|from|with|until|by|to|on|of|before|after) (?P<date>(?:0?[1-9]|1[0-2])/(?:3[2-9]"
    rf"|[4-9]\d)){_NOT_A_DATE}"
)
_MONTH_YEAR = re.compile(rf"{_NOT_BEFORE}(?:(?:0[1-9]|1[0-2])[/-]|[1-9]/){YEAR}(?![\d/-])")
_WORDS = (
    r"(?i:on|dated?|since|until|till|through|thru|as of|beginning|starting|ending|DOS|DOB|DOA|DOD|DD|DT|comparison"
    r"|prior|previous"
    r"|(?:exam(?:ination)?|stud(?:y|ies)|films?|images?|scans?|radiographs?|x-?rays?|CT|MRI?|US|ultrasound"
    r"|mammograms?|performed"
    r"|surgery|cath(?:eterization)?|biops(?:y|ied)|scheduled(?: for)?|follow-?up|f/u|appointment|admission|admitted"
    r"|discharged?|visit|seen|PET(?:/CT)?|report)(?: (?:of|from|on))?)"
)
_DAY_OF_YEAR = re.compile(
    rf"\b{_WORDS}[: ]{{1,3}}(?:the )?(?P<first>\d{{1,2}}/\d{{1,2}})(?:{_TO}"
    rf"(?P<second>\d{{1,2}}/\d{{1,2}}))?{_NOT_A_DATE}"
    rf"|\b(?i:from|between) (?P<from>\d{{1,2}}/\d{{1,2}})(?: to | and | through | ?[-–] ?)"
    rf"(?P<to>\d{{1,2}}/\d{{1,2}}){_NOT_A_DATE}"
    # Nobody writes 03/14 for a fraction.
    rf"|{_NOT_BEFORE}(?P<padded>0[1-9]/(?:0[1-9]|[12]\d|3[01])|1[0-2]/0[1-9]){_NOT_A_DATE}"
)
_SHORT_DAY = re.compile(rf"\b{_WORDS}[: ]{{1,3}}(?:the )?(?P<day>{MONTH} {NTH}|{NTH}[ -]{MONTH})\b(?![\d%]|[.,]\d)")


def find_dates(text: str) -> Iterator[tuple[int, int]]:
    """Ranges of characters, ends exclusive, that hold a date with the time of day that is attached to it."""
    for pattern in _FIXED:
        for match in pattern.finditer(text):
            yield match.span("bare" if "bare" in pattern.groupindex else 0)
    for match in _SEPARATED.finditer(text):
        first, separator, second, year = match.groups()
        padded = len(first) == len(second) == 2 or (separator == "-" and second.startswith("0"))
        if _day_and_month(first, second) and (len(year) == 4 or separator == "/" or padded):
            yield match.span()
    for match in _MONTH_YEAR.finditer(text):
        yield match.span()
    for match in _DAY_OF_YEAR.finditer(text):
        for name in ("first", "second", "from", "to", "padded"):
            if match[name] and _day_and_month(*match[name].split("/")):
                yield match.span(name)
    for match in _MONTH_SHORT_YEAR.finditer(text):
        yield match.span("date")
    for match in _SHORT_DAY.finditer(text):
        yield match.span("day")


def _day_and_month(first: str, second: str) -> bool:
    low, high = sorted((int(first), int(second)))
    return 1 <= low <= 12 and 1 <= high <= 31
