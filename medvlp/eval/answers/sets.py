"""The items of a reply that lists them."""

import re
from functools import lru_cache
from typing import Any

from medvlp.eval.answers.extraction import ENTIRE, NOTHING, REFUSAL, Extraction, Reply, Span, first_answer
from medvlp.eval.answers.normalization import normalize
from medvlp.eval.answers.refusals import refuses
from medvlp.eval.answers.statements import stated

EMPTY_WORDS = frozenset(
    normalize(text)
    for text in (
        "none",
        "no findings",
        "no finding",
        "nothing",
        "there are none",
        "there is none",
        "no abnormality",
        "no abnormalities",
        "n/a",
        "none of the above",
    )
)
"""Texts that stand for the empty set."""
_NOTHING = re.compile(
    r"(?:there\s+(?:are|is|were|was)\s+)?(?:no|none\s+of|not\s+any)\b[^,;\n]*\b(?:abnormal\w*|findings?|lesions?|diseases?|signs?|present|seen|detected|"
    r"identified|visible)\b[^,;\n]*",
    re.IGNORECASE,
)
"""A text that says that there is nothing: "None of the listed abnormalities are present"."""
LIST = "list"
_NO = re.compile(r"(?:no|without|not)\s", re.IGNORECASE)
"""Begins an item of several that is said to be absent."""


@lru_cache(maxsize=2**14)
def extract_set(reply: str, phrases: tuple[str, ...] = ()) -> Extraction:
    """The items of a reply without repetitions: of a statement (`stated`), of a bulleted or numbered list, or of all of it.

    Items are parted by lines, commas, semicolons and "and". "none" and its like are the empty set.

    phrases: items that hold a comma or an "and" of their own, and are not parted.
    """
    return first_answer(reply, lambda cleaned: _extract(cleaned, phrases))


def _extract(cleaned: Reply, phrases: tuple[str, ...]) -> Extraction:
    text = cleaned.text
    bullets = list(re.finditer(r"(?m)^[ \t]*(?:[-•*]|\d{1,2}[.)])[ \t]+(\S[^\n]*)$", text))
    statement = stated(cleaned, lambda content: items_of(content, phrases), _value)
    if statement is not None and not (bullets and statement.start >= cleaned.offsets[bullets[0].start()]):
        return statement
    if refuses(text[:200]):
        return Extraction(None, REFUSAL)
    if bullets:
        items = _distinct(
            [item for match in bullets for item in items_of(re.split(r"\s[-:]\s|:\s", match[1])[0], phrases) or ()]
        )
        return cleaned.extraction(items, Span(bullets[0].start(), bullets[-1].end(), LIST))
    body = re.sub(r"^[^:\n]{0,80}:\s*", "", text) if re.match(r"[^:\n,;]{0,80}:\s*\S", text) else text
    all_items = items_of(body, phrases)
    if all_items is None:
        return Extraction(None, NOTHING)
    return cleaned.extraction(all_items, Span(len(text) - len(body), len(text), ENTIRE))


def _value(value: Any) -> tuple[str, ...] | None:
    return _distinct([str(item) for item in value]) if isinstance(value, list) else None


def items_of(text: str, phrases: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """The items of a text; None for a text without words."""
    bare = text.strip().strip("[](){}.").strip()
    if not re.search(r"\w", bare):
        return () if re.fullmatch(r"\s*(?:\[\s*\]|\{\s*\}|\(\s*\))\s*", text) else None
    if _NOTHING.fullmatch(bare) and len(re.split(r"[.!?]\s", bare)) == 1:
        return ()
    patterns = [re.escape(phrase.strip()) for phrase in sorted(phrases, key=len, reverse=True) if phrase.strip()]
    parts = re.split(rf"({'|'.join(patterns)})", bare, flags=re.IGNORECASE) if patterns else [bare]
    items: list[str] = []
    for number, part in enumerate(parts):
        items += (
            [part]
            if number % 2
            else re.split(r"(?:[\n;|、，；]|,(?!(?<=\d,)\d{3}))+|\s*(?<!\w)(?:and|&)(?!\w)\s*", part)
        )
    return _distinct(items)


def _distinct(parts: list[str]) -> tuple[str, ...]:
    by_tokens = {normalize(part): part.strip().strip("\"'.").strip() for part in parts if re.search(r"\w", part)}
    return tuple(
        part
        for tokens, part in by_tokens.items()
        if tokens not in EMPTY_WORDS and (len(by_tokens) == 1 or not _NO.match(part))
    )
