"""OmniMedVQA (Hu et al., CVPR 2024): multiple-choice questions made from the labels of public data sets; open-access part.

    QA_information/Open-access/ACRIMA.json     dataset, question_id, question_type, question, gt_answer, image_path,
                                               option_A to option_D (some have fewer), modality_type
    Images/ACRIMA/Im002_ACRIMA.png             as image_path says

It is made for evaluation: its one split is test. The images are under the licences of the data sets that they come from,
which the files do not state: unknown. One entry of the release spells modality_type as modality.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.conversations.questions import QuestionRow, QuestionSource, ask, choose, parse_rows
from data_prep.errors import PrepError
from data_prep.readers.clutter import glob
from data_prep.readers.fields import text_of
from data_prep.readers.guarded import read_json_list
from data_prep.source import Dropped
from medvlp.shards.publication import Publication

LETTERS = "ABCD"


class OmniMedVqa(QuestionSource):
    """Reader of an OmniMedVQA folder. Raises PrepError if it has no open-access questions."""

    name = "omnimedvqa"
    description = "OmniMedVQA: multiple choice, open-access part"
    page = "https://huggingface.co/datasets/foreverbeliever/OmniMedVQA"
    files = "QA_information/Open-access/*.json, and Images/"
    publication = Publication(
        title="OmniMedVQA: A New Large-Scale Comprehensive Evaluation Benchmark for Medical LVLM",
        authors="Hu Y. et al.",
        venue="CVPR",
        year=2024,
        url="https://arxiv.org/abs/2402.09181",
    )
    licence = "unknown"
    splits = ("test",)

    def __init__(self, input: str, samples_per_shard: int = 1000) -> None:
        super().__init__(input, samples_per_shard)
        self.images = self.folder
        self._tables = glob(self.folder / "QA_information" / "Open-access", "*.json", self.input_counts)
        if not input or not self.tables():
            raise PrepError(
                f"input={input or '(not given)'} is not an OmniMedVQA folder: it has no QA_information/Open-access/*.json; "
                "give the folder that the publisher's zip unpacks to, with QA_information/ and Images/"
            )

    def tables(self) -> list[Path]:
        """One file for each data set that questions were made from."""
        return self._tables

    def rows(self, split: str) -> Iterator[QuestionRow | Dropped]:
        """Drops: bad_row, answer_mismatch, missing_, empty_ or bad_<key>, placeholder_count, not_utf8."""
        for path in self.tables():
            yield from parse_rows(path, read_json_list(path), "question_id", _row)


def _row(name: str, entry: dict[str, Any]) -> QuestionRow:
    image = text_of(entry, "image_path")
    keys = {letter: f"option_{letter}" for letter in LETTERS}
    options = {letter: text_of(entry, key) for letter, key in keys.items() if entry.get(key) is not None}
    text, kinds = choose(options, "", text_of(entry, "gt_answer"))
    kinds |= {"question_type": text_of(entry, "question_type"), "language": "en"}
    conversation = ask(text_of(entry, "question"), text, text_of(entry, "question_id"), kinds)
    modality = text_of(entry, "modality_type" if "modality_type" in entry else "modality")
    metadata = {"modality": modality, "collection": text_of(entry, "dataset")}
    return QuestionRow(
        name, (image,), image.removeprefix("Images/").rpartition(".")[0] or image, conversation, metadata
    )
