"""Numbers, dates and gestational ages in responses."""

import math
import re
from collections.abc import Callable
from datetime import date
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
from medvlp.eval.answers.refusals import refuses
from medvlp.eval.answers.statements import Contradiction, stated
from medvlp.shards.vocabulary import NUMBER_TYPES

DECIMAL, INTEGER, DATE, WEEKS = NUMBER_TYPES
"""decimal and integer: a float. date: a `datetime.date`. weeks: days of a gestational age, "36 weeks, 4 days"."""

LAST_LINE, VALUE_SAID, TOTAL, ONLY = "last line", "said to be it", "labelled number", "only number"
_TOTAL = re.compile(
    r"(?m)^\W*(?:(?P<sum>(?:total|overall|final)\b[\w '-]{0,30})|[\w '-]{0,40}?\b(?:score|result|value|index|bmi))\s*[:=]\s*",
    re.IGNORECASE,
)
_MONTH_NAME = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_IS = re.compile(
    r"\b(?:is|was|equals|be|comes\s+to|gives|yields|results\s+in)\s*(?:equal\s+to\s+)?(?:approximately\s+|about\s+|around\s+|roughly\s+)?"
    rf"(?=[~≈(\['\"]?-?[\d.]|{_MONTH_NAME})",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"(?:\b(?:so|thus|therefore|hence)|\b(?:result|answer|total|estimate)s?)\b[^.!?\n]*$", re.IGNORECASE
)
_REACH = 80
"""Characters before a value in which it is called the result."""
_SUM = re.compile(r"[^\n]*(?:\+|\bplus\b)[^:\n]*:", re.IGNORECASE)
_FIRST_STEP = re.compile(r"(?m)^\W*1[.)]\s+(?=[A-Za-z])")
_DIGITS = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![\w.,/])(?P<sign>-\s?|(?:minus|negative)\s)?(?P<digits>{_DIGITS})(?:\s(?P<mixed>\d/\d{{1,2}})(?![\d/]))?(?:\s?/\s?(?P<denominator>\d+(?:\.\d+)?)(?![\d/]|\s*[A-Za-z]+/))?"
    r"(?:\s*(?:e|E|(?:[x×*·⋅]|\\times)\s*10\s*\^?|(?<=\b10)\^)\s*\{?(?P<exponent>[+-]?\d{1,3})\}?)?(?P<percent>\s?%)?(?![\d]|[.,]\d|/\d)",
    re.IGNORECASE,
)
_NO_VALUE = re.compile(
    r"(?:\bout\s+of|\bnot|[<>≤≥]=?|\b(?:less|more|greater|fewer|lower|higher)\s+than|\bat\s+(?:least|most)|\^\s*[{(]?)\s*$",
    re.IGNORECASE,
)
"""Before a number that is no value: "3 out of 5" is 3, ">5" is a bound, and the 2 of m^2 a power."""
_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_WORDS += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_VALUES = {word: number for number, word in enumerate(_WORDS)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_NAME = "|".join(sorted(_VALUES, key=len, reverse=True))
_WORD = re.compile(rf"\b(?:{_NAME})(?:(?:[\s-]|\sand\s)(?:{_NAME}|hundred|thousand)\b){{0,8}}(?![\w-])", re.IGNORECASE)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = r"(?P<month_name>jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec)[a-z]*\.?"
_DATES = (
    re.compile(r"(?<!\d)(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})(?!\d)"),
    re.compile(r"(?<!\d)(?P<month>\d{1,2})[-/.](?P<day>\d{1,2})[-/.](?P<year>\d{4}|\d{2})(?!\d)"),
    re.compile(rf"\b{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}})", re.IGNORECASE),
    re.compile(rf"(?<!\d)(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH},?\s+(?P<year>\d{{4}})", re.IGNORECASE),
)
_AGE = re.compile(
    r"(?<![\d.,])(?:(?P<from>\d{1,2})\s*(?:to|-|or|and)\s*)?(?P<weeks>\d{1,2}(?:\.\d+)?)['\"]?\s*(?:weeks?|wks?|w)['\"]?\s*(?:,|and|&|\+|plus)?\s*['\"]?(?:(?P<days>\d+)['\"]?\s*(?:days?|d)\b)?"
    r"|(?<!\d)(?P<weeks_plus>\d{1,2})\s*\+\s*(?P<days_plus>[0-6])(?!\d)"
    r"|(?<!\d)(?P<weeks_of>\d{1,2})\s+(?P<days_of>[0-6])/7\b"
    r"|[(\[]\s*['\"]?(?P<weeks_pair>\d{1,2})['\"]?\s*,\s*['\"]?(?P<days_pair>[0-6])['\"]?\s*[)\]]",
    re.IGNORECASE,
)


@lru_cache(maxsize=2**14)
def extract_number(reply: str, number_type: str = DECIMAL) -> Extraction:
    """The number that a reply states (`stated`), the one behind the last = or ≈ of its last line, or the only one that it holds.

    In a statement the first number counts, behind an = the one after it: "BMI = 70 / 1.75² = 22.9 kg/m²" is 22.9. "3 out of 5"
    is 3, "1,234.5" and "1.2 × 10^3" are read, "5,8" is 5.8, and "53%" is 53. Units are not converted. Dates are
    month/day/year unless that is none. Two numbers that could both be meant ("5-6", "5 or 6") are no answer.

    Args:
        number_type: one of `NUMBER_TYPES`.
    """
    values = {DATE: _dates, WEEKS: _ages, INTEGER: _integers}.get(number_type, _numbers)
    return first_answer(reply, lambda cleaned: _extract(cleaned, values))


Values = Callable[[str], list[tuple[Any, int, int]]]
"""A text → the values in it, each with its place."""


def _extract(cleaned: Reply, values: Values) -> Extraction:
    text = cleaned.text
    try:
        statement = stated(cleaned, lambda content: _read(content, values), lambda value: _value(value, values))
        if statement is not None:
            return statement
        if not _FIRST_STEP.match(text) and (answer := _whole(text, values)) is not None:
            return cleaned.extraction(answer, Span(0, len(text), ENTIRE))
        if refuses(text):
            return Extraction(None, REFUSAL)
        if (total := _total(text, values)) is not None:
            return cleaned.extraction(*total)
        text = _FIRST_STEP.sub(lambda match: " " * len(match.group()), text)
        for line in cleaned.lines():
            content = text[line.start : line.end]
            equals = max(content.rfind("="), content.rfind("≈"))
            if sum_end := _SUM.match(content):  # "March 1 + 280 days: December 6"
                equals = max(equals, sum_end.end() - 1)
            spans = values(content[equals + 1 :])
            if (equals >= 0 and spans) or len({value for value, _, _ in spans}) == 1:
                value, start, end = spans[0]
                offset = line.start + equals + 1
                return cleaned.extraction(value, Span(offset + start, offset + end, LAST_LINE))
            break
        all_values = values(text)
        if (statement_value := _said(text, values)) is not None:
            return cleaned.extraction(*statement_value)
        if len({value for value, _, _ in all_values}) == 1:
            value, start, end = all_values[0]
            return cleaned.extraction(value, Span(start, end, ONLY))
    except Contradiction:
        return Extraction(None, CONTRADICTION)
    return Extraction(None, CONTRADICTION if all_values else NOTHING)


def _said(text: str, values: Values) -> tuple[Any, Span] | None:
    """The one value behind "is" or "gives", where no later sentence holds any."""
    matches = [(match.end(), values(text[match.end() : match.end() + 40])) for match in _IS.finditer(text)]
    matches = [(start, spans) for start, spans in matches if spans]
    concluding = [(start, spans) for start, spans in matches if _CONCLUDES.search(text, max(0, start - _REACH), start)]
    matches = concluding or matches
    if len({spans[0][0] for _, spans in matches}) != 1:
        return None
    start, spans = matches[-1]
    value, first, last = spans[0]
    sentence_end = re.compile(r"[.!?](?=\s|$)|\n").search(text, start + last)
    if sentence_end and values(text[sentence_end.end() :]):
        return None
    return value, Span(start + first, start + last, VALUE_SAID)


def _total(text: str, values: Values) -> tuple[Any, Span] | None:
    """The value behind "Total score:", or the only one behind a label such as "BMI:"; the last number of a sum."""
    labelled: list[tuple[Any, Span, bool]] = []
    for match in _TOTAL.finditer(text):
        end = text.find("\n", match.end())
        content = text[match.end() : end if end >= 0 else len(text)]
        equals = max(content.rfind("="), content.rfind("≈")) + 1
        if spans := values(content[equals:]):
            value, start, stop = spans[0]
            offset = match.end() + equals
            labelled.append((value, Span(offset + start, offset + stop, TOTAL), match["sum"] is not None))
    totals = [entry for entry in labelled if entry[2]] or labelled
    return totals[-1][:2] if totals and len({value for value, _, _ in totals}) == 1 else None


def _whole(text: str, values: Values) -> Any:
    """The value of a reply that is nothing but one, with a unit."""
    spans = values(text)
    if len(spans) != 1 or len(text.split()) > 6:
        return None
    return spans[0][0]


def _value(value: Any, values: Values) -> Any:
    """A JSON value: a number, or for an age the list of weeks and days."""
    if isinstance(value, bool) or value is None:
        return None
    spans = values(f"({', '.join(map(str, value))})" if isinstance(value, list) else str(value))
    return spans[0][0] if spans else None


def _read(content: str, values: Values) -> Any:
    """The value of a statement. Raises Contradiction: "5 or 6", "5-6"."""
    equals = max(content.rfind("="), content.rfind("≈"))
    content = content[equals + 1 :]
    spans = values(content)
    if not spans:
        return None
    if len(spans) > 1:
        (value, _, end), (second, start, _) = spans[:2]
        if value != second and re.fullmatch(r"\s*(?:-|to|or|and|/|–)\s*(?:about\s+)?", content[end:start]):
            raise Contradiction
    return spans[0][0]


def _integers(text: str) -> list[tuple[Any, int, int]]:
    """Of a fraction the first number: "3/6" is a score of 3."""
    return _numbers(text, is_fraction_read=False)


def _numbers(text: str, is_fraction_read: bool = True) -> list[tuple[Any, int, int]]:
    spans = []
    for match in _NUMBER.finditer(text):
        if _NO_VALUE.search(text[max(0, match.start() - 16) : match.start()]):
            continue
        digits = match["digits"]
        digits = (
            digits.replace(",", "")
            if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", digits)
            else digits.replace(",", ".")
        )
        # 10^3 is 1 and three zeros
        is_power = match["exponent"] and match.group().replace(" ", "").startswith("10^")
        value = float(f"{'1' if is_power else digits}e{match['exponent'] or 0}")
        if math.isinf(value):
            continue
        if match["mixed"] and not match["mixed"].endswith("/0"):
            numerator, _, denominator = match["mixed"].partition("/")
            value += int(numerator) / int(denominator)
        if is_fraction_read and match["denominator"] and float(match["denominator"]):
            value = _ratio(value, match["denominator"], text, match.end())
        spans.append((-value if match["sign"] and _is_sign(text, match.start()) else value, match.start(), match.end()))
    if not spans:
        spans = [
            (_spelt(m.group()), m.start(), m.end())
            for m in _WORD.finditer(text)
            if not _NO_VALUE.search(text[max(0, m.start() - 16) : m.start()])
        ]
    return spans


def _spelt(words: str) -> float:
    """ "two hundred and five" → 205."""
    total = part = 0
    for word in re.split(r"[\s-]+", words.casefold()):
        if word == "hundred":
            part = max(part, 1) * 100
        elif word == "thousand":
            total, part = total + max(part, 1) * 1000, 0
        else:
            part += _VALUES.get(word, 0)
    return float(total + part)


def _ratio(value: float, denominator: str, text: str, end: int) -> float:
    """A fraction; "3/5 points" and "120/80 mmHg" keep their first number."""
    is_score = re.match(r"\s*(?:points?|score|mm\s?hg)\b", text[end : end + 20], re.IGNORECASE)
    return value if is_score or value >= float(denominator) else value / float(denominator)


def _is_sign(text: str, start: int) -> bool:
    """Whether a minus belongs to its number: not behind another number, as in "5-6"."""
    return not re.search(r"[\w)]\s?$", text[max(0, start - 2) : start])


def _dates(text: str) -> list[tuple[Any, int, int]]:
    spans: dict[tuple[int, int], date] = {}
    for pattern in _DATES:
        for match in pattern.finditer(text):
            parts = match.groupdict()
            month = (
                _MONTHS.index(parts["month_name"][:3].casefold()) + 1 if "month_name" in parts else int(parts["month"])
            )
            day, year = int(parts["day"]), int(parts["year"])
            year += 2000 if year < 100 else 0
            if month > 12 >= day:
                month, day = day, month
            is_new = all(match.end() <= start or match.start() >= end for start, end in spans)
            try:
                spans.update({match.span(): date(year, month, day)} if is_new else {})
            except ValueError:
                continue
    return [(value, *span) for span, value in sorted(spans.items())]


def _ages(text: str) -> list[tuple[Any, int, int]]:
    ages: list[tuple[Any, int, int]] = []
    for match in _AGE.finditer(text):
        weeks = next(match[name] for name in ("weeks", "weeks_plus", "weeks_of", "weeks_pair") if match[name])
        days = next((match[name] for name in ("days", "days_plus", "days_of", "days_pair") if match[name]), "0")
        if len(days) > 1 or int(days) > 6:
            continue
        if match["from"]:  # "2 to 36 weeks" says two
            ages.append((7 * int(match["from"]), match.start(), match.end("from")))
        age = 7 * float(weeks) + int(days)
        ages.append(
            (
                int(age) if age.is_integer() else age,
                match.start("weeks") if match["from"] else match.start(),
                match.end(),
            )
        )
    return ages
