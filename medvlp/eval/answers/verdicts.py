"""A verdict on each option: "A) wrong, B) right", "A: ❌ B: ✅", "A错误，B正确"."""

import re

from medvlp.eval.answers.extraction import Span
from medvlp.eval.answers.normalization import normalize
from medvlp.eval.answers.options import Options, any_label, label_of

VERDICTS = "verdict on each option"
_TRUE_WORDS = r"correct|right|true|yes|✓|✔|✅|正确|正確|对|正しい|맞음|correcta|correcto|verdadero|verdadera"
_FALSE_WORDS = (
    r"(?:not\s+(?:the\s+)?(?:correct|right|true))|incorrect|wrong|false|no|✗|✘|❌|×|不正确|不正確|错误|錯誤|错|誤り|틀림|"
    r"incorrecta|incorrecto|falso|falsa"
)
_WORDS = frozenset(normalize(word) for word in ["correct", "right", "true", "yes", "incorrect", "wrong", "false", "no"])


def judged(text: str, options: Options) -> tuple[set[str], Span] | None:
    """The options that are called right, and where; None unless at least two are judged, each in one way.

    Each stands with its verdict at the start of a line, or behind a comma, a semicolon or the end of a sentence. Options whose
    own text is such a word ("yes", "true") are not judged by it.
    """
    if any(normalize(option) in _WORDS for option in options.values()):
        return None
    texts = "|".join(re.escape(option.strip()) for option in options.values() if option.strip())
    pattern = (
        rf"(?:^|(?<=[\n,;.，；。]))[ \t>•*-]{{0,8}}(?:option\s|choice\s)?[ \t]{{0,4}}[(\[]?({any_label(options)})(?![A-Za-z0-9])"
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
    return {label for label, is_right in verdicts.items() if is_right}, Span(start, end, VERDICTS)
