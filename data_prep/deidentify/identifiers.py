"""Where numbers and addresses of the machine kind stand: record numbers, telephones, e-mails, URLs; and ages over 89."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SEPARATOR = r"[\s.:#=-]{0,4}"
_NUMBER_WORD = r"(?:numbers?\b|num\b|no\b|nr\b|id\b|identifier\b|code\b|#)"
# At least four characters with a digit among them, of which pieces may be joined: 611-44-97, WH-85-390600, S12/3456
_VALUE = r"(?P<value>(?=[A-Za-z/.-]*\d)(?=[\w/.-]{4})[A-Za-z0-9]+(?:[-/.][A-Za-z0-9]+)*)"

# These words name an identifier by themselves.
_STRONG = (
    r"M\.?R\.?N|med(?:ical)?\.?\s+rec(?:ord)?|accession|acc(?=\s*(?:\.|#|:|no\b|num))|social\s+security|SSN|SS"
    r"(?=\s*#)|MR(?=\s*(?:#|:|no\b))"
    r"|account|acct|patient\s+id(?:entification|entifier)?|pt\s+id|pat(?:ient)?\s+(?:no\b|number|#)|unit\s+(?:no\b"
    r"|number|#)"
    r"|hospital\s+(?:no\b|number|id|#)|chart\s+(?:no\b|number|id|#)|record\s+(?:no\b|number|id|#)|visit\s+(?:no\b"
    r"|number|id|#)"
    r"|encounter|requisition|(?:FIN|CSN|HAR|NPI|DEA|NHS|MBI|HICN)(?=\s*(?:[:#]|no\b|num|id\b))|medicare|medicaid"
    r"|polic?y|member(?:ship)?\s+(?:no\b|number|id|#)|insurance"
    r"|subscriber|beneficiary|passport|driver'?s?\s+licen[cs]e|licen[cs]e|(?:serial(?=\s*(?:no\b|num|#|:)))|S/N|UDI|"
    r"(?:device|specimen)\s*"
    r"(?:no\b|number|id|#|:)"
    r"|study\s+(?:id|uid|number)|exam(?:ination)?\s+(?:id|number|no\b|#)|order\s+(?:id|number|no\b|#)|case\s+(?:id"
    r"|number)"
    r"|image\s+id|study\s+instance\s+uid|job\s*#|dictation\s*(?:id|#|number)|document\s*(?:id|#|number)"
)
_LABELLED = re.compile(
    rf"(?<![\w-])(?i:(?:{_STRONG})(?![a-z])(?:[\s.]*{_NUMBER_WORD}){{0,2}}){_SEPARATOR}(?i:is\s+)?{_VALUE}(?![\w%])"
)
# "ID: 4711" is an identifier, "Case 12" and "order 3" are not.
_WEAK = re.compile(
    rf"(?<![\w-])(?i:ID|case|order|patient|study|exam|file|visit|ref(?:erence)?)(?![A-Za-z]){_SEPARATOR}"
    rf"(?:{_NUMBER_WORD}{_SEPARATOR})?(?!\d+ ?[x×]){_VALUE}"
)

_BARE = [
    re.compile(r"(?<![\w.-])\d{3}[- ]\d{2}[- ]\d{4}(?![\w-]|\.\d)"),  # social security
    re.compile(r"(?<![\w.,-])\d{2,3}-\d{2}-\d{2}(?:-\d{1,2})?(?![\w-]|\.\d)"),  # record numbers in pairs of digits
    re.compile(r"(?<![\w.,])\d{7,}(?![\w%]|[.,]\d| ?(?:cells|copies|cfu|CFU|IU|U|counts|mm|cm|nm|years)\b)"),
    re.compile(
        r"(?<![\w.-])[A-Z]{1,3}-?\d{2}-\d{4,}(?![\w-])|(?<![\w.-])[A-Z]{1,3}\d{2,4}/\d{4,}(?![\w-])|"
        r"(?<![\w.-])\d{2}-[A-Z]{1,3}-\d{4,}(?![\w-])"
    ),  # S12-34567
    re.compile(r"(?<![\w.-])(?!NCT|PMC|PMID|ISRCTN|GSE|C\d{7}\b)[A-Z]{1,4}\d{6,}(?![\w-])"),
    re.compile(r"(?<![\w.])[0-2](?:\.\d+){5,}(?![\w])"),  # UIDs
    re.compile(r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
]
# Numbers of published data and papers identify no patient.
_PUBLISHED = re.compile(
    r"(?i)\b(?:genbank|GEO|SRA|PDB|ENA|EMBL|uniprot|refseq|PMID|PMC|DOI|catalog(?:ue)?|cat\.?|NCT|trial|strain|clone"
    r"|cell line|voucher|plasmid|museum|DPI|grants?|awards?)\b[\w\s.:#(-]{0,25}$"
)

_EMAIL = re.compile(r"(?i)[\w.+%-]{1,64} ?(?:@|\[at\]|\(at\)) ?[a-z0-9-]+(?:(?:\.| ?\[dot\] ?| ?\(dot\) ?)[a-z0-9-]+)+")
_URL = re.compile(
    r"(?i)\b(?:(?:https?|ftp)://|www\.)[^\s<>\"\]]*[^\s<>\"\].,;:!?)]|(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)"
)
_LITERATURE = re.compile(
    r"(?i)(?:https?://)?(?:www\.)?(?:(?:dx\.)?doi\.org|creativecommons\.org|(?:www\.)?ncbi\.nlm\.nih\.gov)\b"
)

_AREA = r"(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])"
_PHONE = [
    re.compile(
        rf"(?<![\w.-])(?:\+?1[ .-]?)?{_AREA}\d{{3}}[ .-]\d{{4}}(?:,? ?(?:x|ext\.?|extension) ?\d{{2,6}})?(?![\w-]|\.\d)"
    ),
    re.compile(r"(?<![\w.])\+\d{1,3}(?:[ .-]?\(0?\d{0,4}\))?(?:[ .-]?\d{2,4}){2,5}(?![\w-]|\.\d)"),
    re.compile(
        r"\b(?i:(?:tele)?phone|tel|fax|cell|mobile|call(?:back| back)?|contact|home|work|office)\b[ .:#]{0,3}(?:"
        r"(?i:number|no|is|at)\b[ .:#]{0,3})?"
        r"(?P<number>[(+]?\d[\d ().-]{5,18}\d)(?!\w)"
    ),
    re.compile(
        r"\b(?i:pager|beeper|bleep|page|ext(?:ension)?|voice ?mail|phone|tel|call|fax)\b[ .:#]{0,3}(?:(?i:number|no"
        r"|id|is|at)\b[ .:#]{0,3})?"
        r"(?P<number>\d{3}-\d{4}|\d{4,7}|\d-\d{4})(?![\w-]|\.\d)"
    ),
    re.compile(r"\b(?i:phone|tel|pager|page|call|at|office|desk)\b[ .:]{0,2}(?P<number>x ?\d-?\d{3,4})(?![\w-]|\.\d)"),
]

_OLD = r"(?:9\d|1[0-2]\d)"
_NINETY = (
    r"(?i:ninety(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?|(?:one )?hundred(?:[- ]and)?(?:[- ](?:one"
    r"|two|three|four|five))?)"
)
_UNIT = (
    r"(?i:[- ]?(?:years?|yrs?)\.?[- ](?:old|of age)(?:er)?|[- ]?y\.? ?/?o\.?|[- ]?yr?s?[./ -]{0,2}o(?:ld)?"
    r"|[- ]?jährige?[rsn]?)"
)
_AGE = [
    re.compile(rf"(?<![\w./-])(?:{_OLD}|{_NINETY}){_UNIT}(?!\w)"),
    re.compile(
        rf"\b(?i:aged?|ages)(?: of)?[: ]{{1,2}}(?P<age>{_OLD}(?: ?(?i:years?|yrs?|y)\b)?)(?![\w.-]*\d)(?! ?(?i:days?"
        rf"|weeks?|wks?|months?|mo|min|hours?|hrs?|h|d)\b)"
    ),
    re.compile(r"(?<![\w./])(?:0?9\d|1[0-2]\d)Y\b"),
    re.compile(r"(?<![\w./])9\d ?[MF]\b(?=,| (?:with|who|presents?|presenting|s/p|status|admitted|h/o|history|c/o)\b)"),
    re.compile(r"(?i)\b(?:nonagen|centen)arian\b|\bin (?:his|her|their) (?:nineties|(?:early |mid |late )?90'?s)\b"),
]


def find_ids(text: str) -> Iterator[tuple[int, int]]:
    """Record, accession, account, insurance, licence and serial numbers: after a word that names one, or by their form."""
    for match in _LABELLED.finditer(text):
        if not _published(text, match.start()) and not _year(match["value"]):
            yield match.span("value")
    for match in _WEAK.finditer(text):
        if sum(c.isdigit() for c in match["value"]) >= 4 and not _year(match["value"]):
            yield match.span("value")
    for pattern in _BARE:
        for match in pattern.finditer(text):
            if not _published(text, match.start()) and not _round(match[0]):
                yield match.span()


def _published(text: str, start: int) -> bool:
    return _PUBLISHED.search(text[max(0, start - 40) : start]) is not None


def _year(value: str) -> bool:
    return re.fullmatch(r"(?:19|20)\d\d(?:[-/.](?:19|20)?\d\d)?", value) is not None


def _round(value: str) -> bool:
    return value.endswith("00000")


def find_phones(text: str) -> Iterator[tuple[int, int]]:
    """Telephone, fax and pager numbers, with their extensions."""
    for pattern in _PHONE:
        for match in pattern.finditer(text):
            yield match.span("number" if "number" in pattern.groupindex else 0)


def find_emails(text: str) -> Iterator[tuple[int, int]]:
    """E-mail addresses, also when the @ is spelled [at]."""
    for match in _EMAIL.finditer(text):
        yield match.span()


def find_urls(text: str) -> Iterator[tuple[int, int]]:
    """URLs and IP addresses. Links to literature and licences stay: they name a paper, not a person."""
    for match in _URL.finditer(text):
        if not _LITERATURE.match(match[0]):
            yield match.span()


def find_ages(text: str) -> Iterator[tuple[int, int]]:
    """Ages of 90 and more, with their unit: "93-year-old". Younger ages may stay (45 CFR 164.514(b)(2)(i)(C))."""
    for pattern in _AGE:
        for match in pattern.finditer(text):
            yield match.span("age" if "age" in pattern.groupindex else 0)
