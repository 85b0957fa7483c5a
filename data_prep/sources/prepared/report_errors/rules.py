"""One error in one sentence of a report, by kind: what it could be, sentence by sentence. Rules for English.

Each rule gives sentences that say something else than the original. They go by lists of words (`words`) and not by what a
report means, and that has limits: whether the new sentence is false is known only where the old one is true; "The left lung has
a nodule" becomes an error, and it is one that no reader can see without the image. Sentences in doubt or about what is normal
are left alone where another word could leave them true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from data_prep.sources.prepared.report_errors import words


class Change(NamedTuple):
    """A sentence with an error. sentence: its number. text: what it says now."""

    kind: str
    sentence: int
    text: str


def changes(sentences: list[str], kinds: tuple[str, ...] | list[str]) -> list[Change]:
    """Every change of a text that the rules find, by kind, then by sentence."""
    text = " ".join(sentences)
    ordered: dict[Change, None] = {}
    for kind in kinds:
        for number, sentence in enumerate(sentences):
            for changed in KINDS[kind](sentence, text):
                if _plain(changed) != _plain(sentence) and _plain(changed) not in map(_plain, sentences):
                    ordered[Change(kind, number, changed)] = None
    return list(ordered)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+|%", text.casefold()))


def _is_plain_finding(sentence: str) -> bool:
    """Whether it says that something is there: nothing denied, doubted, or called normal."""
    return not (words.NEGATIONS.search(sentence) or words.DOUBTS.search(sentence) or words.NORMAL.search(sentence))


def side(sentence: str, text: str) -> Iterator[str]:
    """Left for right: the only side that a sentence names, unless the text finds it on both."""
    matches = list(words.SIDE.finditer(sentence))
    if len(matches) != 1 or not _is_plain_finding(sentence) or words.SIDES_TOGETHER.search(sentence):
        return
    match = matches[0]
    if words.SIDE_OF_A_NAME.match(sentence, match.end()) or words.NO_SIDE_BEFORE.search(sentence[: match.start()]):
        return
    yield _replaced(sentence, match, words.SIDES)


def severity(sentence: str, text: str) -> Iterator[str]:
    """Mild for severe, small for large, acute for chronic: the only such word of a sentence."""
    yield from _swapped(sentence, words.SEVERITY, words.SEVERITIES, words.SEVERITY_OF_A_NAME)


def organ(sentence: str, text: str) -> Iterator[str]:
    """Another organ or part: the only one of the list in a sentence, where its partner is not named in the text."""
    matches = list(words.ORGAN.finditer(sentence))
    if len(matches) == 1 and not re.search(rf"\b{words.ORGANS[matches[0]['word'].casefold()]}\b", text, re.IGNORECASE):
        yield from _swapped(sentence, words.ORGAN, words.ORGANS, words.ORGAN_OF_A_NAME)


def _swapped(
    sentence: str, pattern: re.Pattern[str], partners: dict[str, str], of_a_name: re.Pattern[str]
) -> Iterator[str]:
    matches = list(pattern.finditer(sentence))
    if len(matches) == 1 and _is_plain_finding(sentence) and not of_a_name.match(sentence, matches[0].end()):
        yield _with_article(_replaced(sentence, matches[0], partners))


def number(sentence: str, text: str) -> Iterator[str]:
    """A measured number ten times as large, or a tenth of it."""
    for match in words.NUMBER.finditer(sentence):
        value = float(match["number"])
        if value == 0 or (match["unit"] == "%" and value == 100):
            continue
        changed = value * 10 if value < 10 else value / 10
        digits = f"{changed:.3f}".rstrip("0").rstrip(".")
        yield sentence[: match.start("number")] + digits + sentence[match.end("number") :]


def unit(sentence: str, text: str) -> Iterator[str]:
    """Another unit behind the same number: mm for cm, mg for g."""
    for match in words.NUMBER.finditer(sentence):
        if match["unit"] in words.UNITS and float(match["number"]):
            yield sentence[: match.start("unit")] + words.UNITS[match["unit"]] + sentence[match.end("unit") :]


_NO_AT_START = re.compile(
    r"^(?:There\s+(?P<verb>is|are|was|were)\s+no|No)\s+(?P<evidence>evidence\s+of\s+)?(?P<finding>\w.*)", re.DOTALL
)
_WITHOUT = re.compile(r"\bwithout\s+(?:any\s+)?(?:evidence\s+of\s+)?(?=\w)", re.IGNORECASE)
_IS_NOT = re.compile(r"\b(?P<verb>is|are|was|were|does|do|did|has|have)\s+not\s+(?=\w)", re.IGNORECASE)
_NO_OF_ANOTHER_KIND = re.compile(
    r"\b(?:no|not|without)\s+(?:longer|only|other|further|more|less|significant\w*|interval|change\w*|definite\w*|obvious\w*|clear\w*"
    r"|doubt|convincing|yet|necessarily|always|all|well|contrast|complications?|enhanc\w+|difference|specific)\b",
    re.IGNORECASE,
)


def negation_removed(sentence: str, text: str) -> Iterator[str]:
    """What is denied is there: the only denial of a sentence is taken away."""
    if len(words.NEGATIONS.findall(sentence)) != 1 or words.DOUBTS.search(re.sub(r"\bor\b", "", sentence)):
        return
    if _NO_OF_ANOTHER_KIND.search(sentence):
        return
    if match := _NO_AT_START.match(sentence):
        if re.search(
            r"\b(?:is|are|was|were|has|have|seen|identified|noted|demonstrated|detected|visible|found)\b",
            match["finding"],
        ):
            yield match["finding"][0].upper() + match["finding"][1:]  # "No effusion is seen."
        else:
            verb = match["verb"] or "is"
            yield f"There {verb} {match['evidence'] or ''}{match['finding']}"
    elif match := _WITHOUT.search(sentence):
        yield sentence[: match.start()] + "with " + sentence[match.end() :]
    elif (match := _IS_NOT.search(sentence)) and match["verb"].casefold() in ("is", "are", "was", "were"):
        yield sentence[: match.start()] + match["verb"] + " " + sentence[match.end() :]


_EXISTENCE = re.compile(
    r"\b(?P<there>there\s+(?:is|are|was|were))\s+(?:(?:a|an|some|also(?:\s+an?)?)\s+)?(?=\w)", re.IGNORECASE
)
_IS_SEEN = re.compile(
    r"\b(?P<verb>is|are|was|were)\s+(?=(?:also\s+)?(?:seen|noted|identified|present|visible|visualized|demonstrated|detected|observed|found)\b)",
    re.IGNORECASE,
)
_SHOWS = re.compile(
    r"\b(?P<verb>shows?|showed|showing|demonstrat(?:es?|ed|ing)|reveal(?:s|ed|ing)?)\s+(?:(?:an?|some)\s+)?(?=[a-z])"
)


def negation_added(sentence: str, text: str) -> Iterator[str]:
    """What is there is denied."""
    if not _is_plain_finding(sentence):
        return
    if match := _EXISTENCE.search(sentence):
        yield f"{sentence[: match.start()]}{match['there']} no {sentence[match.end() :]}"
    elif match := _IS_SEEN.search(sentence):
        yield f"{sentence[: match.start()]}{match['verb']} not {sentence[match.end() :]}"
    elif (match := _SHOWS.search(sentence)) and not re.match(
        r"(?:the|that|how|these|this|all|both)\b", sentence[match.end() :]
    ):
        yield f"{sentence[: match.start()]}{match['verb']} no {sentence[match.end() :]}"


def inserted(sentence: str, text: str) -> Iterator[str]:
    """A finding of the chest behind a sentence about what is there, of which the text says nothing."""
    if not words.CHEST.search(text) or not _is_plain_finding(sentence):
        return
    match = re.fullmatch(r"(?P<body>There\s+(?:is|are)\s[^,;:()]+?)(?P<stop>\.?)", sentence, re.IGNORECASE)
    if match is None or " and " in match["body"]:
        return
    for finding, mentions in words.CHEST_FINDINGS:
        if not re.search(mentions, text, re.IGNORECASE):
            yield f"{match['body']} and {finding}{match['stop']}"


def dropped(sentence: str, text: str) -> Iterator[str]:
    """The last of two findings left out of "There is X and Y" or "... shows X and Y", where Y is not named again."""
    match = re.fullmatch(
        r"(?P<body>(?:There\s+(?:is|are)|[^,;:()]*?\b(?:shows?|showed|demonstrates?|demonstrated|reveals?|revealed))\s[^,;:()]+?)\s+and\s+"
        r"(?P<last>(?:an?\s+|the\s+)?[^,;:()\d]+?)(?P<stop>\.?)",
        sentence,
        re.IGNORECASE,
    )
    if match is None or not _is_plain_finding(sentence) or " and " in match["last"] or " between " in match["body"]:
        return
    last = re.findall(r"\w{4,}", match["last"].casefold())
    remaining_text = text.replace(sentence, " ", 1).casefold()
    # "left and right lungs", "size and shape of the mass": what follows "and" belongs to both.
    if (
        len(last) < 1
        or len(match["body"].split()) < 4
        or re.search(r"\b(?:left|right|upper|lower|of|in|at|with|is|are)\b", match["last"])
    ):
        return
    if any(word in remaining_text for word in last) or re.search(r"\b(?:in|of|at|on)\s+(?:the\s+)?\w+$", match["body"]):
        return
    yield match["body"] + match["stop"]


def _replaced(sentence: str, match: re.Match[str], partners: dict[str, str]) -> str:
    """The word's partner in its place, in the word's case."""
    word = match["word"]
    partner = partners[word.casefold()]
    if word.isupper() and len(word) > 1:
        partner = partner.upper()
    elif word[0].isupper():
        partner = partner.capitalize()
    return sentence[: match.start("word")] + partner + sentence[match.end("word") :]


def _with_article(sentence: str) -> str:
    """ "a" and "an" as the next word wants them, for the words of our lists."""
    sentence = re.sub(
        r"\b([Aa])n (?=(?:chronic|severe|decreas|small|large|minimal|marked|malignant|benign|splenic|pancreatic)\w*)",
        r"\1 ",
        sentence,
    )
    return re.sub(r"\b([Aa]) (?=(?:acute|extensive|increas|improved|occipital|ulna|upper)\w*)", r"\1n ", sentence)


KINDS: dict[str, Callable[[str, str], Iterator[str]]] = {
    "side": side,
    "negation_removed": negation_removed,
    "negation_added": negation_added,
    "severity": severity,
    "number": number,
    "unit": unit,
    "organ": organ,
    "inserted": inserted,
    "dropped": dropped,
}
"""Kind of error → the rule that finds it: (sentence, whole text) → the sentence with the error."""
