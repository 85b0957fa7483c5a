"""PathVQA (He et al. 2020): questions about pathology images of two textbooks and a digital library.

    data/{train,validation,test}-00000-of-00003.parquet       image {bytes, path}, question, answer

This is the parquet release on the Hugging Face hub (flaviagiammarino/path-vqa, MIT; the images' copyrights are their
owners'). The authors' own release is pickles, which run code when read: they are not read here. An image stands in
every row that asks about it; its id is the start of its sha256. Rows have no ids: a conversation's id is the row's
number in its split, from 0, as `datasets` counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.conversations.parquet_questions import ParquetQuestionSource
from data_prep.conversations.questions import QuestionRow, ask, yes_no_is_closed
from data_prep.errors import BadRow, PrepError
from data_prep.readers.clutter import glob
from data_prep.readers.fields import text_of
from data_prep.source import Dropped
from medvlp.shards.publication import Publication

PREFIXES = {"train": "train", "valid": "validation", "test": "test"}


class PathVqa(ParquetQuestionSource):
    """Reader of PathVQA's parquet files. Raises PrepError if a split has none."""

    name = "pathvqa"
    description = "PathVQA: questions about pathology, the parquet release"
    page = "https://huggingface.co/datasets/flaviagiammarino/path-vqa"
    files = "data/{train,validation,test}-*.parquet"
    publication = Publication(
        title="PathVQA: 30000+ Questions for Medical Visual Question Answering",
        authors="He X. et al.",
        venue="arXiv",
        year=2020,
        url="https://arxiv.org/abs/2003.10286",
    )
    licence = "MIT"
    splits = tuple(PREFIXES)

    def __init__(self, input: str, samples_per_shard: int = 1000) -> None:
        super().__init__(input, samples_per_shard)
        self._files = {
            split: glob(self.folder / "data", f"{PREFIXES[split]}-*.parquet", self.input_counts)
            for split in self.splits
        }
        missing = [f"data/{PREFIXES[split]}-*.parquet" for split in self.splits if not self._files[split]]
        if not input or missing:
            raise PrepError(
                f"input={input or '(not given)'} is not a PathVQA folder: it lacks {', '.join(missing)}; "
                "download the parquet release, not the pickles"
            )

    def tables(self) -> list[Path]:
        """The parquet files of all splits."""
        return [path for split in self.splits for path in self._files[split]]

    def rows(self, split: str) -> Iterator[QuestionRow | Dropped]:
        """Drops: missing_image, missing_, empty_ or bad_<key>, placeholder_count, not_utf8."""
        return self.parquet_rows(split, self._files[split], ["image", "question", "answer"], _row)


def _row(name: str, entry: dict[str, Any]) -> QuestionRow:
    if entry["image"] is None:
        raise BadRow("missing_image", "the row has no image")
    answer = text_of(entry, "answer")
    kinds = {"answer_type": yes_no_is_closed(answer), "language": "en"}
    conversation = ask(text_of(entry, "question"), answer, str(entry["index"]), kinds)
    return QuestionRow(name, (entry["image"],), entry["image"][:16], conversation, {"modality": "pathology"})
