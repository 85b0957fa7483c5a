"""Samples of a dataset as small pictures and captions that a page can hold."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from medvlp.data.images.decode import decode_image
from medvlp.shards import BadSample, ShardDataset, ShardError

SIDE = 224
"""Longest side of a thumbnail, pixels."""
MAX_PIXELS = 64_000_000


@dataclass(frozen=True)
class Picture:
    """What a page shows of a sample."""

    key: str
    image: str
    """data: URI of a JPEG; empty where there is no picture, and `problem` says why."""
    caption: str
    problem: str = ""


class Album:
    """Pictures of one dataset by key, read when asked for.

    Args:
        folder: the shard folder.
        manifest_hash: what the results were measured on.
        fields: the texts that make up a caption; None takes all.
    """

    def __init__(self, folder: str, manifest_hash: str, fields: Sequence[str] | None) -> None:
        self.fields = fields
        self.problem = ""
        """Why there are no pictures; empty if there are."""
        try:
            self.dataset = ShardDataset(folder)
        except ShardError as error:
            self.problem = f"Images and captions are left out: {error}."
            return
        if self.dataset.manifest_hash != manifest_hash:
            self.problem = f"Images and captions are left out: {folder} has changed since the evaluation."
            return
        self.rows = {str(key): row for row, key in enumerate(self.dataset.column("key"))}

    def picture(self, key: str) -> Picture:
        """One sample; a key that the dataset lacks is an empty picture with its problem named."""
        if key not in self.rows:
            return Picture(key, "", "", "not in the dataset")
        return picture(self.dataset, self.rows[key], self.fields)


def picture(dataset: ShardDataset, row: int, fields: Sequence[str] | None = None) -> Picture:
    """The first image of a sample, small, with its texts."""
    try:
        sample = dataset.read(row)
    except BadSample as error:
        return Picture(str(dataset.key(row)), "", "", error.reason)
    caption = "\n".join(text for name, text in sample.texts.items() if fields is None or name in fields)
    if not sample.images:
        return Picture(sample.key, "", caption, "no image")
    try:
        return Picture(sample.key, thumbnail(sample.images[min(sample.images)]), caption)
    except BadSample as error:
        return Picture(sample.key, "", caption, error.reason)


def thumbnail(data: bytes) -> str:
    """A small JPEG as a data: URI.

    Raises:
        BadSample: not an image that can be decoded.
    """
    image = decode_image(data, MAX_PIXELS)
    image.thumbnail((SIDE, SIDE))
    small = io.BytesIO()
    image.save(small, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(small.getvalue()).decode()
