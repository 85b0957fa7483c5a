"""The boxes that a reply gives, in any of the forms of `medvlp.boxes.forms`, as boxes of the image.

Marks that one family alone writes (`<loc0123>`, `<patch_index_0044>`, `<x10><y20>`) say what they count. Other numbers count what
the asked form counts; where they cannot, the reply is refused with the reason, and no scale is guessed.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from medvlp.boxes.canonical import BadBox, Box, corners
from medvlp.boxes.forms import FORMS, BoxForm, NoPixels, read_cells, scales
from medvlp.boxes.views import View
from medvlp.eval.answers.extraction import NOTHING, REFUSAL, Extraction, Reply, Span, first_answer
from medvlp.eval.answers.normalization import normalize
from medvlp.eval.answers.refusals import refuses
from medvlp.eval.answers.sets import EMPTY_WORDS

SCALE_MISMATCH, FORM_MISMATCH, NO_PIXELS = (
    "box of another scale",
    "box of another form",
    "box in pixels of unknown size",
)
NEGATIVE, EMPTY, NOT_FOUR = "box of negative size", "box without area", "not four numbers"
NO_BOX = "no box"
SLACK = 1.1
"""How far beyond the whole a number may lie and still be of the scale."""
MOST_BOXES = 100

_N = r"(-?(?:\d{1,6}(?:\.\d{0,17})?|\.\d{1,17}))%?"
_GAP = r"\s{0,4}[,;]?\s{0,4}"
_FOUR = rf"{_N}\s{{0,4}}[,;\s]\s{{0,4}}{_N}\s{{0,4}}[,;\s]\s{{0,4}}{_N}\s{{0,4}}[,;\s]\s{{0,4}}{_N}"
_KEY = r"\b(?:[xy]_?(?:min|max|[012])|left|top|right|bottom|[xywh]|width|height)\b"
_SYNTAXES = {
    "paligemma": re.compile(r"<loc(\d{4})>\s?" * 4),
    "florence2": re.compile(r"<loc_(\d{1,3})>\s?" * 4),
    "kosmos2": re.compile(r"<patch_index_(\d{4})>\s?" * 2),
    "maira2": re.compile(r"<x(\d{1,2})>\s?<y(\d{1,2})>\s?<x(\d{1,2})>\s?<y(\d{1,2})>"),
    "minigpt_v2": re.compile(r"\{\s?<(\d{1,3})>\s?<(\d{1,3})>\s?<(\d{1,3})>\s?<(\d{1,3})>\s?\}"),
    "pairs": re.compile(rf"[(\[]\s{{0,4}}{_N}{_GAP}{_N}\s{{0,4}}[)\]]{_GAP}[(\[]\s{{0,4}}{_N}{_GAP}{_N}\s{{0,4}}[)\]]"),
    "list": re.compile(rf"(?:[\"']?\b(?P<key>b?box_2d)[\"']?\s{{0,4}}:\s{{0,4}})?[\[(]\s{{0,4}}{_FOUR}\s{{0,4}}[\])]"),
    "keys": re.compile(rf"(?:[\"']?(?:{_KEY})[\"']?\s{{0,4}}[:=]\s{{0,4}}{_N}[\s,;]{{0,8}}){{4}}", re.IGNORECASE),
    "bare": re.compile(rf"(?m)^[^\d\n\[(<{{-]{{0,60}}{_FOUR}[^\d\n]{{0,5}}$"),
}
"""How four numbers are written, in the order in which they are looked for; those named as a form say what they count."""
_PAIR_OF_KEY = re.compile(rf"({_KEY})[\"']?\s{{0,4}}[:=]\s{{0,4}}{_N}", re.IGNORECASE)
_SIDES = {
    "xmin": 0,
    "x0": 0,
    "left": 0,
    "ymin": 1,
    "y0": 1,
    "top": 1,
    "xmax": 2,
    "x2": 2,
    "right": 2,
    "ymax": 3,
    "y2": 3,
}
_SIDES |= {"bottom": 3, "x": 0, "y": 1, "w": 2, "width": 2, "h": 3, "height": 3}
_NUMBER_LIST = re.compile(rf"[\[(]\s{{0,4}}{_N}(?:\s{{0,4}}[,;]\s{{0,4}}{_N}){{1,40}}\s{{0,4}}[\])]")
_ANSWER = re.compile(
    r"<answer>(?P<tag>.*?)(?:</answer>|\Z)|\b(?:final\s+)?answer\s*(?:is)?\s*:\s*(?P<rest>.+)\Z", re.I | re.S
)
_ABSENCE = re.compile(
    r"\b(?:there\s+(?:is|are)\s+no|no\s+(?:such|visible|evidence)|not\s+(?:present|visible|seen)|absent)\b", re.I
)


class Reading(NamedTuple):
    """What four numbers of a reply come to: a box of the image, or None and why."""

    start: int
    end: int
    box: Box | None
    rule: str


@lru_cache(maxsize=2**14)
def extract_boxes(reply: str, form: str, view: View) -> Extraction:
    """The boxes of a reply without repetitions, as shares of the image (a box may reach beyond it); () where it says that
    there is none.

    Of a reply that states its answer ("Answer: …", `<answer>`), those of the statement. Where a box cannot be read, the whole
    reply is refused: a part of an answer is another answer.
    """
    return first_answer(reply, lambda cleaned: _extract(cleaned, FORMS[form], form, view))


def _extract(cleaned: Reply, form: BoxForm, name: str, view: View) -> Extraction:
    text = cleaned.text
    for start, end in [*_statements(text), (0, len(text))]:
        readings = sorted(_readings(text, start, end, form, name, view))[:MOST_BOXES]
        if not readings:
            continue
        faulty = next((reading for reading in readings if reading.box is None), None)
        if faulty:
            return Extraction(None, faulty.rule)
        boxes = tuple(dict.fromkeys(reading.box for reading in readings))
        return cleaned.extraction(boxes, Span(readings[0].start, readings[-1].end, readings[0].rule))
    if refuses(text[:200]):
        return Extraction(None, REFUSAL)
    statement = next((text[start:end] for start, end in _statements(text)), text)
    if normalize(statement.strip(" .[]")) in EMPTY_WORDS or statement.strip() == "[]" or _ABSENCE.search(statement):
        return cleaned.extraction((), Span(0, len(text), NO_BOX))
    return Extraction(None, NOT_FOUR if _NUMBER_LIST.search(text) else NOTHING)


def _statements(text: str) -> list[tuple[int, int]]:
    """Where the reply states its answer, the last one."""
    spans = [match.span("tag" if match["tag"] is not None else "rest") for match in _ANSWER.finditer(text)]
    return spans[-1:]


def _readings(text: str, start: int, end: int, form: BoxForm, name: str, view: View) -> Iterator[Reading]:
    spans: list[tuple[int, int]] = []
    for syntax, pattern in _SYNTAXES.items():
        for match in pattern.finditer(text, start, end):
            if any(match.start() < last and first < match.end() for first, last in spans):
                continue
            spans.append(match.span())
            yield Reading(*match.span(), *_box(match, syntax, form, name, view))


def _box(match: re.Match[str], syntax: str, form: BoxForm, name: str, view: View) -> tuple[Box | None, str]:
    """(box of the image, the rule), or (None, why there is none)."""
    if syntax == "kosmos2":
        cells = int(match[1]), int(match[2])
        if max(cells) >= 32 * 32:
            return None, SCALE_MISMATCH
        return _checked(read_cells(*cells, 32), "xyxy", view, syntax)
    if syntax in FORMS:
        form, rule, order = FORMS[syntax], syntax, FORMS[syntax].order
        numbers = [float(text) for text in match.groups()]
    else:
        if form.bins:
            return None, FORM_MISMATCH
        numbers, order = _numbers(match, syntax, form)
        rule = f"{syntax} ({name})"
        if not numbers:
            return None, NOT_FOUR
    is_boxed = match.string[max(0, match.start() - 6) : match.start()].endswith(("<box>[", "<box>"))
    scale = 100.0 if match[0].count("%") == 4 else 1000.0 if is_boxed and syntax in ("list", "pairs") else form.scale
    try:
        extents = scales(scale, view)
    except NoPixels:
        return None, NO_PIXELS
    extents = (extents[1], extents[0], extents[3], extents[2]) if order == "yxyx" else extents
    are_small = max(numbers) <= 1 and min(extents) > 1 and not form.bins
    if are_small or any(
        not -0.1 * extent <= number <= SLACK * extent for number, extent in zip(numbers, extents, strict=True)
    ):
        return None, SCALE_MISMATCH
    middle = 0.5 if form.centred else 0.0
    shares = [(number + middle) / extent for number, extent in zip(numbers, extents, strict=True)]
    return _checked(shares, order, view, rule)


def _numbers(match: re.Match[str], syntax: str, form: BoxForm) -> tuple[list[float], str]:
    """(four numbers, their layout); none where the keys do not make a box."""
    if syntax != "keys":
        numbers = [float(text) for text in match.groups()[-4:]]
        key = match["key"] if syntax == "list" else ""
        is_flipped = key == "box_2d" or (not key and syntax in ("list", "bare") and form.order == "yxyx")
        return numbers, "yxyx" if is_flipped else "xyxy"
    pairs = {key.lower().replace("_", ""): float(number) for key, number in _PAIR_OF_KEY.findall(match[0])}
    has_zero = "x0" in pairs or "y0" in pairs
    sides = _SIDES | ({"x1": 2, "y1": 3} if has_zero else {"x1": 0, "y1": 1})
    by_side = {sides[key]: number for key, number in pairs.items()}
    has_size = {"w", "width"} & pairs.keys() and {"h", "height"} & pairs.keys()
    if len(pairs) != 4 or len(by_side) != 4 or (bool({"w", "h", "width", "height"} & pairs.keys()) != bool(has_size)):
        return [], "xyxy"
    return [by_side[side] for side in range(4)], "xywh" if has_size else "xyxy"


def _checked(shares: Box | list[float], order: str, view: View, rule: str) -> tuple[Box | None, str]:
    try:
        return view.to_image(corners(shares, order)), rule
    except BadBox as bad:
        return None, NEGATIVE if bad.reason == "box_negative_size" else EMPTY
