"""What every sample goes through: small stages, each `Draft → Draft` or `raise Drop`.

The list of stages with their parameters is data (see `default_stages`): it is written into the manifest and hashed, so
that two data sets with one hash were prepared alike.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from medvlp.shards import Sample

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}
"""Extension → the only decoder that is tried on it."""


class Drop(Exception):
    """A sample leaves here; the ledger counts it under (stage, reason), dropped.jsonl names it."""

    def __init__(self, stage: str, reason: str, detail: str) -> None:
        super().__init__(stage, reason, detail)
        self.stage = stage
        self.reason = reason
        self.detail = detail


@dataclass
class Draft:
    """A sample on its way, with what has been measured of its first image."""

    sample: Sample
    width: int = 0
    height: int = 0
    perceptual_hash: str = ""

    @cached_property
    def pictures(self) -> dict[str, Image.Image]:
        """The images by member name, without volumes. Headers are read here; pixels are decoded once, on first use."""
        from PIL import Image

        opened: dict[str, Image.Image] = {}
        for name, data in self.sample.images.items():
            if name.endswith("nii.gz"):
                continue
            try:
                with warnings.catch_warnings():
                    # Its threshold is not ours: check_images compares with max_pixels before any pixel is decoded.
                    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                    opened[name] = Image.open(io.BytesIO(data), formats=(FORMATS[name.rpartition(".")[2]],))
            except Image.DecompressionBombError as error:
                raise Drop("check_images", "too_many_pixels", f"{name}: {error}") from None
            except Exception as error:  # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error, ...
                raise Drop("check_images", "broken_image", f"{name}: {_first_line(error)}") from None
        return opened


Stage = Callable[[Draft], Draft]


def clean_text(draft: Draft) -> Draft:
    """Every text in NFC, without control characters and direction marks, white space as single blanks."""
    sample = draft.sample
    sample.texts = {name: tidy(text) for name, text in sample.texts.items()}
    for conversation in sample.conversations:
        for turn in conversation.turns:
            turn.text = tidy(turn.text, keep_lines=True)
    return draft


# Marks that steer the direction of text (and zero-width ones) are invisible, survive copying from PDFs, and make equal
# captions differ. Zero-width joiners stay: scripts such as Persian or Devanagari spell with them.
_INVISIBLE = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")


def tidy(text: str, keep_lines: bool = False) -> str:
    """The text as `clean_text` leaves it; keep_lines spares line breaks, which matter in answers with lists."""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFC", text.replace("\r\n", "\n")))
    text = "".join(c if not unicodedata.category(c).startswith("C") or c in "\n\t\u200c\u200d" else " " for c in text)
    if keep_lines:
        return "\n".join(" ".join(line.split()) for line in text.split("\n")).strip()
    return " ".join(text.split())


def need_text(draft: Draft) -> Draft:
    """Drop what says nothing: no caption and no conversation."""
    if not draft.sample.texts.get("caption") and not draft.sample.conversations:
        raise Drop("need_text", "empty_caption", "neither a caption nor a conversation")
    return draft


def check_images(draft: Draft, max_pixels: int, min_side: int) -> Draft:
    """Drop samples with an image that is huge, tiny, blank, or cannot be decoded to its last row."""
    for name, picture in draft.pictures.items():
        width, height = picture.size
        if width * height > max_pixels:
            raise Drop("check_images", "too_many_pixels", f"{name} is {width} × {height}, max_pixels is {max_pixels}")
        if min(width, height) < min_side:
            raise Drop("check_images", "too_small", f"{name} is {width} × {height}, min_side is {min_side}")
        try:
            picture.load()
        except Exception as error:  # as in Draft.pictures: what a broken file raises depends on where it is broken
            raise Drop("check_images", "broken_image", f"{name}: {_first_line(error)}") from None
        if all(low == high for low, high in _extrema(picture)):
            raise Drop("check_images", "blank_image", f"{name}: all its pixels have one value")
    return draft


def _extrema(picture: Image.Image) -> list[tuple[float, float]]:
    if picture.mode == "P":  # palette indices are not values: two indices can be one colour
        picture = picture.convert("RGBA")
    found: Any = picture.getextrema()
    return list(found) if isinstance(found[0], tuple) else [found]


def _first_line(error: Exception) -> str:
    # Pillow names the in-memory file by its address, which would differ from run to run.
    return re.sub(r"<_io\.BytesIO object at 0x[0-9a-f]+>", "the file", str(error).partition("\n")[0]) or repr(error)


def measure(draft: Draft) -> Draft:
    """Width, height (pixels) and 64-bit pHash of the first image, for the table."""
    import imagehash

    if draft.pictures:
        picture = draft.pictures[min(draft.pictures)]
        draft.width, draft.height = picture.size
        if picture.mode.startswith("I"):  # 16 bits: keep the upper 8, as in training; PIL would clip them to white
            picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        draft.perceptual_hash = str(imagehash.phash(picture))
    return draft


STAGES: dict[str, Callable[..., Draft]] = {
    "clean_text": clean_text,
    "need_text": need_text,
    "check_images": check_images,
    "measure": measure,
}


def default_stages(max_pixels: int, min_side: int) -> list[dict[str, Any]]:
    """The stages of every source, in order, as configuration."""
    return [
        {"stage": "clean_text"},
        {"stage": "need_text"},
        {"stage": "check_images", "max_pixels": max_pixels, "min_side": min_side},
        {"stage": "measure"},
    ]


def build_stages(config: list[dict[str, Any]]) -> list[Stage]:
    """The functions that a stage configuration names, with their parameters bound."""
    stages: list[Stage] = []
    for entry in config:
        parameters = {name: value for name, value in entry.items() if name != "stage"}
        stages.append(partial(STAGES[entry["stage"]], **parameters))
    return stages
