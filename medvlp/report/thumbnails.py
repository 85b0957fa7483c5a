"""Samples of a dataset as small images and captions that a page can hold."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from medvlp.data.images.decode import decode_image
from medvlp.shards import BadSample, Sample, ShardDataset, ShardError

SIDE = 224
"""Longest side of a thumbnail, pixels."""
MAX_PIXELS = 64_000_000
NO_IMAGE = "no image"
"""The problem of a sample that has none."""


@dataclass(frozen=True)
class Thumbnail:
    """A sample as a page shows it."""

    key: str
    image: str
    """data: URI of a JPEG; empty where there is no image, and `problem` says why."""
    caption: str
    problem: str = ""
    width: int = 0
    height: int = 0
    """Of the picture, pixels."""

    @property
    def has_no_image(self) -> bool:
        """Whether the sample has no image of that position, as texts have none."""
        return self.problem == NO_IMAGE


class Thumbnails:
    """Thumbnails of one dataset by key, read when needed.

    Args:
        folder: the shard folder.
        manifest_hash: what the results were measured on.
        fields: the texts that make up a caption; None takes all.
    """

    def __init__(self, folder: str, manifest_hash: str, fields: Sequence[str] | None) -> None:
        self.fields = fields
        self.problem = ""
        """Why there are no thumbnails; empty if there are."""
        try:
            self.dataset = ShardDataset(folder)
        except ShardError as error:
            self.problem = f"Images and captions are missing: {error}."
            return
        if self.dataset.manifest_hash != manifest_hash:
            self.problem = f"Images and captions are missing: {folder} has changed since the evaluation."
            return
        self.rows = {str(key): row for row, key in enumerate(self.dataset.column("key"))}

    def of(self, key: str, position: int = 0) -> Thumbnail:
        """One sample by its image of a position; a key that the dataset lacks is an empty thumbnail with its problem named."""
        if key not in self.rows:
            return Thumbnail(key, "", "", "not in the dataset")
        return thumbnail_of(self.dataset, self.rows[key], self.fields, position)

    def text_of(self, key: str) -> Sample | None:
        """A sample without its images; None where the dataset lacks it, or it cannot be read."""
        try:
            return self.dataset.read_text(self.rows[key]) if key in self.rows else None
        except BadSample:
            return None


def thumbnail_of(dataset: ShardDataset, row: int, fields: Sequence[str] | None = None, position: int = 0) -> Thumbnail:
    """The first image of a sample (or that of a position, from 0), small, with its texts."""
    try:
        sample = dataset.read(row)
    except BadSample as error:
        return Thumbnail(str(dataset.key(row)), "", "", error.reason)
    caption = "\n".join(text for name, text in sample.texts.items() if fields is None or name in fields)
    if position >= len(sample.images):
        return Thumbnail(sample.key, "", caption, NO_IMAGE)
    try:
        uri, width, height = _small_jpeg(sample.images[sorted(sample.images)[position]])
    except BadSample as error:
        return Thumbnail(sample.key, "", caption, error.reason)
    return Thumbnail(sample.key, uri, caption, width=width, height=height)


def thumbnail(data: bytes) -> str:
    """A small JPEG as a data: URI.

    Raises:
        BadSample: not an image that can be decoded.
    """
    return _small_jpeg(data)[0]


def _small_jpeg(data: bytes) -> tuple[str, int, int]:
    """(data: URI, width, height)."""
    image = decode_image(data, MAX_PIXELS)
    image.thumbnail((SIDE, SIDE))
    small = io.BytesIO()
    image.save(small, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(small.getvalue()).decode(), *image.size
