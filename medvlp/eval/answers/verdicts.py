"""Verdicts on options: "A) wrong, B) right", "A: ❌ B: ✅", "A错误，B正确", a mark on one, or all but one excluded."""

import re

from medvlp.eval.answers.extraction import Span
from medvlp.eval.answers.normalization import normalize
from medvlp.eval.answers.options import Options, any_label, label_list, label_of, read_whole, with_text

VERDICTS, MARKED, REMAINING = "verdict on each option", "marked option", "all others excluded"
_POINTER = r"<-{1,2}(?:[ \t]*(?:the[ \t]+)?(?:correct|right|answer|this)){0,2}"
_MARK = rf"(?:[✓✔✅☑←]|{_POINTER}|\((?:correct(?:\s+answer)?|right|answer)\))"
_TRUE_WORDS = r"correct|right|true|yes|✓|✔|✅|正确|正確|对|正しい|맞음|correcta|correcto|verdadero|verdadera"
_FALSE_WORDS = (
    r"(?:not\s+(?:the\s+)?(?:correct|right|true))|incorrect|wrong|false|no|✗|✘|❌|×|不正确|不正確|错误|錯誤|错|誤り|틀림|"
    r"incorrecta|incorrecto|falso|falsa"
)
_WORDS = frozenset(normalize(word) for word in ["correct", "right", "true", "yes", "incorrect", "wrong", "false", "no"])


def judged(text: str, options: Options, is_exception: bool = False) -> tuple[set[str], Span] | None:
    """The options that are called right, and where; None unless at least two are judged, each in one way.

    is_exception: the question asks for one that differs: of three or more verdicts, the only one of its kind.

    Each stands with its verdict at the start of a line, or behind a comma, a semicolon or the end of a sentence. Options whose
    own text is such a word ("yes", "true") are not judged by it.
    """
    if any(normalize(option) in _WORDS for option in options.values()):
        return None
    texts = "|".join(re.escape(option.strip()) for option in options.values() if option.strip())
    pattern = (
        rf"(?:^|(?<=[\n,;.，；。])|(?<=[✗✘❌✓✔✅]\s))[ \t>•*-]{{0,8}}"
        rf"(?:option\s|choice\s)?[ \t]{{0,4}}[(\[]?({any_label(options)})(?![A-Za-z0-9])"
        rf"(?:选项|選項)?[.):\]]{{0,3}}[ \t]{{0,4}}(?:{texts})?[ \t]{{0,4}}[-:=(,]?[ \t]{{0,4}}(?:is\s+|es\s+|是)?(?:the\s+)?"
        rf"(?:(?P<wrong>{_FALSE_WORDS})|(?P<right>{_TRUE_WORDS}))(?![A-Za-z])"
    )
    verdicts: dict[str, bool] = {}
    start = end = 0
    for match in re.finditer(pattern, text, re.IGNORECASE):
        label, is_right = label_of(match[1], options), match["right"] is not None
        if verdicts.setdefault(label, is_right) != is_right:
            return None
        start, end = (match.start() if len(verdicts) == 1 and not end else start), match.end()
    if len(verdicts) < 2:
        return None
    sides = {side: {label for label, is_right in verdicts.items() if is_right == side} for side in (True, False)}
    labels = sides[True]
    if is_exception:
        labels = next((side for side in sides.values() if len(side) == 1 and len(verdicts) > 2), set())
    return labels, Span(start, end, VERDICTS)


_TOTALITY = re.compile(
    r"(?:^|(?<=[.!?\n]\s)|(?<=\n))\W*all\s+(?:of\s+)?(?:the\s+|these\s+)?(?:(?:above|given|listed|following|other|four|five|options|choices|answers|"
    r"statements|them|these)\s+){0,3}(?:(?:except|but|other\s+than)\s+(?:for\s+)?(?P<excepted>[^.\n]{1,40}?)\s+)?(?:are|is)\s+(?:correct|true|right)\b",
    re.IGNORECASE,
)


def remaining(
    text: str, options: Options, multiple: bool = False, is_exception: bool = False
) -> tuple[set[str], Span] | None:
    """The one option that a mark sets off ("B. effusion ✓", "[x] B"), or that is left: "all options but B can be ruled out".

    multiple: several may be right; "all of them are correct" and "all but B are correct" are read then.
    """
    if multiple and not is_exception and (all_right := _TOTALITY.search(text)):
        excepted = label_list(all_right["excepted"] or "", options) or read_whole(all_right["excepted"] or "", options)
        if excepted or not all_right["excepted"]:
            return set(options) - excepted, Span(*all_right.span(), REMAINING)
    label = any_label(options)
    texts = "|".join(re.escape(option.strip()) for option in options.values() if option.strip()) or "(?!)"
    pattern = (
        rf"(?m)^[ \t>•*-]{{0,8}}(?:\[[xX✓✔]\]|[✅✔✓☑])[ \t]*\(?({label})(?:[.):][ \t]|[ \t]*$)|"
        rf"^[ \t>•*-]{{0,8}}\(?({label})[.):][^\n]{{0,160}}?[ \t]{_MARK}[ \t]*$"
    )
    marks = list(re.finditer(pattern, text))
    labels = {label_of(mark[1] or mark[2], options) for mark in marks}
    if len(labels) == 1 and not is_exception:
        return labels, Span(marks[0].start(), marks[0].end(), MARKED)
    exception = re.search(
        r"\ball\s+(?:of\s+)?(?:the\s+)?(?:(?:other|remaining|given|above|options?|choices|answers|others|these|of\s+them)\s+)"
        r"{0,3}"
        rf"(?:but|except(?:\s+for)?|other\s+than|besides|apart\s+from)\s+(?:(?:option|choice)\s+)?\(?(?:({label})|({texts}))\)?\s+"
        r"(?:can|could|are|is|have|has|should|may|do)\b[^.\n]{0,40}\b(?:ruled\s+out|excluded|eliminated|discarded|incorrect|wrong|false|inconsistent)",
        text,
        re.IGNORECASE,
    )
    if exception is None or is_exception:
        return None
    if exception[1]:
        return {label_of(exception[1], options)}, Span(*exception.span(1), REMAINING)
    return with_text(exception[2], options), Span(*exception.span(2), REMAINING)
