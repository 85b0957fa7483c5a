"""Which options of a question a text names: by label, by their text, or by both."""

import re
from collections import defaultdict
from collections.abc import Mapping

from medvlp.eval.answers.normalization import normalize
from medvlp.eval.answers.refusals import is_denied, is_supposed
from medvlp.eval.answers.statements import Contradiction

Options = Mapping[str, str]
"""Label → text."""

_NOUN = r"(?:option|choice|answer|letter|alternative|statement|number|item|figure|opción|alternativa|lettre|选项|選項|문항)s?"
_SET_OFF = r"\s*(?:[.,:;)\]}]+(?=\W|$|[^\W\d_]{2})|\s-\s|\s*\|)"
"""Behind a label: "B.", "B)", "B:no fracture", "B - no fracture", but not "a.m."."""
_AND = r"\s*(?:[,/&+、，]|\band\b|\bor\b|\by\b|\be\b|\bet\b|\bund\b|和|与|及|或|또는|또|와|과|か|と|\s)\s*(?:\band\b|\bor\b)?\s*"
_CONNECTIVE = re.compile(
    r"\s*(?:$|[,;.]|\b(?:because|since|as|for|due|which|is|was|with|given|based|would|that|only|alone|and\s+not|not|rather|the\s+(?:correct|"
    r"right|best|answer))\b)",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"(?<!\S)(?:not|no|without|neither|nor|never|cannot|cant|isnt|arent|wasnt|doesnt|dont|unlike|incorrect|wrong|unlikely|false|"
    r"exclude[sd]?|excluding|eliminate[sd]?|eliminating|ruled|rules|ruling|rule|rather than|instead of|as opposed to|less likely|"
    r"opposed|versus|vs|absent|inconsistent|lack|lacks|lacking|differential|differentiate|either|"
    r"contraindicated|avoid|avoided|out|none|contrary|contrast|compared|mimics?|mimic|distinguish\w*|differs?|"
    r"pas|sans|aucune?|sin|tampoco|descart\w+|nicht|kein\w*|ohne|não|sem|non|senza|не|нет|без)(?!\S)"
    r"|不 ?(?:是|支|符|考|像|太|能|会|属|应|宜|需|适|包|存|可|典|对|正)|非|无|無|没|沒|未|排除"
    r"|ない|ません|ではなく|없|않|아니|아닙|배제"
)
HEDGED = re.compile(
    r"\b(?:may|might|could|possibly|perhaps|maybe|alternatively|initially|considered|if(?!\s+(?:forced|i\s+(?:had|have|must)|pressed))|"
    r"at\s+first|history\s+of|previous(?:ly)?|peut-être|vielleicht|quizás?|talvez|podría|könnte|pourrait|poderia|forse)\b"
    r"|(?<!最)(?<!最有)可能|或许|也许|疑似|かもしれ|可能性がある",
    re.IGNORECASE,
)
"""In a clause that leaves open what it says."""
_ELISION = re.compile(r"(?<!\w)[dlnsjc]'(?=\w)", re.IGNORECASE)
_PARTICLE = "(?:이|가|은|는|을|를|의|로|으로|과|와|에|도|이며|이고|입니다|이다|이라고)?"
ENUMERATION = 3
"""Words of one of several things that a sentence lists."""
_POSITION = (
    r"(?<!\S)(?:below|above|near|next to|adjacent to|behind|(?:lateral|medial|anterior|posterior|inferior|superior) to|"
    r"close to|beneath|around|surrounding|than) (?:the )?"
)
"""Before what is named to say where something else lies."""
_CLAUSE = re.compile(
    r"(?<![ (][A-Za-z])(?<!^[A-Za-z])[.;!?\n。；！？]+(?=\s|$|[^\x00-\x7f])|\s-\s"
    r"|\bbut\b|\bhowever\b|\bwhereas\b|\bwhile\b|\balthough\b|\binstead\b(?! of)"
)


def denies(clause: str) -> bool:
    """Whether a clause holds a word that denies, excludes or compares."""
    return _NEGATION.search(normalize(clause)) is not None


def _without_questions(text: str) -> str:
    """A text without its questions to itself."""
    return "".join(" " if sentence.endswith("?") else sentence for sentence in re.split(r"(?<=[.!?\n])", text))


def any_label(options: Options) -> str:
    """A pattern of all labels, longer ones first."""
    return "|".join(re.escape(label) for label in sorted(options, key=len, reverse=True))


def label_of(spelling: str, options: Options) -> str:
    """The label that is written so; case does not count where no other label differs by it alone."""
    return (
        spelling if spelling in options else next(label for label in options if label.casefold() == spelling.casefold())
    )


def with_text(text: str, options: Options) -> set[str]:
    """Labels of the options that normalise to the same tokens."""
    tokens = _with_units(normalize(text))
    return {label for label, option in options.items() if _with_units(normalize(option)) == tokens != ""}


def _with_units(tokens: str) -> str:
    """ "5 mg" is "5mg"."""
    return re.sub(r"(?<=\d) (?=[^\W\d])", "", tokens)


def read_whole(text: str, options: Options) -> set[str]:
    """Labels of the options that a text is: a label, a label and its text, or a text; nothing else in it. Empty: it is none."""
    bare = re.sub(
        rf"^\W{{0,9}}(?:only\s+)?(?:(?:the\s+)?{_NOUN}\s*[:#]?\s*)?\W{{0,9}}|(?:\W+(?:only|alone))?\W+$|\W+(?:only|alone)$",
        "",
        text,
        flags=re.IGNORECASE,
    ).casefold()
    labels = {label for label in options if label.casefold() == bare}
    if labels and not with_text(text, options) - labels:
        return labels
    return labels or _lettered(text, options) or with_text(text, options)


def _lettered(text: str, options: Options) -> set[str]:
    """A label and then an option's text, nothing else: that label, or all labels where the two disagree."""
    lead = re.match(
        rf"\W{{0,9}}(?:{_NOUN}\s+)?\W{{0,9}}({any_label(options)}){_SET_OFF}", text, re.IGNORECASE
    ) or re.match(rf"\W{{0,9}}(?:{_NOUN}\s+)?\W{{0,9}}({any_label(options)})\b[\s(]+(?=\S)", text)
    if not lead:
        return set()
    label, remainder = label_of(lead[1], options), text[lead.end() :]
    labels = with_text(remainder, options)
    if not labels:
        return set()
    return {label} if label in labels else labels | {label}


def read_labels(text: str, options: Options) -> set[str]:
    """Labels that a statement of the answer names: "B", "(B) no fracture", "B, since …", "A and C", "option B", an option's text.

    More than one where it names several. "a fracture" names no A.
    """
    text = re.sub(r"\s?(?:입니다|이다|이에요|예요|です|である)\W*$", "", text)
    text = re.sub(r"^\W*(?:(?:the\s+)?(?:correct\s+|right\s+)?(?=[A-Za-z]+\W+\w))", "", text) if text.strip() else text
    if labels := read_whole(text, options):
        return labels
    if labels := label_list(text, options):
        return labels
    prefix = re.match(rf"\W{{0,9}}(?:{_NOUN}\s*[:#]?\s*)?\W{{0,9}}", text, re.IGNORECASE)
    body = text[prefix.end() :] if prefix else text
    if labels := _text_at_start(body, options):
        return labels
    pattern = any_label(options)
    lead = re.match(rf"({pattern})(?=(.?))", body) or re.match(rf"({pattern})(?={_SET_OFF}|\W*$)", body, re.IGNORECASE)
    if lead and _is_label(lead, body, prefix is not None and bool(re.search(r"\w", prefix.group()))):
        label, remainder = label_of(lead[1], options), body[lead.end() :]
        partner = re.match(
            rf"[)\]]?\s*(?:,|/|&|\band\b|\bor\b|和|与|或|또는)\s*(?:{_NOUN}\s*)?\(?({pattern})(?!\w|[-'])", remainder
        )
        if (
            partner
            and partner[1] in options
            and (partner[1] not in ("A", "I") or not re.match(r"\s+[a-z]", remainder[partner.end() :]))
        ):
            return {label, partner[1]}
        labels = _text_at_start(re.sub(r"^\W+", "", remainder), options)
        return {label} if not labels or label in labels else labels | {label}
    if last := re.search(rf"[^\x00-\x7f]\s*[(]?({pattern})[)]?\s*$", text):  # "選択肢の中ではC"
        return {last[1]}
    return named_labels(text, options) or mentioned(text, options)


def _is_label(lead: re.Match[str], body: str, has_noun: bool) -> bool:
    """Whether a word at the start is a label: set off by a mark or the end; before another word only a capital is."""
    tail = body[lead.end(1) :]
    if re.match(rf"{_SET_OFF}|\W*$", tail):
        return not re.match(r"\.\s?[a-z]+\b", tail) or not lead[1].isalpha() or has_noun or tail[1:2] == " "
    if not tail[0].isascii():  # "C입니다", "Bです"
        return True
    if not re.match(r"\W", tail) or re.match(r"[-'’]\w", tail) or not (lead[1].isupper() or lead[1].isdigit()):
        return False
    if body.isupper() and re.search(r"\s", body.strip()) and not _CONNECTIVE.match(tail):
        return False
    if lead[1].isdigit():
        return bool(_CONNECTIVE.match(tail)) or has_noun
    return has_noun or bool(_CONNECTIVE.match(tail)) or bool(re.match(r"\s*\(|\s*(?:and|&)\s+\(?[A-Z]\b", tail))


def label_list(text: str, options: Options) -> set[str]:
    """Two or more labels and nothing else: "A, C", "(A) and (C)", "B/D", "A or B"."""
    label = rf"[(\[\"']*({any_label(options)})[)\]\"'.:]*"
    item = rf"(?:{_NOUN}\s*:?\s*)?{label}"
    # atomic: a list that is none would be tried in every way of parting its blanks
    pattern = rf"\W*+(?:both\s+)?(?>{item})(?>{_AND}{item})++\W*+(?:only)?\W*+"
    is_list = re.fullmatch(pattern, text, re.IGNORECASE)
    if not is_list or (re.search(r"\s[a-z]\s", f" {text} ") and not text.islower()):
        return set()
    return {
        label_of(m[1], options)
        for m in re.finditer(rf"(?<![A-Za-z0-9])({any_label(options)})(?![A-Za-z0-9])", text, re.I)
    }


def _text_at_start(text: str, options: Options) -> set[str]:
    """Labels of the longest option whose text a text begins with; with another one, where that follows behind "or" or "and"."""
    tokens = f"{normalize(text)} "
    starts = {label: normalize(option) for label, option in options.items()}
    fitting = {label: start for label, start in starts.items() if start and tokens.startswith(f"{start} ")}
    if not fitting:
        return set()
    longest = max(map(len, fitting.values()))
    labels = {label for label, start in fitting.items() if len(start) == longest}
    remainder = tokens[longest:].lstrip()
    if match := re.match(r"(?:or|and|/)\s+(?:the\s+|a\s+)?", remainder):
        labels |= {
            label for label, start in starts.items() if start and remainder[match.end() :].startswith(f"{start} ")
        }
    return labels


def listed_labels(text: str, options: Options) -> set[str]:
    """Labels of the one list of two or more that a text holds outside of denials: "radiation is involved in A, B, and E"."""
    label = rf"\(?(?:{any_label(options)})\)?"
    pattern = rf"(?<![\w'-]){label}(?:\s*(?:,\s*and\b|[,&、]|\band\b|和|과|와|\by\b)\s*{label})+(?![\w'-])"
    lists = {
        frozenset(re.findall(rf"(?<!\w)(?:{any_label(options)})(?!\w)", match.group()))
        for clause in re.split(r"[.!?;\n。]+(?=\s|$)|\bbut\b|\bhowever\b", text)
        for match in re.finditer(pattern, clause)
        if not denies(clause[: match.start()]) and not HEDGED.search(clause)
    }
    return set(next(iter(lists))) if len(lists) == 1 else set()


def named_labels(text: str, options: Options) -> set[str]:
    """Labels that are named as such anywhere, outside of a denial: "option B", "choice (C)", "(B)"."""
    labels: set[str] = set()
    pattern = rf"\b{_NOUN}\s*[:#]?\s*[\"'(\[]*({any_label(options)})(?!\w|[-'’]\w)|\(\s*({any_label(options)})\s*\)"
    for clause in _CLAUSE.split(_without_questions(text)):
        clause_labels = {
            label_of(m[1] or m[2], options) for m in re.finditer(pattern, clause) if (m[1] or m[2]) in options
        }
        if clause_labels and not denies(clause) and not HEDGED.search(clause):
            labels |= clause_labels
    return labels


def mentioned(text: str, options: Options) -> set[str]:
    """Labels of the options whose text occurs as whole words in a clause that denies nothing, longer texts first."""
    by_text: dict[str, set[str]] = defaultdict(set)
    for label, option in options.items():
        by_text[normalize(option)].add(label)
    order = sorted(by_text.keys() - {""}, key=len, reverse=True)
    has_commas = any("," in option for option in options.values())
    labels: set[str] = set()
    for part in _CLAUSE.split(_without_questions(text)):
        clauses = [part] if has_commas else part.split(",")
        namings = [any(f" {text} " in f" {normalize(clause)} " for text in order) for clause in clauses]
        for clause in clauses:
            remainder = normalize(_ELISION.sub("", clause))
            if (
                len(clauses) > 2
                and sum(namings) == 1
                and clause is not clauses[0]
                and len(remainder.split()) <= ENUMERATION
            ):
                continue  # "It shows the lungs, heart, ribs and diaphragm."
            clause_labels: set[str] = set()
            for option_text in order:
                remainder = re.sub(rf"{_POSITION}{re.escape(option_text)}(?!\S)", "position", remainder)
                particle = _PARTICLE if re.search("[가-힣]$", option_text) else ""
                remainder, times = re.subn(rf"(?<!\S){re.escape(option_text)}{particle}(?!\S)", "|", remainder)
                if times:
                    clause_labels |= by_text[option_text]
            is_open = HEDGED.search(remainder) or re.search(r"(?<!\S)between(?!\S)", remainder)
            if clause_labels and not is_open and not _NEGATION.search(remainder):
                labels |= clause_labels
    return labels


_TYPE = re.compile(
    r"\b(?:vitamin|hepatitis|type|group|grade|class|stage|factor|protein|influenza|figure|fig\.|panel|lead|view|point|segment|zone|level|image|"
    r"step|part|case|child|weber|patient|subtype|serotype|strain|immunoglobulin|le fort)\s*$",
    re.IGNORECASE,
)
"""Before a letter that is none of an option."""


_ARTICLE = re.compile(r"(?:^|[.!?\n]\s|\s\s|(?<=\n)\s?)A\s(?!is\b|was\b|and\b|or\b|would\b|fits\b)[a-z]")
"""An "A" that begins a sentence."""


def lone_label(text: str, options: Options) -> tuple[str, int, int] | None:
    """The only label that a text holds as a word of its own, in its first or last sentence and undenied, and where it stands."""
    names = [label for label in options if label.isalpha() and label.isupper()]
    pattern = rf"(?<![\w'/.-])(?:{'|'.join(names) or '(?!)'})(?![\w'/-]|\.\w)"
    matches = [match for match in re.finditer(pattern, text) if not _ARTICLE.match(text, max(0, match.start() - 2))]
    if len({match.group() for match in matches}) != 1 or text.isupper():
        return None
    last = matches[-1]
    sentences = re.split(r"(?<=[.!?\n。])\s+", text.strip())
    clause = next((part for part in reversed(sentences) if re.search(rf"(?<!\w){last.group()}(?!\w)", part)), "")
    if clause not in (sentences[0], sentences[-1]) or clause.endswith("?") or denies(clause) or HEDGED.search(clause):
        return None
    if last.group() in ("A", "I") and not re.match(r"\s*(?:[.,;:)!]|$)", text[last.end() :]):
        return None
    is_of_type = any(_TYPE.search(text[: match.start()]) for match in matches)
    if is_of_type or is_denied(text, last.start()) or is_supposed(text, last.start()) or "least" in clause.casefold():
        return None
    return last.group(), last.start(), last.end()


def single(labels: set[str]) -> str | None:
    """The one label, None for no label. Raises Contradiction: several."""
    if len(labels) > 1:
        raise Contradiction
    return next(iter(labels), None)
