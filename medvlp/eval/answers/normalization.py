"""Texts as scores compare them: tokens after a normalisation that keeps what medicine needs, and a lone yes or no."""

import re
import unicodedata
from functools import lru_cache

_ARTICLES = ("a", "an", "the")
_DASH = re.compile("[\u2010-\u2015\u2212]")
_MARK = re.compile(r"[^\w\s]|_")
_NUMBER_MARK = re.compile(r"(?<=\d)[.,:/-](?=\d)|(?<!\w)-(?=\d)")
_JOINING_MARK = re.compile(r"(?<=\w)[-.'’](?=\w)")
_UNSPACED = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff])")
_YES_NO = re.compile(r"(?<![^\W_])(?:yes|no)(?![^\W_])")


@lru_cache(maxsize=2**16)  # a target is compared with many predictions, and the reverse
def normalize(text: str) -> str:
    """The tokens that scores compare, parted by single spaces: SQuAD's normalisation with what medicine needs kept.

    As SQuAD's (Rajpurkar 2016): case folded, punctuation and the articles a, an, the dropped. Beyond it: Unicode forms
    are unified (NFKC); marks that belong to a number stay (1.5, 3-4, 1/2, -2.5), so that 1.5 is not 15; hyphen, full
    stop and apostrophe join what they stand between (x-ray = xray) while other marks part it (left/right = left right);
    symbols such as + and < stay; an article stays where nothing follows it (hepatitis A); Chinese and Japanese
    characters are tokens of their own. A text of punctuation alone is its own token, so only blank text becomes "".
    """
    folded = _fold(text)
    words = _UNSPACED.sub(r" \1 ", _without_punctuation(folded)).split() or folded.split()
    return " ".join(word for number, word in enumerate(words, 1) if word not in _ARTICLES or number == len(words))


def _fold(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _DASH.sub("-", folded)


def _without_punctuation(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        mark, start = match.group(), match.start()
        is_symbol = unicodedata.category(mark)[0] != "P" and unicodedata.category(mark) != "Sk"
        if is_symbol or _NUMBER_MARK.match(text, start):
            return mark
        return "" if _JOINING_MARK.match(text, start) else " "

    return _MARK.sub(replace, text)


def tokens(text: str) -> list[str]:
    return normalize(text).split()


@lru_cache(maxsize=2**16)
def yes_no(text: str) -> str | None:
    """ "yes" or "no" where exactly one of the two occurs as a whole word; None where both do, or neither.

    "abnormal" and "noted" hold no "no"; "yes no" says nothing.
    """
    words = set(_YES_NO.findall(_fold(text)))
    return words.pop() if len(words) == 1 else None
