"""Examples of a classification: its confusions, and its most confident mistakes."""

from collections import Counter

from medvlp.report.files import Row
from medvlp.report.run.galleries import Confusion, Example, Examples, Gallery
from medvlp.report.shapes import NULL, NUMBER, TEXT, list_of
from medvlp.report.thumbnails import Thumbnails

MISTAKES = 8
"""Confident mistakes on a page."""

RECORD = {"id": TEXT, "target": TEXT, "prediction": TEXT | NULL, "score": NUMBER}
"""What a record has."""
TRAINED_RECORD = {**RECORD, "target": TEXT | list_of(TEXT), "prediction": TEXT | NULL | list_of(TEXT)}
"""Of a trained head, which may have several labels an item."""


def classification_examples(
    records: list[Row], protocol: Row, thumbnails: Thumbnails | None, most: int | None = None
) -> Examples:
    """Of classification with one class an item; nothing of several labels, which have no confusions."""
    if protocol.get("multi_label"):
        return Examples()
    galleries = mistakes(records, thumbnails, most) if thumbnails else []
    return Examples(confusion=confusion(records, list(protocol.get("classes") or {})), galleries=galleries)


def confusion(records: list[Row], classes: list[str]) -> Confusion:
    """Classes in the protocol's order; predictions without a single best class stand in a column of their own."""
    counts = Counter((row["target"], row["prediction"]) for row in records)
    has_ties = any(prediction is None for _, prediction in counts)
    predictions: list[str | None] = [*classes, None] if has_ties else [*classes]
    rows = []
    for target in classes:
        cells = [counts[target, prediction] for prediction in predictions]
        total = sum(cells)
        rows.append((target, cells, total, f"{counts[target, target] / total:.3f}" if total else "–"))
    return Confusion([name if name is not None else "(tie)" for name in predictions], rows)


def mistakes(records: list[Row], thumbnails: Thumbnails, most: int | None = None) -> list[Gallery]:
    """The misclassifications of highest probability."""
    misses = [row for row in records if row["prediction"] not in (None, row["target"])]
    surest = sorted(misses, key=lambda row: (-row["score"], row["id"]))[: most or MISTAKES]
    examples = [
        Example(
            thumbnails.of(row["id"]), None, None, f"{row['target']} taken for {row['prediction']} ({row['score']:.2f})"
        )
        for row in surest
    ]
    return [Gallery("Most confident mistakes", "", examples)] if examples else []
