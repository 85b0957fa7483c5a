"""Right answers that are numbers within bounds, or sets: as a question's metadata state them, and their scores."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from medvlp.eval.answers.normalization import normalize
from medvlp.eval.answers.numbers import DATE, DECIMAL, INTEGER, WEEKS, extract_number
from medvlp.shards import BadSample
from medvlp.shards.vocabulary import NUMBER_TYPES

SLACK = 1e-9
"""Share of a bound's size by which a value may miss it: 0.1 + 0.2 is not 0.3 in floating point."""


@dataclass(frozen=True)
class NumberTarget:
    """A number, a date or a gestational age, and how far an answer may be from it.

    number_type: one of `NUMBER_TYPES`. value: a float; of a date its ordinal; of an age its days.
    low, high: bounds, both inclusive; the value itself where the data state none.
    """

    number_type: str
    value: float
    low: float
    high: float

    def accuracy(self, answer: Any, is_percent: bool = False) -> float:
        """1.0 where an extracted answer lies within the bounds.

        An integer is rounded first, halves to the even number as in MedCalc-Bench's script (Khandekar 2024).
        is_percent: the answer has a percent sign: where "53%" is out of the bounds, 0.53 is tried.
        """
        if answer is None:
            return 0.0
        number = float(answer.toordinal()) if isinstance(answer, date) else float(answer)
        return float(self._holds(number) or (is_percent and self._holds(number / 100)))

    def _holds(self, number: float) -> bool:
        if not math.isfinite(number):
            return False
        number = float(round(number)) if self.number_type == INTEGER else number
        slack = SLACK * max(1.0, abs(self.low), abs(self.high))
        return self.low - slack <= number <= self.high + slack


def number_target(text: str, metadata: Mapping[str, Any]) -> NumberTarget:
    """The target of a question whose answer is a number.

    metadata: `number_type` (decimal where it is not stated), and how far an answer may be off: `lower` and `upper` (of dates
    and ages: as the answer is written), or `tolerance` (in the number's unit; days for dates and ages), or
    `relative_tolerance` (0.05 is 5% of the value's size; not of dates, which have none).

    Raises:
        BadSample: `bad_number` (type, value or bounds that are none).
    """
    number_type = str(metadata.get("number_type") or DECIMAL)
    if number_type not in NUMBER_TYPES:
        raise BadSample(
            "bad_number", detail=f"number_type is {number_type!r}, expected one of {', '.join(NUMBER_TYPES)}"
        )
    value = _value(text, number_type)
    if value is None:
        raise BadSample("bad_number", detail=f"the answer {text!r} is no {number_type}")
    lower, upper = _limit(metadata, "lower", number_type), _limit(metadata, "upper", number_type)
    margin = _bound(metadata, "tolerance")
    relative = _bound(metadata, "relative_tolerance")
    if relative is not None and number_type == DATE:
        detail = "relative_tolerance is of a value's size, which a date has not: state tolerance, in days"
        raise BadSample("bad_number", detail=detail)
    margin = relative * abs(value) if margin is None and relative is not None else margin or 0.0
    low, high = (value - margin if lower is None else lower), (value + margin if upper is None else upper)
    if low > high or margin < 0:
        raise BadSample("bad_number", detail=f"bounds {low} to {high} of {text!r} hold no number")
    return NumberTarget(number_type, value, low, high)


def _value(text: str, number_type: str) -> float | None:
    """The number that a text states; of a date its ordinal, of an age its days."""
    answer = extract_number(text, number_type).answer
    return float(answer.toordinal()) if isinstance(answer, date) else None if answer is None else float(answer)


def _limit(metadata: Mapping[str, Any], name: str, number_type: str) -> float | None:
    """A stated bound: a number, or of dates and ages a text of the form of the answer."""
    if number_type not in (DATE, WEEKS):
        return _bound(metadata, name)
    text = metadata.get(name)
    if text is None or text == "":
        return None
    value = _value(str(text), number_type)
    if value is None:
        raise BadSample("bad_number", detail=f"{name} is {text!r}, expected the form of the answer, a {number_type}")
    return value


def _bound(metadata: Mapping[str, Any], name: str) -> float | None:
    value = metadata.get(name)
    if value is None or value == "":
        return None
    try:
        number = float(str(value).replace(",", "")) if not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadSample("bad_number", detail=f"{name} is {value!r}, expected a number")
    return number


def best_number(targets: Sequence[NumberTarget]) -> tuple[float, str, int]:
    """(value, number type, items): the answer that is right for most of some targets, the smallest of equals."""
    best = (0.0, DECIMAL, 0)
    for number_type in NUMBER_TYPES:
        events = [(t.low, 0) for t in targets if t.number_type == number_type]
        events += [(t.high, 1) for t in targets if t.number_type == number_type]
        count = 0
        for value, is_end in sorted(events):
            count += -1 if is_end else 1
            if count > best[2]:
                best = (value, number_type, count)
    return best


# Sets


def item_set(answer_set: Any) -> tuple[str, ...]:
    """The right items of a question whose answer is a set. Raises BadSample `bad_set`: no list of texts."""
    if not isinstance(answer_set, list) or not all(isinstance(item, str) and item.strip() for item in answer_set):
        raise BadSample("bad_set", detail=f"answer_set is {answer_set!r}, expected a list of texts")
    return tuple(answer_set)


def set_scores(items: Sequence[str] | None, right: Sequence[str]) -> dict[str, float]:
    """set_exact_match, set_f1, set_precision and set_recall of extracted items; items are compared by their normalised tokens.

    The empty set for the empty set scores 1 in all. None, an answer that cannot be read, scores 0 in all.
    """
    names = ("set_exact_match", "set_f1", "set_precision", "set_recall")
    if items is None:
        return dict.fromkeys(names, 0.0)
    answered, expected = {normalize(item) for item in items}, {normalize(item) for item in right}
    if not answered and not expected:
        return dict.fromkeys(names, 1.0)
    hits = len(answered & expected)
    values = (
        float(answered == expected),
        2 * hits / (len(answered) + len(expected)),
        hits / len(answered) if answered else 0.0,
        hits / len(expected) if expected else 0.0,
    )
    return dict(zip(names, values, strict=True))


MOST_SETS = 200
"""Sets that are tried as a constant answer, the commonest."""


def best_set(targets: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The constant answer with the highest mean F1 over some targets, among the commonest `MOST_SETS` of them."""
    counts = Counter(targets)
    candidates = sorted(counts, key=lambda items: (-counts[items], items))[:MOST_SETS]

    def total(items: tuple[str, ...]) -> float:
        return sum(count * set_scores(items, right)["set_f1"] for right, count in counts.items())

    return max(candidates, key=total)


def partial_credit(picked: Sequence[str], right: Sequence[str]) -> float:
    """Of several right options: the share that was picked, less as much for each wrong one; at least 0.

    With one right option it is 1 for this one alone.
    """
    hits = len(set(picked) & set(right))
    return max(0.0, (hits - len(set(picked) - set(right))) / len(set(right)))
