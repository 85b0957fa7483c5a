"""Examples of retrieval: the best and the worst in each direction."""

from medvlp.report.files import Row
from medvlp.report.run.galleries import Example, Examples, Gallery
from medvlp.report.thumbnails import Thumbnails

RETRIEVALS = 4
"""Best, and worst, retrievals on a page in each direction."""

DIRECTIONS = {"image_to_text": "Image to text", "text_to_image": "Text to image"}


def retrieval_examples(records: list[Row], protocol: Row, thumbnails: Thumbnails | None) -> Examples:
    """For each direction the surest hits and the farthest misses."""
    if thumbnails is None:
        return Examples()
    galleries = []
    for direction, title in DIRECTIONS.items():
        rows = [row for row in records if row["direction"] == direction]
        hits = sorted((row for row in rows if row["rank"] == 1), key=lambda row: (-row["score"], row["id"]))
        misses = sorted((row for row in rows if row["rank"] > 1), key=lambda row: (-row["rank"], row["id"]))
        for name, selected in (("best", hits[:RETRIEVALS]), ("worst", misses[:RETRIEVALS])):
            if selected:
                examples = [_example(row, thumbnails, len(rows)) for row in selected]
                galleries.append(Gallery(f"{title}: {name}", direction, examples))
    return Examples(galleries=galleries)


def _example(row: Row, thumbnails: Thumbnails, queries: int) -> Example:
    target, prediction = thumbnails.of(row["target"][0]), thumbnails.of(row["prediction"])
    return Example(thumbnails.of(row["id"]), target, prediction, f"rank {row['rank']} ({queries} queries)")
