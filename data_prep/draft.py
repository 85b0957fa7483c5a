"""A sample on its way through the stages (Draft), and how it is dropped (Drop)."""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from medvlp.shards import Sample

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}
"""Extension → the only decoder that is tried on it."""

Counts = Counter[tuple[str, str]]
"""(stage, what was counted) → how often, over a unit. Drops are counted elsewhere, by the ledger."""


class Drop(Exception):
    """A sample is dropped; the ledger counts it under (stage, reason), dropped.jsonl names it."""

    def __init__(self, stage: str, reason: str, detail: str) -> None:
        super().__init__(stage, reason, detail)
        self.stage = stage
        self.reason = reason
        self.detail = detail
        self.name = ""
        """The publisher's name of the sample."""
        self.is_renamed = False
        """The name is fit for the ledger of private data."""
        self.panels = 0
        """Samples that took its place."""


@dataclass
class Draft:
    """A sample on its way, with what has been measured of its first image."""

    sample: Sample
    counts: Counts = field(default_factory=Counter)
    width: int = 0
    height: int = 0
    perceptual_hash: str = ""
    is_renamed: bool = False
    """Its names are pseudonyms, or those of a published work."""
    fingerprint: dict[str, Any] | None = None
    """For deduplication, once `describe` has run."""

    @property
    def name(self) -> str:
        """The publisher's name of it, for the ledger."""
        return str(self.sample.metadata.get("original_name", self.sample.key))

    def count(self, stage: str, subject: str, times: int = 1) -> None:
        """Add to the stage's own counts, which the ledger sums up; never with a text of the sample as the subject."""
        if times:
            self.counts[stage, subject] += times

    @cached_property
    def pictures(self) -> dict[str, Image.Image]:
        """The images by member name, without volumes. Headers are read here; pixels are decoded once, on first use."""
        from PIL import Image

        pictures: dict[str, Image.Image] = {}
        for name, data in self.sample.images.items():
            if name.endswith("nii.gz"):
                continue
            try:
                with warnings.catch_warnings():
                    # Its threshold is not ours: check_images compares with max_pixels before any pixel is decoded.
                    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                    pictures[name] = Image.open(io.BytesIO(data), formats=(FORMATS[name.rpartition(".")[2]],))
            except Image.DecompressionBombError as error:
                raise Drop("check_images", "too_many_pixels", f"{name}: {error}") from None
            except Exception as error:  # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error, ...
                raise Drop("check_images", "broken_image", f"{name}: {first_line(error)}") from None
        return pictures

    def view(self, name: str) -> Image.Image:
        """An image as training sees it: `L` or `RGB`, by the rules of medvlp/data/images/decode.py."""
        from medvlp.data.images.decode import render

        return render(self.pictures[name], self.sample.images[name])[0]

    def replace_images(self, images: dict[str, bytes]) -> None:
        """Give the sample other images, for a stage that had to change pixels; they are decoded again."""
        self.sample.images = images
        self.__dict__.pop("pictures", None)


def first_line(error: Exception) -> str:
    """What an error says, for a drop's detail: the same in every run."""
    # Pillow names the in-memory file by its address, which would differ from run to run.
    return re.sub(r"<_io\.BytesIO object at 0x[0-9a-f]+>", "the file", str(error).partition("\n")[0]) or repr(error)
