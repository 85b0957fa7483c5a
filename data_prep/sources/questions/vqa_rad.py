"""VQA-RAD (Lau et al., Scientific Data 2018): clinicians' questions about radiology images.

    images/synpic12345.jpg
    trainset.json, testset.json            the split that most papers report on (3,064 and 451 questions), or
    VQA_RAD_Dataset_Public.json            the release on OSF; test questions are those with "test" in phrase_type

The publisher splits by question, so 203 images of the 314 are asked about in train and in test; no image is new in
test. That is kept, since every published figure rests on it. Organs are HEAD, CHEST and ABD; question types may be
several, joined by commas, and are the publisher's with their misspellings.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.conversations.drawn_options import DrawnOptionSource
from data_prep.conversations.questions import QuestionRow, answer_type_of, ask, parse_rows
from data_prep.errors import PrepError
from data_prep.readers.fields import text_of
from data_prep.readers.guarded import read_json_list
from data_prep.source import Dropped
from medvlp.shards.publication import Publication

SETS = {"train": "trainset.json", "test": "testset.json"}
RELEASE = "VQA_RAD_Dataset_Public.json"


class VqaRad(DrawnOptionSource):
    """Reader of a VQA-RAD folder. Raises PrepError if it lacks the images or has neither form of the questions."""

    name = "vqa_rad"
    description = "VQA-RAD: clinicians' questions about radiology images"
    page = "https://osf.io/89kps/"
    files = "VQA_RAD_Dataset_Public.json, or trainset.json and testset.json; and the folder of images"
    publication = Publication(
        title="A dataset of clinically generated visual questions and answers about radiology images",
        authors="Lau J. J. et al.",
        venue="Scientific Data",
        year=2018,
        url="https://doi.org/10.1038/sdata.2018.251",
    )
    licence = "CC0-1.0"
    splits = ("train", "test")

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        self.images = self.folder / "images"
        files = [name for name in (*SETS.values(), RELEASE) if (self.folder / name).is_file()]
        self.is_release = files == [RELEASE]
        if not input or not self.images.is_dir() or not (self.is_release or set(SETS.values()) <= set(files)):
            raise PrepError(
                f"input={input or '(not given)'} is not a VQA-RAD folder: it needs images/ and either "
                f"{' and '.join(SETS.values())} or {RELEASE}; found {', '.join(files) or 'none of these files'}"
            )

    def tables(self) -> list[Path]:
        """The two sets, or the release."""
        return [self.folder / name for name in ([RELEASE] if self.is_release else SETS.values())]

    def rows(self, split: str) -> Iterator[QuestionRow | Dropped]:
        """Drops: bad_row, missing_, empty_ or bad_<key>, bad_answer_type, placeholder_count, not_utf8."""
        path = self.folder / (RELEASE if self.is_release else SETS[split])

        def parse(name: str, entry: dict[str, Any]) -> QuestionRow | None:
            return None if self.is_release and _split_of(entry) != split else _row(name, entry)

        return parse_rows(path, read_json_list(path), "qid", parse)


def _split_of(entry: dict[str, Any]) -> str:
    return "test" if "test" in str(entry.get("phrase_type")) else "train"


def _row(name: str, entry: dict[str, Any]) -> QuestionRow:
    image = text_of(entry, "image_name")
    kinds = {
        "question_type": text_of(entry, "question_type"),
        "answer_type": answer_type_of(entry),
        "language": "en",
        "phrase_type": text_of(entry, "phrase_type"),
    }
    conversation = ask(text_of(entry, "question"), text_of(entry, "answer"), text_of(entry, "qid"), kinds)
    return QuestionRow(
        name, (image,), image.rpartition(".")[0] or image, conversation, {"organ": text_of(entry, "image_organ")}
    )
