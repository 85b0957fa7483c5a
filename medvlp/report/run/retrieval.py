"""Examples of retrieval: the best and the worst in each direction."""

from medvlp.report.files import Row
from medvlp.report.run.galleries import Example, Examples, Gallery
from medvlp.report.shapes import COUNT, NUMBER, TEXT, Shape, list_of
from medvlp.report.thumbnails import Thumbnails

RETRIEVALS = 4
"""Best, and worst, retrievals on a page in each direction."""

DIRECTIONS = {"image_to_text": "Image to text", "text_to_image": "Text to image"}

RECORD = {
    "id": TEXT,
    "target": Shape("a list of at least one string", lambda value: bool(value) and list_of(TEXT).accepts(value)),
    "prediction": TEXT,
    "score": NUMBER,
    "direction": TEXT,
    "rank": COUNT,
}
"""What a record has."""


def retrieval_examples(
    records: list[Row], protocol: Row, thumbnails: Thumbnails | None, most: int | None = None
) -> Examples:
    """For each direction the surest hits and the farthest misses."""
    if thumbnails is None:
        return Examples()
    galleries, count = [], RETRIEVALS if most is None else most // 2
    for direction, title in DIRECTIONS.items():
        rows = [row for row in records if row["direction"] == direction]
        hits = sorted((row for row in rows if row["rank"] == 1), key=lambda row: (-row["score"], row["id"]))
        misses = sorted((row for row in rows if row["rank"] > 1), key=lambda row: (-row["rank"], row["id"]))
        for name, selected in (("best", hits[:count]), ("worst", misses[:count])):
            if selected:
                examples = [_example(row, thumbnails, len(rows)) for row in selected]
                galleries.append(Gallery(f"{title}: {name}", direction, examples))
    return Examples(galleries=galleries)


def _example(row: Row, thumbnails: Thumbnails, queries: int) -> Example:
    target, prediction = thumbnails.of(row["target"][0]), thumbnails.of(row["prediction"])
    return Example(thumbnails.of(row["id"]), target, prediction, f"rank {row['rank']} ({queries} queries)")
