"""The yes or no of a reply."""

import re
from functools import lru_cache
from typing import Any

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
from medvlp.eval.answers.patterns.languages import NO_WORD, YES_WORD, Language, holds, language_of
from medvlp.eval.answers.refusals import refuses
from medvlp.eval.answers.statements import Contradiction, stated

LEAD, LONE, ECHO = "leading word", "lone word", "question restated"
_WORD = re.compile(
    r"(?<![\w-])(?<!\w')(?<!\bnot )(yes|no|true|false|affirmative|negative|yep|yeah|nope)(?![\w-]|['’]\w)",
    re.IGNORECASE,
)
_REACH = 200
"""Characters behind a "no" that are looked at for the noun that it denies."""
_YES = ("yes", "true", "affirmative", "yep", "yeah")
_NO_DOUBT = re.compile(r"\b(?:there\s+is\s+)?(?:no|without(?:\s+a)?)\s+(?:doubt|question)\b(?:\s+that)?", re.IGNORECASE)
_PART = re.compile(
    r"[,;:、]|\b(?:but|and|while|whereas|however|although|pero|mais|aber|mas|ma)\b|而|지만|(?<=[가-힣])고\s",
    re.IGNORECASE,
)
_HAN_VERB = re.compile("(?P<denial>不|没有|没|未|无需)?(?P<verb>[\u4e00-\u9fff]{1,4})(?=[,.;!。]|\\s*$)")
_ALTERNATIVES = re.compile(r"有没有|有沒有|有无|是不是|是否|能否")
"""A question that asks for both sides in its words, and denies nothing."""
_NOT_THERE = re.compile(
    r"\b(?:no|absent|absence|none|negative|unremarkable|unlikely|excluded|ruled\s+out|doubtful|(?:not|never|n't)\s+(?:\w+\s+){0,2}?(?:seen|present|visible|visuali[sz]ed|"
    r"evident|identified|found|noted|observed|detected|shown|appreciated|demonstrated|there|apparent|recogni[sz]ed|in\s+this))\b",
    re.IGNORECASE,
)
"""Behind what was asked about: that it is not there. "The effusion is not small" is no such denial."""
_WORDS_OF_BOTH = re.compile(
    r"\byes\s*(?:/|or|and|&|\|)?\s*no\b|\byes\s*[,.;]\s*no\b(?!\s+\w)|\bno\s*(?:/|or|and|&|\|)\s*yes\b", re.IGNORECASE
)
_PRONOUN = r"(?:it|there|the|this|that|these|they|he|she|i|we|because|since|as|not|evidence\s+of\s+that)\b"


@lru_cache(maxsize=2**14)
def extract_yes_no(reply: str, question: str = "") -> Extraction:
    """ "yes" or "no".

    In this order: a statement (`stated`: "The answer: yes"); a yes or no that begins the reply; a last line that is one; the only
    one in the reply. "no" before a noun ("no effusion") is an answer only where the noun is in the question: it denies what was
    asked. Last, a sentence that restates all of the question, or denies it. "yes and no", and a yes next to a no, are no answer.

    question: as it was asked; empty: nothing is restated, and "no effusion" counts as a no.
    """
    return first_answer(reply, lambda cleaned: _extract(cleaned, question))


def _extract(cleaned: Reply, question: str) -> Extraction:
    text = cleaned.text
    try:
        if re.fullmatch(r"\W*[yn]\W*", text, re.IGNORECASE):
            return cleaned.extraction("yes" if "y" in text.casefold() else "no", Span(0, len(text), ENTIRE))
        if (statement := stated(cleaned, lambda content: _read(content, question), _value)) is not None:
            return statement
        if lead := _lead(text, question):
            answer, end = lead
            last = next(cleaned.lines())
            opposite = _alone(text[last.start : last.end])
            if opposite and opposite != answer and last.start >= end:
                raise Contradiction
            if answer == "yes" and _says(re.split(r"[.!?。\n]", text[end:])[0], question) == "no":
                raise Contradiction  # "Yes, there is no effusion."
            start = len(text) - len(text.lstrip())
            return cleaned.extraction(answer, Span(start, end, ENTIRE if not text[end:].strip(" .!\n") else LEAD))
        if refuses(text):
            return Extraction(None, REFUSAL)
        line = next(cleaned.lines(), None)
        if line and (word := _alone(text[line.start : line.end])):
            return cleaned.extraction(word, line)
        words = [match for match in _WORD.finditer(text) if not _is_determiner(text, match, question)]
        answers = {_of_word(match[1]) for match in words}
        if len(answers) > 1:
            raise Contradiction
        if words:
            return cleaned.extraction(answers.pop(), Span(*words[0].span(1), LONE))
    except Contradiction:
        return Extraction(None, CONTRADICTION)
    return _restated(cleaned, question) or Extraction(None, NOTHING)


def _of_word(word: str) -> str:
    return "yes" if word.casefold() in _YES else "no"


def _value(value: Any) -> str | None:
    return ("yes" if value else "no") if isinstance(value, bool) else None


def _read(content: str, question: str) -> str | None:
    """The yes or no of a statement. Raises Contradiction."""
    if _WORDS_OF_BOTH.search(content):
        raise Contradiction
    if re.fullmatch(r"\W*[yn]\W*", content, re.IGNORECASE):
        return "yes" if "y" in content.casefold() else "no"
    if lead := _lead(content, question):
        return lead[0]
    first = re.split(r"[.!?](?:\s|$)", content)[0]
    answers = {_of_word(match[1]) for match in _WORD.finditer(first) if not _is_determiner(first, match, question)}
    if len(answers) > 1:
        raise Contradiction
    return next(iter(answers), None)


def _lead(text: str, question: str) -> tuple[str, int] | None:
    """The yes or no at the start, and where it ends. Raises Contradiction: both."""
    if _WORDS_OF_BOTH.match(text.lstrip(" \n\"'(*-")):
        raise Contradiction
    match = re.match(r"\W*", text)
    start = match.end() if match else 0
    word = _WORD.match(text, start)
    if word and not _is_determiner(text, word, question):
        return _of_word(word[1]), word.end()
    for answer, pattern in (("yes", YES_WORD), ("no", NO_WORD)):
        if other_word := pattern.match(text, start):
            return answer, other_word.end()
    verb = _HAN_VERB.match(text, start)  # "需要。", "不需要。" to "需要手术吗?"
    if verb and verb["verb"] in question and not language_of(question).hedge.search(verb.group()):
        return ("no" if verb["denial"] else "yes"), verb.end()
    return None


def _is_determiner(text: str, word: re.Match[str], question: str) -> bool:
    """Whether "no" denies a noun that was not asked about, as in "no acute findings"."""
    if word[1].casefold() not in ("no", "negative", "true", "false"):
        return False
    if _NO_DOUBT.match(text, word.start()):
        return True
    tail = text[word.end() : word.end() + _REACH]
    if word[1].casefold() != "no":
        return bool(re.match(r"\s+(?:for|[a-z]{3,})", tail)) and not re.match(rf"\s+{_PRONOUN}", tail, re.IGNORECASE)
    if not re.match(r"\s+\w", tail) or re.match(rf"\s+{_PRONOUN}", tail, re.IGNORECASE):
        return False
    if not question:
        return False
    language = language_of(question)
    if language.hedge.match(text, word.start()):  # "no change in the mass"
        return True
    if language.denial.search(_ALTERNATIVES.sub("", question)):  # "Is there no mass?" - "There is no mass."
        return True
    nouns = language.keys(re.split(r"[.,;!?\n]", tail)[0])
    return not nouns & language.keys(question)


def _alone(line: str) -> str | None:
    """The yes or no that a line is, but for words that conclude."""
    match = re.fullmatch(
        r"\W*(?:(?:so|thus|therefore|hence|in conclusion|overall|finally|conclusion|my|the|answer|is|it)\b\W*)*"
        r"(yes|no|true|false)\W*",
        line,
        re.IGNORECASE,
    )
    if match:
        return _of_word(match[1])
    bare = line.strip(" \t.。!\"'()*")
    return next((a for a, pattern in (("yes", YES_WORD), ("no", NO_WORD)) if bare and pattern.fullmatch(bare)), None)


def _restated(cleaned: Reply, question: str) -> Extraction | None:
    """A sentence that holds every word of a question that asks for yes or no, without doubt: yes, or no where it denies."""
    answers: dict[str, Span] = {}
    for match in re.finditer(r"[^.!?。\n]+", cleaned.text):
        if cleaned.text[match.end() : match.end() + 1] == "?":
            continue
        if answer := _says(match.group(), question):
            answers.setdefault(answer, Span(match.start(), match.end(), ECHO))
    if len(answers) != 1:
        return None
    [(answer, span)] = answers.items()
    return cleaned.extraction(answer, span)


def _says(sentence: str, question: str) -> str | None:
    """The yes or no of a sentence that restates all of the question, or denies it; None where it does neither, or doubts.

    Where a part of the sentence holds all of the question, a denial in another one counts for nothing: "no mass, but a cyst".
    """
    language = language_of(question)
    keys = language.keys(question) if language.is_question(question) else set()
    sentence = _NO_DOUBT.sub("", sentence)
    words = language.keys(sentence)
    opposites = _opposites(keys, words)
    if not keys or not (holds(words, keys) or opposites) or language.hedge.search(sentence):
        return None
    part = next((part for part in _PART.split(sentence) if holds(language.keys(part), keys)), sentence)
    is_denied = _denies(part, keys, language) != bool(language.denial.search(_ALTERNATIVES.sub("", question)))
    return "no" if is_denied != opposites else "yes"


def _denies(part: str, keys: set[str], language: Language) -> bool:
    """Whether a part of a sentence denies what it holds: before it, or behind it with a verb of seeing."""
    if language.is_suffixed:
        return language.denial.search(part) is not None
    ends = [
        word.end()
        for word in re.finditer(r"[\w'-]+", part)
        if any(holds(language.keys(word.group()), {key}) for key in keys)
    ]
    end = max(ends, default=len(part))
    return bool(language.denial.search(part[:end]) or _NOT_THERE.search(part[end:]))


def _opposites(keys: set[str], words: set[str]) -> bool:
    """Whether a sentence says "abnormal" of all that was asked to be "normal", or the reverse."""
    for word, opposite in (("normal", "abnormal"), ("abnormal", "normal")):
        if word in keys and word not in words and opposite in words and keys - {word} <= words:
            return True
    return False
