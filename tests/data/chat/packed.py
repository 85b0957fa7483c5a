"""Random conversations as tokens, and packing by hand. P: tokens an image."""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from medvlp.data.chat.encoder import Encoded
from medvlp.data.chat.packing import CollateConversations, PackedBatch

IMAGE_ID, PAD_ID, WORDS = 50, 51, 50
P = 4

Item = dict[str, Any]
"""A prepared sample: {"conversations": list of Encoded, "images": (n, 3, S, S)}."""


def encoded(*runs: tuple[list[int], bool]) -> Encoded:
    """A conversation of runs of tokens, each supervised or not; the image token stands P times for each image."""
    ids = [token for tokens, _ in runs for token in tokens]
    supervised = [flag for tokens, flag in runs for _ in tokens]
    return Encoded(np.array(ids, np.int64), np.array(supervised, bool))


def words(least: int, most: int) -> st.SearchStrategy[list[int]]:
    # Few different ones, so that conversations often begin alike by chance.
    return st.lists(st.integers(0, WORDS - 1) | st.integers(0, 1), min_size=least, max_size=most)


@st.composite
def items(draw: st.DrawFn, most_images: int = 2, most_conversations: int = 4, side: int = 2) -> Item:
    """A sample: conversations with a common beginning or none; images in it, before the question, in or after it."""
    images = draw(st.integers(0, most_images))
    early = draw(st.integers(0, images))
    common = draw(st.booleans())
    early = early if common else 0
    beginning = [*draw(words(1, 4)), *[IMAGE_ID] * (P * early), *draw(words(0, 2))] if common else []
    made = []
    for _ in range(draw(st.integers(1, most_conversations))):
        question = [*[IMAGE_ID] * (P * (images - early)), *draw(words(1, 3))]
        if beginning and draw(st.booleans()):
            question = question[:-1] if len(question) == 1 else question[::-1]
        elif draw(st.booleans()):
            question = [*draw(words(1, 2)), *question]
        runs = [(beginning, False), (question, False), (draw(words(1, 4)), True)]
        if draw(st.booleans()):
            runs += [(draw(words(1, 3)), False), (draw(words(1, 3)), True)]
        if draw(st.booleans()):
            runs += [(draw(words(1, 2)), False)]
        made.append(encoded(*runs))
    seed = draw(st.integers(0, 1000))
    pixels = torch.randn(images, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return {"conversations": made, "images": pixels if images else torch.empty(0)}


def rows_of(most_rows: int = 3, most_items: int = 3, **options: int) -> st.SearchStrategy[list[list[Item]]]:
    """The items of each row of a batch."""
    row = st.lists(items(**options), min_size=1, max_size=most_items)
    return st.lists(row, min_size=1, max_size=most_rows)


def collate(
    rows: list[list[Item]], tree: bool, weighting: str = "token", flat: bool = False, total: float | None = None
) -> PackedBatch:
    """The batch of these rows."""
    units, position = [], 0
    supervised = sum(
        int(conversation.supervised.sum()) for row in rows for item in row for conversation in item["conversations"]
    )
    conversations = sum(len(item["conversations"]) for row in rows for item in row)
    whole = {"token": supervised, "sample": conversations}[weighting] if total is None else total
    for row in rows:
        placed = [{"key": f"k{position + i}", "position": position + i, **item} for i, item in enumerate(row)]
        units.append({"items": placed, "bad": [], "total": whole})
        position += len(row)
    return CollateConversations(PAD_ID, IMAGE_ID, P, tree, weighting, flat)(units)
