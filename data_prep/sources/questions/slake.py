"""SLAKE (Liu et al., ISBI 2021): questions in English and Chinese about CT, MRI and X-ray images.

    imgs/xmlab102/source.jpg
    imgs/xmlab102/detection.json               [{"Atelectasis": [x, y, width, height]}, ...] in pixels; with options.boxes=true
    train.json, validate.json, test.json       img_id, img_name, question, answer, q_lang, location, modality,
                                               answer_type, base_type, content_type, triple, qid

The publisher splits each language by image, but each in its own way: 142 of the 586 images of train are images of test in
the other language. Anyone who trains on both has seen them; `options.language=en` or `zh` prepares one language, whose splits
share no image. `location` becomes the sample's organ; questions that need the publisher's knowledge graph have base_type
kvqa and a triple other than ["vhead", "_", "_"].
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.conversations.boxes import PublishedBox
from data_prep.conversations.drawn_options import DrawnOptions, DrawnOptionSource
from data_prep.conversations.questions import QuestionRow, QuestionRows, answer_type_of, ask, parse_rows
from data_prep.errors import BadRow, PrepError
from data_prep.readers.fields import Entry, text_of
from data_prep.readers.guarded import digest_file, read_json_list
from data_prep.readers.image_files import read_below
from data_prep.source import Dropped
from medvlp.shards.publication import Publication
from medvlp.shards.schema import strict_json

LANGUAGES = ("en", "zh")
DETECTIONS = "detection.json"
SETS = {"train": "train.json", "valid": "validate.json", "test": "test.json"}


@dataclass(frozen=True)
class SlakeOptions(DrawnOptions):
    """Options of the source slake."""

    language: str = ""
    """en or zh; empty: both."""
    boxes: bool = False
    """Whether to ask where each organ and finding is that detection.json has a box of, in English."""


class Slake(DrawnOptionSource):
    """Reader of a SLAKE folder. Raises PrepError if it lacks a set of questions; images are missed one by one."""

    name = "slake"
    description = "SLAKE: questions in English and Chinese about CT, MRI and X-ray"
    page = "https://www.med-vqa.com/slake/"
    files = "train.json, validate.json, test.json, and imgs/"
    publication = Publication(
        title="SLAKE: A Semantically-Labeled Knowledge-Enhanced Dataset for Medical Visual Question Answering",
        authors="Liu B. et al.",
        venue="ISBI",
        year=2021,
        url="https://arxiv.org/abs/2102.09542",
    )
    licence = "CC-BY-4.0"
    splits = tuple(SETS)
    option_type = SlakeOptions
    flag_option = "language"
    choices: SlakeOptions
    box_language = "en"

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        language = self.choices.language
        if language not in ("", *LANGUAGES):
            languages = " or ".join(LANGUAGES)
            raise PrepError(
                f"options.language={language} is not a language of SLAKE; give {languages}, or none for both"
            )
        self.languages = (language,) if language else LANGUAGES
        if self.choices.boxes and "en" not in self.languages:
            raise PrepError("options.boxes=true asks in English; give options.language=en, or none")
        self.images = self.folder / "imgs"
        missing = [path.name for path in self.tables() if not path.is_file()]
        if not input or missing:
            raise PrepError(
                f"input={input or '(not given)'} is not a SLAKE folder: it lacks {', '.join(missing)}; "
                "unpack the publisher's archives so that images are at imgs/<img_name> next to the json files"
            )

    def tables(self) -> list[Path]:
        """The three sets."""
        return [self.folder / name for name in SETS.values()]

    def rows(self, split: str) -> Iterator[QuestionRow | Dropped]:
        """Drops: bad_row, bad_q_lang, missing_, empty_ or bad_<key>, bad_answer_type, placeholder_count, not_utf8."""
        path = self.folder / SETS[split]

        def parse(name: str, entry: dict[str, Any]) -> QuestionRow | None:
            language = text_of(entry, "q_lang")
            if language not in LANGUAGES:
                raise BadRow("bad_q_lang", f"q_lang is {language!r}, expected {' or '.join(LANGUAGES)}")
            return _row(name, entry, language) if language in self.languages else None

        return parse_rows(path, read_json_list(path), "qid", parse)

    def boxes(self, rows: QuestionRows) -> list[PublishedBox]:
        """Of the image's detection.json. Raises BadRow bad_detection, not_utf8."""
        path = (self.images / rows[0].images[0]).parent / DETECTIONS
        if not self.choices.boxes:
            return []
        if not path.is_file():
            self.counts["read", f"images without {DETECTIONS}"] += 1
            return []
        try:
            objects = strict_json(read_below(self.images, path.relative_to(self.images).as_posix()))
        except (ValueError, RecursionError) as error:
            raise BadRow("bad_detection", f"{path.parent.name}/{DETECTIONS}: {error}") from None
        objects = objects if isinstance(objects, list) else [None]
        boxes = [(label, numbers) for item in objects if isinstance(item, dict) for label, numbers in item.items()]
        if not all(isinstance(item, dict) for item in objects) or not all(isinstance(n, list) for _, n in boxes):
            raise BadRow(
                "bad_detection", f"{path.parent.name}/{DETECTIONS} is no list of {{label: [x, y, width, height]}}"
            )
        return [PublishedBox(label.strip(), tuple(numbers), "xywh") for label, numbers in boxes]

    def fingerprint(self) -> dict[str, str]:
        """With the boxes by content, where they are wanted."""
        digests = super().fingerprint()
        if self.choices.boxes:
            paths = sorted(self.images.glob(f"*/{DETECTIONS}"))
            listing = "\n".join(f"{path.parent.name}\t{digest_file(path)}" for path in paths)
            digests[DETECTIONS] = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
        return digests

    def options(self) -> dict[str, Any]:
        """The languages, and whether boxes are asked for."""
        boxes = {"boxes": True} if self.choices.boxes else {}
        return {**super().options(), "languages": list(self.languages), **boxes}


def _row(name: str, entry: dict[str, Any], language: str) -> QuestionRow:
    triple = entry.get("triple")
    is_plain = isinstance(triple, list) and all(isinstance(part, str) for part in triple)
    if isinstance(entry, Entry) and triple is not None and not is_plain:
        entry.put_back("triple")
    kinds = {
        "question_type": text_of(entry, "content_type"),
        "answer_type": answer_type_of(entry),
        "language": language,
        "base_type": text_of(entry, "base_type"),
        "triple": triple if is_plain else None,
    }
    conversation = ask(text_of(entry, "question"), text_of(entry, "answer"), text_of(entry, "qid"), kinds)
    metadata = {"modality": text_of(entry, "modality"), "organ": text_of(entry, "location")}
    return QuestionRow(name, (text_of(entry, "img_name"),), text_of(entry, "img_id"), conversation, metadata)
