"""Quilt-1M (Ikezogwo et al., NeurIPS 2023): frames and pictures of histopathology with captions.

    quilt_1M_lookup.csv     caption, image_path, subset, split, pathology, roi_text, noisy_text, corrected_text,
                            med_umls_ids, magnification, height, width, single_wsi, not_histology
    quilt_1m/ or images/    <YouTube id>_image_<uuid>.jpg in subset quilt; openpath, pubmed and laion by names of their own

An image stands in several rows, one a caption: they become one sample with `caption`, `caption_1`, ... in the table's
order, and what the rows say besides joined, each sentence once, in `roi_text`, `noisy_text` (speech as recognised) and
`corrected_text`. Lists are written as Python writes them; a missing value is empty or "nan".

A sample's group is its video, or its article where the name tells one, else the image; frames of one video look similar.
The publisher's split is by row: where the rows of an image disagree, the first counts, and `published_split` names both.
The set comes under terms of its own, and its parts under those of their authors: the licence is unknown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.errors import BadRow, PrepError
from data_prep.readers.fields import plain, text_of
from data_prep.readers.image_files import ShardImage
from data_prep.readers.tables.cells import list_in
from data_prep.readers.tables.indexed_tables import ImageTableSource, TableRow
from data_prep.readers.tables.text_tables import TextTable
from data_prep.source import Options
from data_prep.vocabulary.text import NO_VALUE, says_nothing
from medvlp.shards import Sample, make_key
from medvlp.shards.publication import Publication

TABLE = "quilt_1M_lookup.csv"
COLUMNS = ("caption", "image_path", "subset", "split")
"""Those that every release has."""

IMAGE_FOLDERS = ("quilt_1m", "images")
SPLITS = {"train": "train", "val": "valid", "test": "test"}
TEXTS = ("roi_text", "noisy_text", "corrected_text")
NUMBERS = ("magnification", "single_wsi", "not_histology")

_FRAME = re.compile(r"(?P<video>[A-Za-z0-9_-]{11})_image_(?P<frame>.+)\.jpg")
_ARTICLE = re.compile(r"PMC\d+")
_CUI = re.compile(r"C\d{7}")


@dataclass(frozen=True)
class QuiltOptions(Options):
    """Options of the source quilt."""

    images: str = ""
    """The folder of the images below the input, where it has another name."""
    not_histology: str = "keep"
    """What becomes of images that the publisher found to be no histology: keep, with a label that says so, or drop."""


class Quilt(ImageTableSource):
    """Reader of a Quilt-1M folder. Raises PrepError if it lacks the table or the images."""

    name = "quilt"
    description = "Quilt-1M: histopathology with several texts an image"
    page = "https://quilt1m.github.io"
    files = "quilt_1M_lookup.csv, and the images in quilt_1m/"
    publication = Publication(
        title="Quilt-1M: One Million Image-Text Pairs for Histopathology",
        authors="Ikezogwo W. O. et al.",
        venue="NeurIPS Datasets and Benchmarks",
        year=2023,
        url="https://arxiv.org/abs/2306.11207",
    )
    licence = "unknown"

    option_type = QuiltOptions
    choices: QuiltOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        images = self.choices.images
        if self.choices.not_histology not in ("keep", "drop"):
            raise PrepError(f"options.not_histology={self.choices.not_histology} should be keep or drop")
        if ".." in Path(images).parts or Path(images).is_absolute():
            raise PrepError(f"options.images={images} is not a folder below the input; give its path from there")
        names = (images,) if images else IMAGE_FOLDERS
        folders = [self.folder / name for name in names if (self.folder / name).is_dir()]
        missing = [] if (self.folder / TABLE).is_file() else [TABLE]
        missing += [] if folders else [f"{names[0]}/"]
        if not input or missing:
            raise PrepError(
                f"input={input or '(not given)'} is not a Quilt-1M folder: it lacks {', '.join(missing)}; unpack the "
                f"publisher's images_part_*.zip next to {TABLE}"
            )
        self.tables = [TextTable(self.folder / TABLE, COLUMNS)]
        self.images = folders[0]

    def options(self) -> dict[str, Any]:
        """What becomes of images that are no histology."""
        return {**super().options(), "not_histology": self.choices.not_histology}

    def image_of(self, entry: dict[str, Any]) -> str:
        """Raises BadRow: empty_image_path, not_utf8."""
        return text_of(entry, "image_path")

    def split_of(self, table: int, entry: dict[str, Any]) -> str:
        """Raises BadRow bad_split."""
        split = entry["split"].strip()
        if split not in SPLITS:
            raise BadRow("bad_split", f"split is {split[:40]!r}, expected one of {', '.join(SPLITS)}")
        return SPLITS[split]

    def check(self, entry: dict[str, Any]) -> None:
        """Raises BadRow: missing_caption, long_caption, not_utf8, not_histology."""
        if says_nothing(entry["caption"]):
            raise BadRow("missing_caption", f"caption is {entry['caption'].strip()[:40] or 'empty'}")
        text_of(entry, "caption")
        if self.choices.not_histology == "drop" and number_of(entry.get("not_histology", "")):
            raise BadRow("not_histology", "the publisher found that the image is no histology")

    def sample(self, rows: list[TableRow], picture: ShardImage, unit_facts: dict[str, Any]) -> Sample:
        """All rows of an image; labels that are single values are the first row's."""
        entries = [row.entry for row in rows]
        first = entries[0]
        image = self.image_of(first)
        frame, article = _FRAME.fullmatch(image), _ARTICLE.match(image)
        group, kind = (frame["video"], "video") if frame else (article[0], "article") if article else (image, "image")
        captions = dict.fromkeys(text_of(entry, "caption") for entry in entries)
        texts = {f"caption_{number}" if number else "caption": text for number, text in enumerate(captions)}
        for column in TEXTS:
            sentences = dict.fromkeys(text for entry in entries for text in sentences_of(entry.get(column, "")))
            texts |= {column: "\n".join(sentences)} if sentences else {}
        concepts = [concept for entry in entries for concept in _concepts(list_in(entry.get("med_umls_ids", "")))]
        labels: dict[str, Any] = {
            "pathology": _unique(text for entry in entries for text in sentences_of(entry.get("pathology", ""))),
            "concepts": _unique(text for text in concepts if _CUI.fullmatch(text)),
            "entities": _unique(text for text in concepts if not _CUI.fullmatch(text)),
        }
        for name in NUMBERS:
            value = number_of(first.get(name, ""))
            if value is None:
                first.put_back(name)
            else:
                labels[name] = value
        return Sample(
            key=make_key(self.name, frame["video"], frame["frame"]) if frame else make_key(self.name, image),
            images={picture.extension: picture.data},
            texts=texts,
            labels={name: value for name, value in labels.items() if value != []},
            metadata={
                "source": self.name,
                "licence": self.licence,
                "group": group,
                "group_kind": kind,
                "original_name": image,
                "modality": "pathology",
                "subset": plain(first["subset"]) or "unknown",
                "published_split": "+".join(dict.fromkeys(entry["split"].strip() for entry in entries)),
                **({"article": article[0]} if article else {}),
                **({"url": f"https://www.youtube.com/watch?v={group}"} if frame else {}),
                **picture.metadata,
            },
        )


def number_of(text: str) -> float | None:
    """1.5, 0.0, True → 1.5, 0, 1; None where there is no number."""
    try:
        value = float({"true": "1", "false": "0"}.get(text.strip().lower(), text))
    except ValueError:
        return None
    return None if not math.isfinite(value) else int(value) if value.is_integer() else value


def sentences_of(text: str) -> list[str]:
    """The texts of a list, or the text itself where it is no list; nothing where it is missing."""
    items = list_in(text)
    items = [text] if items is None else items
    texts = [item for item in map(plain, items) if isinstance(item, str)]
    return [item for item in texts if item and item.lower() not in NO_VALUE]


def _concepts(value: Any) -> Iterator[str]:
    """The texts in a nest of lists and of objects with `entity`: identifiers and names."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, list | tuple):
            stack += reversed(item)
        elif isinstance(item, dict):
            name = plain(item.get("entity"))
            stack += [part for part in item.values() if isinstance(part, list | tuple) or _is_cui(part)][::-1]
            if isinstance(name, str) and name and not _is_cui(name):
                yield name
        elif isinstance(item, str) and plain(item):
            yield plain(item)


def _is_cui(value: Any) -> bool:
    return isinstance(value, str) and _CUI.fullmatch(value) is not None


def _unique(texts: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(texts))
