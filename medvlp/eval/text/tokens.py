"""Tokens of written text, as its metrics compare them: four ways to cut a text, named in the protocol."""

import re
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from medvlp.config.evaluation.written_text import TOKENIZATIONS

_LETTER, _DIGIT, _CHARACTER, _SYMBOL, _HYPHEN, _POINT = "wdcs-."
_WORD = re.compile(r"c|(?:(?<![wdc])-(?=d))?[wd]+(?:-[wd]+|(?<=d)\.(?=d)[wd]+)*|s")
"""A token, over the kinds of a text's characters."""
_FOLDED = str.maketrans("\u2010\u2011\u2212\u2019\u2012\u2013", "---'--")
"""Hyphens, minus signs, apostrophes and dashes of numbers, each as its plain form."""
_JOINERS = dict.fromkeys("-'", _HYPHEN) | dict.fromkeys(".,:/", _POINT)


_SOUTH_EAST = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F))
"""Thai and Lao, Burmese, Khmer, Burmese again: words stand without spaces, phrases with."""


def _words(text: str) -> list[str]:
    text = unicodedata.normalize("NFKC", text).lower().translate(_FOLDED)
    return [text[match.start() : match.end()] for match in _WORD.finditer("".join(map(_kind, text)))]


@lru_cache(maxsize=2**16)
def _kind(character: str) -> str:
    """Of a script without spaces a token of its own, else letter, digit, symbol, what joins words, what joins digits, or none."""
    if character in _JOINERS:
        return _JOINERS[character]
    if _is_unspaced(ord(character)):
        return _CHARACTER
    category = unicodedata.category(character)[0]
    if category in "LM" and any(first <= ord(character) <= last for first, last in _SOUTH_EAST):
        return _CHARACTER
    if character == "%" or category == "S":
        return _SYMBOL
    return {"L": _LETTER, "M": _LETTER, "N": _DIGIT}.get(category, " ")


def _is_unspaced(code: int) -> bool:
    """Whether it is of the Japanese syllabaries or a Chinese character: scripts that put no spaces between words."""
    return (
        0x3040 <= code <= 0x30FF or 0x3400 <= code <= 0x4DBF or 0x4E00 <= code <= 0x9FFF or 0x20000 <= code <= 0x323AF
    )


def _characters(text: str) -> list[str]:
    return [character for character in unicodedata.normalize("NFKC", text).lower() if not character.isspace()]


def _13a(text: str) -> list[str]:
    return list(_mteval()(text.rstrip()).split())


@cache
def _mteval() -> Any:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a  # here: only tasks that ask for it need it

    return Tokenizer13a()


_TOKENIZERS: dict[str, Callable[[str], list[str]]] = {
    "words": _words,
    "13a": _13a,
    "whitespace": str.split,
    "characters": _characters,
}
assert tuple(_TOKENIZERS) == TOKENIZATIONS

DESCRIPTIONS = {
    "words": "words in lower case after NFKC, without punctuation (as evaluations of COCO captions cut texts, by rules of our "
    "own): hyphen and apostrophe join letters, marks between digits stay (1.5, 3/4), symbols and % are tokens; Chinese, "
    "Japanese, Thai, Lao, Khmer and Burmese by character",
    "13a": "sacrebleu's 13a, case and punctuation kept",
    "whitespace": "as the texts stand, cut at whitespace",
    "characters": "every character but whitespace, in lower case after NFKC",
}


def tokens(text: str, tokenization: str) -> list[str]:
    """A text's tokens; none of a blank one. tokenization: of `TOKENIZATIONS`."""
    return _TOKENIZERS[tokenization](text)
