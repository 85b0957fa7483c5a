"""Kvasir-VQA (Gautam et al. 2024): questions about endoscopy of the gut, on images of HyperKvasir and Kvasir-Instrument.

    data/*.parquet                         image {bytes, path}, source, question, answer, img_id    or, as its card
    metadata.csv, images/<img_id>.jpg      source, question, answer, img_id                         says how to export

The publisher has one split, `raw`, which becomes train. Questions have no ids: a conversation's id is the row's number
from 0, as `datasets` counts. Of rows with one img_id, the first row's image is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.conversations.parquet_questions import ParquetQuestionSource
from data_prep.conversations.questions import (
    QuestionRow,
    QuestionSource,
    ask,
    numbered_rows,
    parse_rows,
    yes_no_is_closed,
)
from data_prep.errors import PrepError
from data_prep.readers.clutter import glob
from data_prep.readers.fields import text_of
from data_prep.readers.image_files import read_image
from data_prep.readers.tables.text_tables import TextTable
from data_prep.source import Dropped
from medvlp.shards.publication import Publication

COLUMNS = ["source", "question", "answer", "img_id"]


class KvasirVqa(ParquetQuestionSource):
    """Reader of either form. Raises PrepError if the folder holds neither."""

    name = "kvasir_vqa"
    description = "Kvasir-VQA: questions about endoscopy of the gut"
    page = "https://huggingface.co/datasets/SimulaMet-HOST/Kvasir-VQA"
    files = "data/*.parquet, or metadata.csv and images/"
    publication = Publication(
        title="Kvasir-VQA: A Text-Image Pair GI Tract Dataset",
        authors="Gautam S. et al.",
        venue="VLM4Bio, ACM Multimedia workshop",
        year=2024,
        url="https://arxiv.org/abs/2409.01437",
    )
    licence = "CC-BY-NC-4.0"
    splits = ("train",)

    def __init__(self, input: str, samples_per_shard: int = 1000) -> None:
        super().__init__(input, samples_per_shard)
        self.images = self.folder / "images"
        self.parquets = glob(self.folder / "data", "*.parquet", self.input_counts)
        if not input or not (self.parquets or (self.folder / "metadata.csv").is_file()):
            raise PrepError(
                f"input={input or '(not given)'} is not a Kvasir-VQA folder: it has neither data/*.parquet nor "
                "metadata.csv with images/<img_id>.jpg"
            )

    def tables(self) -> list[Path]:
        """The parquet files; without them, the csv."""
        return self.parquets or [self.folder / "metadata.csv"]

    def rows(self, split: str) -> Iterator[QuestionRow | Dropped]:
        """Drops: bad_row, missing_, empty_ or bad_<key>, placeholder_count, not_utf8, missing_image, bad_path."""
        if self.parquets:
            return self.parquet_rows(split, self.parquets, COLUMNS, _row)
        (path,) = self.tables()
        return parse_rows(path, numbered_rows(TextTable(path, COLUMNS)), "img_id", _row, "line")

    def image(self, split: str, name: str) -> tuple[str, bytes]:
        """From the parquet file, or from images/."""
        return super().image(split, name) if self.parquets else read_image(self.images, name)

    def fingerprint(self) -> dict[str, str]:
        """Of the form that is read."""
        return super().fingerprint() if self.parquets else QuestionSource.fingerprint(self)


def _row(name: str, entry: dict[str, Any]) -> QuestionRow:
    image_id, answer = text_of(entry, "img_id"), text_of(entry, "answer")
    kinds = {"answer_type": yes_no_is_closed(answer), "language": "en"}
    conversation = ask(text_of(entry, "question"), answer, str(entry["index"]), kinds)
    metadata = {"modality": "endoscopy", "collection": text_of(entry, "source")}
    return QuestionRow(name, (f"{image_id}.jpg",), image_id, conversation, metadata)
