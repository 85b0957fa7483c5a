"""What judges said of an answer, as a page shows it."""

from typing import Any

from medvlp.report.files import Row
from medvlp.report.run.galleries import clipped_text
from medvlp.report.shapes import OBJECT

TITLES = {"judge": "Judge", "second_judge": "Second judge"}
"""Field of a record → the judge."""
RECORD = dict.fromkeys(TITLES, OBJECT)
"""What a record has besides where answers were judged."""
CHARACTERS = 700
"""Of a judge's response on a page."""


def verdict_words(record: Row) -> list[tuple[str, str]]:
    """(judge, its verdict)."""
    return [(title, _verdict(record[field])) for field, title in TITLES.items() if field in record]


def folded_verdicts(record: Row) -> list[tuple[str, list[str]]]:
    """(judge, its responses)."""
    parts = []
    for field, title in TITLES.items():
        responses = _texts(record.get(field) or {})
        if responses:
            parts.append((f"{title}: in its words", [clipped_text(text, CHARACTERS) for text in responses]))
    return parts


def _verdict(verdict: Row) -> str:
    if verdict.get("grade"):
        probabilities = verdict.get("probabilities")
        share = probabilities.get(verdict["grade"]) if isinstance(probabilities, dict) else None
        return f"{verdict['grade']}" + (f" ({share:.2f})" if isinstance(share, int | float) else "")
    pairs = [pair for pair in verdict.get("scores") or () if _is_pair(pair)]
    if pairs:
        return "; ".join(f"{answer:g} for the answer, {right:g} for the right one" for right, answer in pairs)
    return "no verdict that can be read"


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(side, int | float) for side in value)


def _texts(verdict: Row) -> list[str]:
    responses = verdict.get("responses")
    values = [verdict.get("reply"), *(responses if isinstance(responses, list) else ())]
    return [value for value in values if isinstance(value, str) and value]
