"""What a reply says of a text with numbered sentences: correct, or the sentence with the error and its correction."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from medvlp.eval.answers.extraction import (
    CONTRADICTION,
    ENTIRE,
    NOTHING,
    REFUSAL,
    Extraction,
    Reply,
    Span,
    first_answer,
)
from medvlp.eval.answers.refusals import refuses
from medvlp.eval.answers.statements import JSON, Contradiction, stated

LABELS, LINE, OPENING = "labelled lines", "only line", "first sentence"
Sentences = Mapping[int, str]
"""Number → sentence."""


class Verdict(NamedTuple):
    """has_error: whether the text is said to have one. sentence: its number; None where none is named. correction: the
    sentence as it should be; empty where none is given."""

    has_error: bool
    sentence: int | None = None
    correction: str = ""


CORRECT = Verdict(False)

_CORRECT = re.compile(
    r"correct|(?:the\s+|this\s+)?(?:clinical\s+)?(?:text|note|report|passage|narrative|caption)\s+is\s+(?:entirely\s+|medically\s+)?correct"
    r"|(?:all(?:\s+of)?(?:\s+the)?\s+sentences\s+are|every\s+sentence\s+is)\s+correct"
    r"|no|none|no,?\s+(?:there\s+(?:is|are)\s+)?no\s+(?:medical\s+)?errors?"
    r"|(?:there\s+(?:is|are)\s+)?no\s+(?:medical\s+)?errors?(?:\s+(?:(?:was|were)\s+)?(?:found|detected|present))?"
    r"(?:\s+in\s+(?:the|this)\s+(?:clinical\s+)?(?:text|note|report|passage|narrative))?"
    r"|(?:no,?\s+)?(?:the|this)\s+(?:clinical\s+)?(?:text|note|report)\s+(?:does\s+not|doesn't)\s+contain\s+(?:a|any)\s+(?:medical\s+)?errors?",
    re.IGNORECASE,
)
_INCORRECT = re.compile(
    r"yes|incorrect|(?:yes,?\s+)?there\s+is\s+an?\s+(?:medical\s+)?error"
    r"|(?:the\s+|this\s+)?(?:clinical\s+)?(?:text|note|report|passage|narrative|caption)\s+is\s+(?:incorrect|not\s+correct|wrong)",
    re.IGNORECASE,
)
_ONLY_SENTENCE = re.compile(r"\b(?:the|this)\s+sentence\s+is\b", re.IGNORECASE)
"""Of a text with one sentence: the text itself."""
_RUN_LINE = re.compile(
    r"(?:(?P<text_id>[a-z][a-z0-9]*(?:-[a-z0-9]+)+)\s+)?(?P<flag>[01])\s+(?P<sentence>-?\d+)\s+(?P<correction>\S.*)",
)
"""MEDIQA-CORR's line of a submission: text id, flag, sentence id or -1, correction or NA."""
_SENTENCE_LINE = re.compile(
    r"(?:[-•]\s*)?(?:(?:(?:error\s+)?(?:in\s+)?(?:sentence|line)\s*(?:id|number|no\.?|#)?\s*[:#]?\s*(?P<named>\d{1,4})\s*[.)|:\-]\s*)"
    r"|(?P<bare>\d{1,4})(?:\s*[.)|:\-](?=[\s\"])\s*|\s+(?=\S)))(?P<correction>\S.*)",
    re.IGNORECASE,
)
"""The form that MEDEC's prompt asks for: a sentence's number, and the sentence corrected."""
_NUMBER_ALONE = re.compile(
    r"(?:(?:sentence|line)\s*(?:id|number|no\.?|#)?\s*[:#]?\s*)?(?P<sentence>-?\d{1,4})", re.IGNORECASE
)
_LABELLED = re.compile(
    r"(?m)^[\s>•\-\d.)(\"]*(?P<label>[A-Za-z][A-Za-z _]{1,40}?)\"?\s*[:=]\s*\"?(?P<value>[^\n]*?)\"?\s*,?\s*$"
)
_KEYS = {
    "flag": {"errorflag", "flag", "error", "haserror", "containserror", "errordetected", "errorpresent", "iserror"},
    "is_correct": {"correct", "iscorrect", "textcorrect"},
    "sentence": {
        *("errorsentenceid", "sentenceid", "sentencenumber", "errorsentence", "sentence", "line", "linenumber"),
        *("errorid", "errorsentencenumber", "incorrectsentenceid", "id"),
    },
    "correction": {
        "correctedsentence",
        "correction",
        "corrected",
        "correctsentence",
        "fixedsentence",
        "rewrittensentence",
    },
}
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an the this that these there it its he she his her they of in on at to from by for with without and or but is are was
        were be been has have had do does did not no error errors text sentence sentences patient""",
    )
)
_YES, _NO = {"1", "yes", "true", "error"}, {"0", "no", "false", "none", "correct"}
_BLANK = {"", "na", "n/a", "none", "null", "-1"}


def read_verdict(reply: str, sentences: Sentences) -> Extraction:
    """The `Verdict` of a reply, its `answer`; None where it cannot be told.

    In this order: all of the reply in one of the forms below; its first sentence, where that is about a text's only sentence; a
    statement (`stated`); a JSON object; labelled lines ("Sentence
    ID: 8"); the only line in one of the forms. The forms are "CORRECT", a sentence's number with the sentence corrected (MEDEC's
    prompt, Ben Abacha et al. 2024), and a submission's line of MEDIQA-CORR ("ms-test-3 1 8 Give ..."). A line that repeats a
    sentence of the text as it stands says nothing. "1 8 Give ..." could be sentence 1 or a flag and sentence 8; where the text
    does not tell, it is neither.

    sentences: the text's own, by number.
    """
    return first_answer(reply, lambda cleaned: _extract(cleaned, sentences))


def _extract(cleaned: Reply, sentences: Sentences) -> Extraction:
    text = cleaned.text.strip()
    try:
        if "\n" not in text and (verdict := _read(text, sentences)) is not None:
            return cleaned.extraction(verdict, Span(0, len(cleaned.text), ENTIRE))
        if (opening := _opening(cleaned.text, sentences)) is not None:
            return cleaned.extraction(opening[0], opening[1])
        statement = stated(cleaned, lambda content: _read(content.strip().split("\n")[0], sentences))
        if statement is not None:
            return statement
        for span, pairs in _objects(cleaned.text):
            if (verdict := _of_pairs(pairs, sentences)) is not None:
                return cleaned.extraction(verdict, Span(*span, JSON))
        labelled = list(_LABELLED.finditer(cleaned.text))
        if (verdict := _of_pairs({match["label"]: match["value"] for match in labelled}, sentences)) is not None:
            return cleaned.extraction(verdict, Span(labelled[0].start(), labelled[-1].end(), LABELS))
        if refuses(text):
            return Extraction(None, REFUSAL)
        verdicts = [(verdict, span) for span in cleaned.lines() if (verdict := _of_line(cleaned, span, sentences))]
    except Contradiction:
        return Extraction(None, CONTRADICTION)
    if len({verdict for verdict, _ in verdicts}) > 1:
        return Extraction(None, CONTRADICTION)
    return (
        cleaned.extraction(verdicts[0][0], verdicts[0][1]._replace(rule=LINE))
        if verdicts
        else Extraction(None, NOTHING)
    )


def _opening(text: str, sentences: Sentences) -> tuple[Verdict, Span] | None:
    """What the first sentence of a reply says of the only sentence of a text: "The sentence is incorrect. It should ..."."""
    match = re.match(r"\s*(?:the|this)\s+sentence\s+is\s+[^.!:\n]*[.!](?=\s|$)", text, re.IGNORECASE)
    verdict = _read(match[0].strip(), sentences) if match and len(sentences) == 1 else None
    return (verdict, Span(match.start(), match.end(), OPENING)) if match and verdict is not None else None


def _of_line(cleaned: Reply, span: Span, sentences: Sentences) -> Verdict | None:
    """What one of several lines says; a repeated sentence nothing, and neither "yes" alone. Raises Contradiction."""
    line = cleaned.text[span.start : span.end].strip()
    words = re.findall(r"\w+", line.casefold())
    if any(words == [str(number), *re.findall(r"\w+", sentence.casefold())] for number, sentence in sentences.items()):
        return None
    verdict = _read(line, sentences)
    return None if verdict is not None and verdict.has_error and verdict.sentence is None else verdict


def _read(line: str, sentences: Sentences) -> Verdict | None:
    """A line in one of the forms. Raises Contradiction for one that has two readings."""
    bare = line.strip(" \t\"'.!")
    if len(sentences) == 1:
        bare = _ONLY_SENTENCE.sub("the text is", bare)
    if _CORRECT.fullmatch(bare):
        return CORRECT
    if _INCORRECT.fullmatch(bare):
        return Verdict(True)
    if match := _NUMBER_ALONE.fullmatch(bare):
        return _of_number(match)
    run = _RUN_LINE.fullmatch(line)
    as_run = _of_run(run) if run else None
    match = _SENTENCE_LINE.fullmatch(line)
    as_sentence = _of_sentence(match, sentences) if match else None
    if run is not None and run["text_id"]:
        return as_run
    if as_run is not None and as_sentence is not None and as_run != as_sentence:
        if as_run == CORRECT and not sentences.get(as_sentence.sentence or 0, "").startswith("-1"):
            return as_run
        is_own_start = sentences.get(as_sentence.sentence or 0, "").startswith(as_sentence.correction.split()[0])
        if is_own_start and as_run.sentence not in sentences:
            return as_sentence
        raise Contradiction
    return as_run or as_sentence


def _of_number(match: re.Match[str]) -> Verdict:
    """A number alone: -1 is no sentence; 0 and 1 without a word before them could be flags."""
    number = int(match["sentence"])
    if number in (0, 1) and match.group() == match["sentence"]:
        raise Contradiction
    return CORRECT if number < 0 else Verdict(True, number)


def _of_run(match: re.Match[str]) -> Verdict | None:
    number, correction = int(match["sentence"]), _correction(match["correction"])
    if match["flag"] == "0":
        return CORRECT if number < 0 or not correction else None
    return Verdict(True, number if number >= 0 else None, correction)


def _of_sentence(match: re.Match[str], sentences: Sentences) -> Verdict | None:
    """A number with a text that has a word of content in common with the sentence of this number: "2 errors are here" has
    none."""
    number, correction = int(match["named"] or match["bare"]), _correction(match["correction"])
    if number not in sentences:
        return None
    if correction and not (_words(correction) & _words(sentences[number])) - _FUNCTION_WORDS:
        return None
    return Verdict(True, number, correction)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold()))


def _correction(text: str) -> str:
    """A correction without the quotes around it; empty for NA."""
    text = text.strip()
    while len(text) > 1 and text[0] == '"':
        text = text[1:]
    while len(text) > 1 and text[-1] == '"':
        text = text[:-1]
    return "" if text.strip().casefold() in _BLANK else text.strip()


def _objects(text: str) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """JSON objects of a text, the last one first."""
    decoder = json.JSONDecoder(parse_constant=str)
    objects: list[tuple[tuple[int, int], dict[str, Any]]] = []
    position = text.find("{")
    while position >= 0 and len(objects) < 64:
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            value, end = None, position + 1
        if isinstance(value, dict):
            objects.append(((position, end), value))
        position = text.find("{", end)
    return reversed(objects)


def _of_pairs(pairs: Mapping[str, Any], sentences: Sentences) -> Verdict | None:
    """Keys and values of an object, or labels of lines. Raises Contradiction for a flag that denies the correction."""
    values: dict[str, str] = {}
    for key, value in pairs.items():
        plain = re.sub(r"[\W_]", "", key).casefold()
        name = next((name for name, keys in _KEYS.items() if plain in keys), None)
        if name and not isinstance(value, dict | list):
            values[name] = str(value).strip()
    number = _number_of(values.get("sentence", ""), sentences)
    correction = _correction(values.get("correction", ""))
    flag = _flag(values.get("flag", ""))
    is_correct = _flag(values.get("is_correct", ""))
    if flag is None and is_correct is not None:
        flag = not is_correct
    if flag is None and number is not None:
        flag = number >= 0
    if flag is None:
        is_empty = "sentence" in values and not correction and values["sentence"].casefold() in _BLANK
        return CORRECT if is_empty else None
    number = number if number is not None and number >= 0 else None
    if not flag and number is not None and correction:
        raise Contradiction
    return Verdict(True, number, correction) if flag else CORRECT


def _number_of(text: str, sentences: Sentences) -> int | None:
    """The sentence that a value names, by its number, by its own words, or by both."""
    if match := _NUMBER_ALONE.fullmatch(text):
        return int(match["sentence"])
    words = re.findall(r"\w+", text.casefold())
    matches = [
        number
        for number, sentence in sentences.items()
        if words and (tokens := re.findall(r"\w+", sentence.casefold())) and words in (tokens, [str(number), *tokens])
    ]
    return matches[0] if len(matches) == 1 else None


def _flag(text: str) -> bool | None:
    word = text.strip().casefold().rstrip(".")
    return True if word in _YES else False if word in _NO else None
