"""PMC-VQA (Zhang et al. 2023): multiple-choice questions about figures of PubMed Central.

    version 1: train.csv, test.csv (test_clean.csv)   Figure_path, Question, Answer, Choice A to D, Answer_label
               images/PMC1064097_F1.jpg               whole figures; answers by text and letter
    version 2: train_2.csv, test_2.csv                index, Figure_path, Caption, Question, Choice A to D, Answer, split
               images_2/PMC8253797_Fig4_11.jpg        panels of compound figures; answers by letter

`options.version` is empty for version 1, clean for version 1 with the test questions that the authors checked by hand,
and 2 for version 2. Choices carry their letter (" A:Diffuse uptake"), which is taken off. Where letter and text of an answer do
not name one choice, the row is dropped. A sample's group is its article. The figures are under the licences of their
articles, which the set does not publish: unknown. Version 1 has no ids: a conversation's id is the row's number, from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.conversations.questions import QuestionRow, QuestionSource, ask, choose, numbered_rows, parse_rows
from data_prep.errors import PrepError
from data_prep.readers.fields import text_of
from data_prep.readers.tables.text_tables import TextTable
from data_prep.source import Dropped, Options
from medvlp.shards.publication import Publication

LETTERS = "ABCD"
COLUMNS = ["Figure_path", "Question", "Answer", *(f"Choice {letter}" for letter in LETTERS)]
VERSIONS = {
    "": ("images", {"train": "train.csv", "test": "test.csv"}),
    "clean": ("images", {"train": "train.csv", "test": "test_clean.csv"}),
    "2": ("images_2", {"train": "train_2.csv", "test": "test_2.csv"}),
}
"""Version → (image folder, split → table)"""

_ARTICLE = re.compile(r"(PMC\d+)_")


@dataclass(frozen=True)
class PmcVqaOptions(Options):
    """Options of the source pmc_vqa."""

    version: str = ""
    """Empty: version 1; clean: version 1 with the test questions that the authors checked by hand; 2: version 2."""


class PmcVqa(QuestionSource):
    """Reader of a PMC-VQA folder. Raises PrepError if it lacks the version's tables or images."""

    name = "pmc_vqa"
    description = "PMC-VQA: multiple choice about figures of PubMed Central"
    page = "https://huggingface.co/datasets/xmcmic/PMC-VQA"
    files = "train.csv, test.csv (version 2: train_2.csv, test_2.csv), and images/ (images_2/)"
    publication = Publication(
        title="PMC-VQA: Visual Instruction Tuning for Medical Visual Question Answering",
        authors="Zhang X. et al.",
        venue="arXiv",
        year=2023,
        url="https://arxiv.org/abs/2305.10415",
    )
    licence = "unknown"
    splits = ("train", "test")
    option_type = PmcVqaOptions
    flag_option = "version"
    choices: PmcVqaOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        self.version = self.choices.version
        if self.version not in VERSIONS:
            raise PrepError(
                f"options.version={self.version} is not a version of PMC-VQA; give clean or 2, or nothing for version 1"
            )
        folder, self.sets = VERSIONS[self.version]
        self.images = self.folder / folder
        missing = [path.name for path in [*self.tables(), self.images] if not path.exists()]
        if not input or missing:
            raise PrepError(
                f"input={input or '(not given)'} is not a PMC-VQA folder: it lacks {', '.join(missing)}; unpack the "
                f"publisher's zip so that images are at {folder}/<Figure_path> next to the csv files"
            )

    def tables(self) -> list[Path]:
        """The csv files of the version."""
        return [self.folder / name for name in self.sets.values()]

    def options(self) -> dict[str, Any]:
        """The version."""
        return {**super().options(), "flag": self.version}

    def rows(self, split: str) -> Iterator[QuestionRow | Dropped]:
        """Drops: bad_row, answer_mismatch, missing_, empty_ or bad_<column>, placeholder_count, not_utf8."""
        path = self.folder / self.sets[split]
        columns = COLUMNS if self.version == "2" else [*COLUMNS, "Answer_label"]
        return parse_rows(path, numbered_rows(TextTable(path, columns)), "Figure_path", _row, "line")


def without_letter(choice: str, letter: str) -> str:
    """ " A:Diffuse uptake" → "Diffuse uptake"; another letter, or none, is part of the text."""
    return re.sub(rf"^\s*{re.escape(letter)}\s*:", "", choice).strip()


def _row(name: str, entry: dict[str, Any]) -> QuestionRow:
    image, answer = text_of(entry, "Figure_path"), text_of(entry, "Answer")
    options = {letter: without_letter(text_of(entry, f"Choice {letter}"), letter) for letter in LETTERS}
    if "Answer_label" in entry:
        letter = text_of(entry, "Answer_label")
        text, kinds = choose(options, letter, without_letter(answer, letter))
    else:
        text, kinds = choose(options, answer, "")
    conversation = ask(text_of(entry, "Question"), text, text_of(entry, "index"), {**kinds, "language": "en"})
    article = _ARTICLE.match(image)
    metadata = {"group": article[1], "group_kind": "article"} if article else {}
    return QuestionRow(name, (image,), image.rpartition(".")[0] or image, conversation, metadata)
