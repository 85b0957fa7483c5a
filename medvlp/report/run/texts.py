"""Examples of written text: texts next to their references, some by chance, the most similar and the least."""

import hashlib

from medvlp.report.files import Row
from medvlp.report.run import judging, prompting
from medvlp.report.run.galleries import Examples, QuestionExample, clipped_text
from medvlp.report.run.judging import folded_verdicts, verdict_words
from medvlp.report.run.prompting import ExampleTexts, folded_prompting
from medvlp.report.shapes import NULL, NUMBER, TEXT, list_of, mapping_of
from medvlp.report.thumbnails import Thumbnails

TEXTS = 6
"""Texts in a gallery."""
CHARACTERS = 2000
"""Of a text on a page; the rest of a longer one is left out, and dots say so."""

RECORD = {
    **dict.fromkeys(("id", "prediction", "target"), TEXT),
    "references": list_of(TEXT),
    "score": NUMBER | NULL,
    "scores": mapping_of(NUMBER | NULL),
    "controls": mapping_of(TEXT),
}
"""What a record has."""
OPTIONAL = prompting.RECORD | judging.RECORD
"""What records of prompting protocols and of judges have besides."""


def text_examples(
    records: list[Row], protocol: Row, thumbnails: Thumbnails | None, most: int | None = None
) -> Examples:
    """Of written text."""
    if thumbnails is None:
        return Examples()
    # In the order of a hash: the first ones of a file are often about one image, or one kind of image.
    by_hash = sorted(records, key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    ranked = sorted((row for row in by_hash if row["score"] is not None), key=lambda row: -row["score"])
    count = most or TEXTS
    galleries = [
        ("Texts by chance", by_hash[:count]),
        ("Most similar to their references", ranked[:count]),
        ("Least similar to their references", ranked[::-1][:count]),
    ]
    question, examples = str(protocol.get("instruction") or ""), ExampleTexts(protocol)
    return Examples(
        questions=[
            (title, [_example(row, question, thumbnails, examples) for row in rows])
            for title, rows in galleries
            if rows
        ]
    )


def _example(row: Row, question: str, thumbnails: Thumbnails, examples: ExampleTexts) -> QuestionExample:
    return QuestionExample(
        thumbnails.of(row["id"]),
        question,
        clipped_text(row["prediction"], CHARACTERS),
        clipped_text("\n".join(row["references"]), CHARACTERS),
        [],
        [(name, clipped_text(text, CHARACTERS)) for name, text in row["controls"].items()],
        words=verdict_words(row),
        folded=[*folded_prompting(row, examples), *folded_verdicts(row)],
    )
