"""Where names of persons stand in clinical text: by the words around them, and by lists of names.

The lists (97,014 first names, 161,470 surnames, 195,253 words of clinical notes that are no names) are those of Philter
(Norgeot et al., npj Digital Medicine 2020), read from the installed philter-lite; its pipeline is not used, since it
removes every word that it does not know, which takes a third of the clinical content with it.
"""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from data_prep.deidentify.places import LETTER, UP

PARTICLE = (
    r"(?:van|von|der|den|ter|de|del|della|di|da|do|dos|du|la|le|el|al|bin|ibn|zu|af|y|VAN|VON|DER|DE|DEL|LA|EL|AL)"
)
_TOKEN = rf"(?:[{UP}]\.(?:-?[{UP}]\.){{0,3}}|[{UP}][{LETTER}]*(?:['’.-][{UP}][{LETTER}]+){{0,3}})"
_NAME_SUFFIX = rf"(?:,? (?:Jr|Sr|II|III|IV)\b\.?| (?:{PARTICLE} ){{0,2}}{_TOKEN})"
_NAME = rf"(?:{PARTICLE} ){{0,2}}{_TOKEN}{_NAME_SUFFIX}{{0,3}}"
_COMMA_NAME = (
    rf"(?:{PARTICLE} ){{0,2}}{_TOKEN}(?: (?:{PARTICLE} )*{_TOKEN}){{0,2}}, ?{_TOKEN}(?: {_TOKEN}){{0,2}}"
    rf"|{_TOKEN}\^{_TOKEN}(?:\^{_TOKEN})*"
)
_LOWER_NAME = rf"[{LETTER}'’-]+(?:, ?| )[{LETTER}'’-]+(?: [{LETTER}]\.?)?"
_DEGREE = (
    r"(?:M\.? ?D|D\.? ?O|Ph\.? ?D|R\.? ?N|M\.?B\.?B\.?S|MBChB|FRCR|FRCPC|FACR|DNB|PA-?C|ARNP|NP|CRNP|LPN|DDS|DMD|DPM"
    r"|MSc?N?|RT(?:\([A-Z]+\))*|RDMS|RVT|MPH|DVM)\b\.?"
)
_DEGREES = rf"(?:,? ?{_DEGREE}(?![\w(]))"

_TITLED = re.compile(
    rf"\b(?:(?:Dr|Drs|Mr|Mrs|Ms|Mx|Prof|Pr|Rev|Fr|Sr|Dott|Dra|DR|MR|MRS|PROF)\.|(?:Dr|Drs|Mr|Mrs|Ms|Mx|Miss|Prof"
    rf"|Professor|Doctor|Nurse|Herr|Frau|Mme|Señora?)(?!\.))"
    rf"[ \t]+(?:(?:Dr|Prof|med|Med)\.? )*(?P<name>{_NAME}(?: (?:and|or|&) (?!(?:Mr|Mrs|Ms|Dr|Prof)\b){_NAME})?{_DEGREES}{{0,3}})"
)
_DEGREED = re.compile(rf"\b(?P<name>{_NAME}),? {_DEGREES}{{1,3}}|\b(?P<comma>{_NAME}),{_DEGREES}{{1,3}}")
_PERSON = (
    r"(?:(?:patient|pt)(?:'?s)?(?: name)?|(?:full |last |first |given |family |sur)?name|surname|(?:referring"
    r"|ordering|requesting|attending|primary care|consulting|primary"
    r"|responsible|performing|reading|interpreting|admitting)(?: (?:physician|provider|doctor|md|radiologist"
    r"|clinician|surgeon|phys|dr))?|ref(?:erred)?(?: by)?|requested by"
    r"|attending(?: radiologist| physician)?|radiologist|physician|provider|technologist|technician|tech|sonographer"
    r"|resident|fellow|author|transcriptionist|pcp|cc|attn"
    r"|contact(?: person)?|next of kin|nok|emergency contact|spouse|husband|wife|mother|father|son|daughter|brother"
    r"|sister|guardian|surgeon|operator|anesthesiologist"
    r"|nurse|dictator|signed|signature|reader|interpreter|consultant|subject|client|re)"
)
_LABELLED = re.compile(
    rf"(?<![\w-])(?i:{_PERSON})[ \t]*(?:\((?:s|md)\))?[:#=][ \t]*(?:(?:Dr|Mr|Mrs|Ms|Prof)\.? )?(?P<name>{_COMMA_NAME}"
    rf"|{_NAME})"
    rf"|(?<![\w-])(?i:(?:patient|pt|full|last|first)(?:'?s)? name|name)[ \t]*[:=][ \t]*(?P<lower>{_LOWER_NAME})"
    rf"|(?<![\w-])(?:PATIENT|NAME|ATTENDING|PHYSICIAN|RADIOLOGIST)[ \t]+(?P<upper>[{UP}]{{2,}}, ?[{UP}]{{2,}})"
)
# These labels also stand before what is no name: "Mother: diabetes", "Re: chest pain".
_WEAK_LABEL = re.compile(
    r"(?i)(?:re|name|contact|subject|client|fellow|operator|reader|resident|tech|mother|father|son|daughter|brother"
    r"|sister|husband|wife|spouse|signature|author)\b"
)
_INITIALS = re.compile(
    r"\b(?i:(?:dictated|transcribed|typed|signed|read) by|dictator|transcriptionist|initials):[ \t]*"
    r"(?P<initials>[A-Z]{2,3}(?:[/:][A-Za-z]{2,3})?)\b"
    r"|(?m:^(?P<line>[A-Z]{2,3}[:/][a-z]+(?:/[a-z]+)*)[ \t]*$)"
)
_BY = re.compile(
    r"\b(?i:(?:dictated|transcribed|signed|read|interpreted|reviewed|approved|verified|reported|performed|ordered"
    r"|requested|referred|authenticated|edited|prepared|typed"
    r"|finalized|confirmed|seen|evaluated|provided|taken|drawn|illustration|photograph(?:ed|s)?|images?)(?: and "
    r"[a-z]+| electronically)? by|courtesy(?: of)?|"
    r"thank(?:s to| you)?,|sincerely,?|regards,?|"
    r"(?:discussed|spoke|spoken|communicated|conveyed|reviewed|relayed|confirmed|conversation|shared) (?:with|to)|"
    r"(?:called|reported|given|paged|notified|informed|told)(?: to)?|named|"
    r"(?:daughter|son|wife|husband|mother|father|sister|brother|spouse|partner|friend|neighbor|caregiver"
    r"|guardian),?)\s*:?\s+"
    r"(?i:(?:the |his |her |attending |resident |radiologist |physician |nurse |technologist |patient |covering "
    r"|ordering |referring |and )*)"
    rf"(?P<name>{_COMMA_NAME}|{_NAME})"
)
_PAIR = re.compile(rf"(?<![\w^.-])(?P<first>{_TOKEN})(?: [{UP}]\.?)? (?P<last>(?:{PARTICLE} ){{0,2}}{_TOKEN})(?![\w-])")
_TURNED = re.compile(
    rf"(?:^|(?<=[\n\t:|#(])|(?<=[:|] ))(?P<last>{_TOKEN}), ?(?P<first>{_TOKEN})(?: [{UP}]\b\.?)?(?![\w-])|(?<!\w)"
    rf"(?P<pn>{_TOKEN}\^{_TOKEN}(?:\^{_TOKEN})*)"
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A name ends before such a word: the next field of a header, or the next sentence.
NO_NAMES = _words(
    "the a an and or no not of on in at to by is was has had with for from this that there male female unknown none "
    "patient name date dob doa mrn mr ssn exam age sex id acct "
    "account acc accession physician radiologist attending medical record md phone fax tel impression findings "
    "history technique comparison dr doctor department he she it his "
    "her they image images figure fig figures available online additional see arrow arrows left right yes n/a na "
    "anonymous anonymized removed redacted deleted study ct mri report"
)
# In the lists as first names, but in captions parts of methods and places: Monte Carlo, Bland Altman, von Kossa, Rio Grande.
_NO_FIRST_NAMES = _words(
    "north northern south southern east eastern west western saint rio port cape monte von bland ann"
)
_EPONYM = re.compile(
    rf"(?:['’]s?)?[ -](?:disease|syndrome|sign|catheter|lymphoma|sarcoma|tumou?r|cyst|fracture|procedure|operation"
    rf"|line|classification|criteria|score|grade|stage|node|nodule|pouch"
    rf"|hernia|ligament|duct|gland|canal|fossa|test|view|position|projection|units?|line|tube|stent|drain|shunt"
    rf"|filter|aneurysm|contracture|palsy|deformity|dystrophy|ulcer|body|bodies|type"
    rf"|nail|rod|pin|wires?|plate|clip|balloon|needle|technique|method|space|point|triangle|angle|index|stain|method"
    rf"|law|plaques?|lesion|nerve|muscle|fascia|membrane|anomaly|malformation"
    rf"|patients?|cells?|Harris|[{UP}][{LETTER}]+ (?:disease|syndrome|classification|fracture|sign))\b"
)


@lru_cache(maxsize=1)
def word_lists() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """First names, surnames, and words that are no names. Read as a file: importing the package costs 2 s of nltk."""
    package = importlib.util.find_spec("philter_lite")
    if package is None or package.origin is None:
        raise ImportError("deidentify_text needs the lists of names of philter-lite: pip install philter-lite")
    sets = tomllib.loads((Path(package.origin).parent / "filters" / "set.toml").read_text(encoding="utf-8"))
    return frozenset(sets["firstnames"]), frozenset(sets["lastnames"]), frozenset(sets["nonames"])


def is_common_word(word: str) -> bool:
    """Whether the word occurs in clinical text as a word, or may be a name only."""
    return word.lower() in word_lists()[2]


def find_names(text: str) -> Iterator[tuple[int, int]]:
    """Names after titles, labels and verbs of reporting, before degrees, and pairs that the lists know as a name."""
    for match in _TITLED.finditer(text):
        yield from _until_no_name(text, *match.span("name"))
    for match in _DEGREED.finditer(text):
        group = "name" if match["name"] else "comma"
        if _known_person(match[group]):
            yield match.start(group), match.end()
    for match in _LABELLED.finditer(text):
        group = match.lastgroup or "name"
        if not (_WEAK_LABEL.match(match[0]) and _ordinary(match[group])):
            yield from _until_no_name(text, *match.span(group))
    for match in _INITIALS.finditer(text):
        yield match.span(match.lastgroup or 0)
    for match in _BY.finditer(text):
        for start, end in _until_no_name(text, *match.span("name")):
            if _known_person(text[start:end]) and not _EPONYM.match(text, end):
                yield start, end
    for match in _PAIR.finditer(text):
        if _pair(match["first"], match["last"]) and not _EPONYM.match(text, match.end()):
            yield match.span()
    for match in _TURNED.finditer(text):
        if match["pn"] or (_pair(match["first"], match["last"]) and not _EPONYM.match(text, match.end())):
            yield match.span()


def _until_no_name(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for word in re.finditer(rf"[{LETTER}/]+", text[start:end]):
        if word[0].lower() in NO_NAMES and not re.fullmatch(_DEGREE, word[0]):
            end = start + len(text[start : start + word.start()].rstrip(" ,"))
            break
    if end > start:
        yield start, end


def _known_person(name: str) -> bool:
    """Whether a word of it is only ever a name; or, for names that no list knows, no word of it is an ordinary word."""
    firsts, lasts, words = word_lists()
    parts = [part.lower() for part in re.findall(rf"[{LETTER}]{{2,}}", name)]
    if any(part in NO_NAMES for part in parts[:1]):
        return False
    names = [part for part in parts if part in firsts or part in lasts]
    return any(part not in words for part in names) or (
        bool(parts) and len(name.split()) > 1 and not any(part in words for part in parts)
    )


def _ordinary(name: str) -> bool:
    """Whether it begins with an ordinary word and has no word that is only ever a name: "Chest CT", "Diabetes"."""
    firsts, lasts, words = word_lists()
    parts = [part.lower() for part in re.findall(rf"[{LETTER}]{{2,}}", name)]
    return (
        parts[:1] != [] and parts[0] in words and not any(p not in words and (p in firsts or p in lasts) for p in parts)
    )


def _pair(first: str, last: str) -> bool:
    firsts, lasts, words = word_lists()
    surname = [part for part in re.findall(rf"[{LETTER}]+", last.lower()) if not re.fullmatch(PARTICLE, part)]
    surname += [last.lower().replace("'", "").replace("’", "")]
    known_first = first.lower() in firsts and first.lower() not in words and first.lower() not in _NO_FIRST_NAMES
    return known_first and any(p in lasts and p not in words for p in surname)


def again(names: set[str]) -> re.Pattern[str] | None:
    """A pattern for further mentions of the names' words, such as the surname alone; None if there is no such word.

    An ordinary word among them ("Black") counts with a capital only, and an eponym ("Murphy sign") does not count.
    """
    words_by_name = [re.findall(rf"[{LETTER}]+(?:['’-][{LETTER}]+)*", name) for name in names]
    words = {part for words in words_by_name for word in words for part in [word, *word.split("-")] if len(part) > 2}
    forms: set[str] = set()
    for word in sorted(words):
        if re.fullmatch(PARTICLE, word) or word.lower() in NO_NAMES or re.fullmatch(_DEGREE, word):
            continue
        forms |= {word, word.upper(), word.capitalize()} if is_common_word(word) else {f"(?i:{re.escape(word)})"}
    if not forms:
        return None
    return re.compile(
        rf"(?<![{LETTER}'’-])(?:{'|'.join(sorted(forms))})(?![{LETTER}]|-[{LETTER}])(?!{_EPONYM.pattern})"
    )
