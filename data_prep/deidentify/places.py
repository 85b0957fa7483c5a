"""Where hospitals and postal addresses stand in clinical text."""

from __future__ import annotations

import re
from collections.abc import Iterator

UP = r"A-ZÀ-ÖØ-Þ"
LETTER = r"A-Za-zÀ-ÖØ-öø-ÿĀ-ž"
_WORD = rf"[{UP}][{LETTER}'’]{{0,40}}(?:-[{LETTER}]{{1,40}}){{0,3}}"

_INSTITUTION = (
    r"(?:Hospitals?|Medical Cent(?:er|re)|Health ?[Cc]are Cent(?:er|re)|Health Cent(?:er|re)|Clinics?|Infirmary"
    r"|Health(?:care)? (?:System|Network|Trust)"
    r"|NHS (?:Foundation )?Trust|Hospice|Nursing Home|Emergency (?:Dept|Department|Room)|EMERGENCY (?:DEPT|DEPARTMENT"
    r"|ROOM)|Imaging Cent(?:er|re)|Cancer (?:Center|Centre|Institute)|Heart Institute|Polyclinic"
    r"|Rehab(?:ilitation)? Cent(?:er|re)|Surg(?:ery|ical) Cent(?:er|re)|Sanatorium|Medical (?:School|College)|School "
    r"of Medicine|Klinikum"
    r"|Universitätsklinikum|HOSPITAL|MEDICAL CENT(?:ER|RE)|CLINIC|INFIRMARY|HEALTH SYSTEM|IMAGING CENT(?:ER|RE))"
)
_HOSPITAL = re.compile(
    rf"(?:\b(?:{_WORD}|St\.|Mt\.)(?: (?:of|the|and|for|&|de|del|la) (?={_WORD})| |, (?=Children"
    rf"|Women))){{1,6}}{_INSTITUTION}\b"
    rf"(?:(?: of| at| de| in|,)? (?!(?:The|A|On|In|At|And|It|No|Image)\b){_WORD}){{0,2}}"
    rf"|\b(?:Universitätsklinikum|Universitätsspital|Klinikum|Krankenhaus) {_WORD}(?:-{_WORD})?"
    rf"|\b{_INSTITUTION} (?:of|de|del) (?:la |the )?{_WORD}(?: {_WORD}){{0,2}}"
    rf"|\bUniversit(?:y|é|ät|à) (?:(?:of|de|di) )?(?:{_WORD} ){{1,3}}{_INSTITUTION}\b"
    rf"|\b(?:Facility|Hospital|Institution|Clinic|FACILITY|HOSPITAL|INSTITUTION|CLINIC)(?: [Nn]ame)?: ?"
    rf"(?P<labelled>{_WORD}[^\n,;|]*?)(?=\n|,|;|\||  |$)"
)
# "University Hospital" could be any: without a name of its own it identifies nobody.
_GENERIC = re.compile(
    rf"(?i)(?:(?:the|a|our|this|university|general|community|local|regional|national|emergency|teaching|children'?s?"
    rf"|women'?s?|department|of|and|in|at|from"
    rf"|outpatient|tertiary|main|day|county|city|state|district|private|public|academic|medical|pain|memory"
    rf"|{_INSTITUTION})\s*)+(?:[A-Z]\b)?"
)
_LEADING = re.compile(
    r"(?:(?:The|A|At|In|From|To|Our|This|Courtesy of|Department of|See|Contact|Report|Attending|Both|Images?) )+"
)
# The Mayo Clinic classification, the Cleveland Clinic score: names of methods.
_METHOD = re.compile(
    r"(?i)\W{1,2}(?:modified )?(?:classification|score|scoring|criteria|grad|stag|scale|system|protocol|type|index"
    r"|risk|model)"
)

_STREET = (
    r"(?:Street|St|Avenue|Ave|Av|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Way|Parkway|Pkwy|Highway"
    r"|Hwy|Terrace|Ter|Circle|Cir"
    r"|Square|Sq|Trail|Crescent|Close|Row|STREET|AVENUE|AVE|ROAD|BLVD|LANE|DRIVE)"
)
_STATES = (
    "AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR "
    "PA RI SC SD "
    "TN TX UT VT VA WA WV WI WY DC PR Alabama Alaska Arizona Arkansas California Colorado Connecticut Delaware "
    "Florida Georgia Hawaii Idaho "
    "Illinois Indiana Iowa Kansas Kentucky Louisiana Maine Maryland Massachusetts Michigan Minnesota Mississippi "
    "Missouri Montana Nebraska Nevada "
    "Ohio Oklahoma Oregon Pennsylvania Tennessee Texas Utah Vermont Virginia Washington Wisconsin Wyoming"
).replace(" ", "|")
_STATE = (
    rf"(?:{_STATES}|New (?:York|Jersey|Mexico|Hampshire)|(?:North|South) (?:Carolina|Dakota)|West Virginia|Rhode "
    rf"Island)"
)
_TOWN = rf"{_WORD}(?: {_WORD}){{0,2}}"
_ZIP = r"\d{5}(?:-\d{4})?"
_REST_OF_ADDRESS = (
    rf"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Room|Rm|Floor|#)\.? ?[\w-]{{1,5}}\b)?(?:,?[ \n]{_TOWN},? {_STATE}\b\.?)?"
    rf"(?:,? {_ZIP}(?!\w))?"
)
_ADDRESS = [
    re.compile(
        rf"(?<![\w./-])\d{{1,5}}[A-Za-z]?,? (?:(?:[NSEW]|North|South|East|West)\.? )?(?:(?:{_WORD}|\d{{1,3}}(?:st|nd"
        rf"|rd|th)) ){{1,3}}{_STREET}\b\.?{_REST_OF_ADDRESS}"
    ),
    re.compile(rf"\b(?i:P\.? ?O\.? Box|Post Office Box|Postfach) ?\d+{_REST_OF_ADDRESS}"),
    re.compile(rf"\b{_TOWN},? {_STATE},? {_ZIP}(?!\w)"),
    re.compile(
        rf"\b(?i:zip(?: code)?|postal code|postcode)[: ]{{1,2}}(?P<place>{_ZIP}|[A-Z]{{1,2}}\d[A-Z\d]? ?\d[A-Z]{{2}})\b"
    ),
    re.compile(
        rf"\b(?i:lives?|living|resid(?:es?|ing)|resident|native) (?:at|in|of) (?P<place>{_TOWN}(?:, {_STATE}\b|, "
        rf"{_WORD})?)"
    ),
    re.compile(
        rf"\b[{UP}][a-zäöüß]+(?:straße|strasse|str\.|weg|platz|gasse|allee) \d{{1,4}}[a-z]?(?:, \d{{4,5}} {_WORD})?"
    ),
    re.compile(r"\b(?:Room|Rm|Bed|ROOM|BED)\.? ?(?:#|No\.? ?)?(?P<place>\d{3,4}[A-Z]?(?:-\d{1,2})?)\b"),
]


def find_hospitals(text: str) -> Iterator[tuple[int, int]]:
    """Names of hospitals, clinics and imaging centres; not "the university hospital", nor the Mayo Clinic score."""
    for match in _HOSPITAL.finditer(text):
        start, end = match.span("labelled" if match["labelled"] else 0)
        leading = _LEADING.match(text, start, end)
        start = leading.end() if leading else start
        if start < end and not _GENERIC.fullmatch(text, start, end) and not _METHOD.match(text, end):
            yield start, end


_LONG_STATE = (
    rf"(?:{'|'.join(name for name in _STATES.split('|') if len(name) > 2)}"
    r"|New (?:York|Jersey|Mexico|Hampshire)|(?:North|South) (?:Carolina|Dakota)|West Virginia|Rhode Island)"
)
_PROPER = rf"[{UP}][a-zß-öø-ÿ][{LETTER}'’]{{1,40}}(?:[- ][{UP}][a-zß-öø-ÿ][{LETTER}'’]{{0,40}}){{0,2}}"
_HOME = (
    r"(?i:born(?: and raised)?|raised|grew up|immigrated|emigrated|relocated|hails|originally|native|retired|back home"
    r"|vacation(?:ing)?|(?:just |recently )?(?:moved|moving)(?: here)?)(?i: from| to| in| of)"
)
_COMING = (
    r"(?i:travell?ed|travell?ing|visiting|flew|drove|returned|returning|arrived|arriving|came|comes|transferred|referred"
    r"|sent|works?|working)(?i: from| to| in| at| near)"
)
_TOWNS = [
    (re.compile(rf"\b(?P<place>{_PROPER}), {_LONG_STATE}\b(?! [{UP}])"), True),
    (re.compile(rf"\b(?:in|from|at|near|to) (?P<place>{_PROPER}), (?!MD\b){_STATE}\b"), True),
    (re.compile(rf"\b{_HOME} (?P<place>{_PROPER})"), True),
    (re.compile(rf"\b{_COMING} (?P<place>{_PROPER})"), False),
]
"""Patterns of towns, and whether ordinary words with a capital are taken for one: "transferred from Cardiology" is none."""

_TIMES = re.compile(
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December|Spring|Summer|Autumn|Fall"
    r"|Winter|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day)\b"
)


def find_addresses(text: str) -> Iterator[tuple[int, int]]:
    """Streets, towns with state or postal code, post boxes, places of residence, numbers of rooms and beds.

    There is no list of towns here: one is found next to a state, or behind words of coming and going.
    """
    from data_prep.deidentify.names import is_common_word  # which builds on this module

    for pattern in _ADDRESS:
        for match in pattern.finditer(text):
            yield match.span("place" if "place" in pattern.groupindex else 0)
    hospitals = list(find_hospitals(text))
    for pattern, is_sure in _TOWNS:
        for match in pattern.finditer(text):
            start, end = match.span("place")
            is_ordinary = all(is_common_word(word) for word in re.findall(rf"[{LETTER}]+", match["place"]))
            is_in_hospital = any(first < end and start < last for first, last in hospitals)
            if not (_TIMES.match(match["place"]) or is_in_hospital or (is_ordinary and not is_sure)):
                yield start, end
