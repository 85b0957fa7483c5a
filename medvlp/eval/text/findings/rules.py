"""Findings that an English report states, by rules: what is mentioned, what is negated, what is uncertain.

A mention is a term of `terms`. It is negated or uncertain where a cue of its own sentence reaches it; a cue reaches to
the next one that ends it ("but", a new clause). What the rules cannot do is in `LIMITS`, which every protocol repeats.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from medvlp.eval.text.findings.terms import FINDINGS, NO_FINDING

State = Literal["present", "uncertain", "absent"]
_STRENGTH: dict[State, int] = {"present": 2, "uncertain": 1, "absent": 0}
"""Where a text mentions a finding several times, the strongest counts."""

LIMITS = (
    "English only; thoracic findings and devices of a list of our own; terms as written, so misspellings and abbreviations "
    "beyond the list are missed; no side, place, size or change is compared; what is said of earlier examinations counts like "
    "what is said of this one; behind a comma a negation may reach too far (no mass, effusion is present); unlikely counts as "
    "uncertain; not validated against radiologists: figures compare texts under these rules alone"
)

LONGEST = 1000
"""Characters of a sentence; a longer one is cut, so that the work stays linear in a text."""
_SENTENCE = re.compile(r"(?<!\d)[.](?!\w)|[.](?=\s)|[!?;\n]+")
_NO_BLANK = re.compile(r"(?<=[a-z])[.](?=[A-Z][a-z])")
"""A full stop without a blank behind it."""
_TERM = re.compile(
    r"\b(?:"
    + "|".join(
        [f"(?P<none>{'|'.join(NO_FINDING)})"]
        + [f"(?P<f{number}>{'|'.join(patterns)})" for number, patterns in enumerate(FINDINGS.values())]
    )
    + r")\b"
)
_NAMES = tuple(FINDINGS)

_SIZES = (
    r"(?:there (?:is|are)|an?|small|mild|minimal|moderate|large|severe|stable|unchanged|persistent|worsening|increas\w+|"
    r"improv\w+|slight|trace|new|bilateral|bibasilar|biapical|left|right|the)"
)
_END = re.compile(
    r"\b(?:but|however|although|though|except(?: for)?|other than|apart from|yet|which|whereas|while|"
    r"secondary to|due to|because|with)\b"
)
"""Where the reach of a cue ends."""
_NEW_CLAUSE = re.compile(rf"(?:,|\band\b)\s+(?={_SIZES}\b)")
"""Where it ends too, unless the list goes on with "or"."""
_OR = re.compile(r"\b(?:or|nor)\b")

_NO_CUE = re.compile(
    r"\b(?:no|without)\s+(?:(?:significant|interval|appreciable|substantial|definite|other|relevant)\s+){0,2}"
    r"(?:change|changes|increase|decrease|difference|improvement|worsening)\b(?:\s+(?:in|of|from))?"
    r"|\bwithout (?:\w+ )?contrast\b(?: \w+)?|\bnot shown\b"
    r"|\bnot only\b|\bno doubt\b|\bnot (?:significantly |substantially )?(?:changed|improved|increased|decreased|resolved)\b"
)
"""Words that resemble a negation and negate no finding."""
_UNDECIDED = re.compile(
    r"\b(?:(?:can ?not|can't|could not|not|never|difficult to|hard to)\s+(?:be\s+)?(?:completely |entirely |fully )?"
    r"(?:exclude[d]?|rule[d]? out)|not excluded|rule out)\b"
)
"""Uncertain before and behind it."""
_NEGATION = re.compile(
    r"\b(?:no|not|nor|neither|without|den(?:y|ies|ied)|negative for|free of|clear of|absence of|lack of|rather than|"
    r"resolution of|resolved|never|none|(?:is|are|was|were|do|does|did)n't)\b"
)
_NEGATED_BEFORE = re.compile(
    r"\b(?:not|no longer|never|isn't|aren't|wasn't)\s+(?:\w+ly\s+)?(?:be\s+)?(?:seen|identified|present|visuali[sz]ed|evident|"
    r"noted|demonstrated|detected|observed|appreciated|apparent|visible|found|shown)\b"
    r"|\b(?:is|are|was|were)\s+(?:now\s+)?absent\b"
    r"|\b(?:has|have)\s+(?:now\s+|completely\s+|nearly\s+)?(?:resolved|cleared|disappeared)\b"
    r"|\b(?:is|are|was|were|been|has been)\s+(?:ruled out|excluded)\b"
    r"|[:-]\s*(?:no|none|absent|negative|not seen|nil)\b(?=\s*(?:,|$))"
)
_UNCERTAIN = re.compile(
    r"\b(?:possib(?:le(?! to)|ly|ility)|probabl[ey]|likely|may|might|could|suspect(?:ed)?|suspicious|suspicion|concern(?:ing)?|"
    r"worrisome|suggest(?:s|ed|ive|ing)?|question(?:able|ed)?|equivocal|presum(?:ed|ably|ptive)|differential|"
    r"perhaps|potential(?:ly)?|borderline|unlikely|indeterminate|favou?r(?:ed|s)?)\b"
)
_UNCERTAIN_BEFORE = re.compile(
    r"\b(?:(?:is|are|was|were|remains?)\s+(?:also\s+)?(?:possible|probable|likely|suspected|questioned|questionable|unlikely|"
    r"favou?red)|may be present|(?:might|could) be present)\b"
)
_REQUEST = re.compile(
    r"\b(?:evaluat(?:e|ion)|assess(?:ment)?|screening|look(?:ing)?|check|please evaluate)\s+for\b|\br/o\b"
)
"""Why an examination was asked for: what follows is no finding of it."""


def states_of(text: str) -> dict[str, State]:
    """Finding → its state in a text, for every finding that the text mentions; by the alphabet."""
    states: dict[str, State] = {}
    for sentence in _SENTENCE.split(_NO_BLANK.sub(". ", text).lower().replace("\u2019", "'")):
        for part in _parts(sentence):
            for finding, state in _mentions(part):
                if finding not in states or _STRENGTH[state] > _STRENGTH[states[finding]]:
                    states[finding] = state
    return dict(sorted(states.items()))


def states_of_all(texts: Sequence[str]) -> dict[str, State]:
    """`states_of` several texts about the same thing, such as a report's findings and its impression, together."""
    return states_of("\n".join(texts))


def stated(states: Mapping[str, State]) -> set[str]:
    """The findings that count as stated: present or uncertain."""
    return {finding for finding, state in states.items() if state != "absent"}


def _parts(sentence: str) -> list[str]:
    return [sentence[start : start + LONGEST] for start in range(0, len(sentence), LONGEST)]


def _mentions(sentence: str) -> Iterator[tuple[str, State]]:
    terms = [match for match in _TERM.finditer(sentence) if match.lastgroup != "none"]
    if not terms:
        return
    cues = _blanked(_NO_CUE, sentence)
    doubts = [match.start() for match in _UNDECIDED.finditer(cues)]
    cues = _blanked(_UNDECIDED, cues)
    ends = [match.start() for match in _END.finditer(cues)]
    ends += [
        match.start()
        for match in _NEW_CLAUSE.finditer(cues)
        if not _OR.search(",".join(cues[match.end() :].split(",", 2)[:2]))
    ]
    first = terms[0].end()

    def is_reached(term: re.Match[str], forward: re.Pattern[str], backward: re.Pattern[str] | None = None) -> bool:
        """Whether a cue in front of the term, or one behind it, reaches it, or the term holds one."""
        text = cues if backward is None else cues[:first] + _blanked(backward, cues[first:])  # it reaches one side only
        if any(not _has_end(ends, cue.end(), term.start()) for cue in forward.finditer(text, 0, term.start())):
            return True
        if forward.search(text, term.start(), term.end()):
            return True
        behind = backward.finditer(cues, term.end()) if backward is not None else ()
        return any(not _has_end(ends, term.end(), cue.start()) for cue in behind)

    for term in terms:
        if is_reached(term, _REQUEST):
            continue
        state: State = "present"
        if is_reached(term, _NEGATION, _NEGATED_BEFORE):
            state = "absent"
        elif (
            is_reached(term, _UNCERTAIN, _UNCERTAIN_BEFORE)
            or _is_alternative(term, terms, cues)
            or any(not _has_end(ends, *sorted((doubt, term.start()))) for doubt in doubts)
        ):
            state = "uncertain"
        yield _NAMES[int(str(term.lastgroup)[1:])], state


def _blanked(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda match: " " * len(match.group()), text)


def _has_end(ends: Sequence[int], start: int, stop: int) -> bool:
    return any(start <= end < stop for end in ends)


_ALTERNATIVE = re.compile(r"[\s,/]*(?:\w+[\s,]+){0,2}(?:or|versus|vs\.?)(?:\s+\w+){0,2}\s*")
"""Between two findings of which one is meant, and it is open which."""


def _is_alternative(term: re.Match[str], terms: Sequence[re.Match[str]], sentence: str) -> bool:
    index = terms.index(term)
    neighbours = [(terms[i], terms[i + 1]) for i in (index - 1, index) if i >= 0 and i + 1 < len(terms)]
    return any(_ALTERNATIVE.fullmatch(sentence, a.end(), b.start()) for a, b in neighbours)
