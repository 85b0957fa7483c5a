"""A table of images with captions, or with labels that templates make captions of.

By default as open_clip reads them: columns `filepath` and `title`. Any separator will do, and so will JSON
(a list of objects), JSON lines and parquet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_prep.captions.caption_tables import CaptionTable
from data_prep.captions.captioned_files import CaptionedFile, CaptionedFileSource
from data_prep.captions.table_options import TableOptions
from data_prep.errors import PrepError
from data_prep.readers.guarded import digest_file
from data_prep.readers.image_files import read_shard_image
from data_prep.readers.tables.table_files import TableFile
from data_prep.readers.unlisted_images import pictures_without_rows
from data_prep.source import Dropped


@dataclass(frozen=True)
class CsvOptions(TableOptions):
    """Options of the source csv."""

    image: str = "filepath"
    """Column of the image's path."""
    images: str = ""
    """The folder that paths start from; empty: the table's."""
    caption: str = ""
    """Column of the caption; by default title, unless label is given."""


class Csv(CaptionedFileSource):
    """A table (the input) whose rows name images.

    Rows about one image become one sample, with all their captions and labels. Cells that hold lists, in Python's or
    JSON's writing, are lists.
    """

    name = "csv"
    description = "a table of images with captions, or with labels for templates"
    files = "a table whose rows name images, and the images"
    option_type = CsvOptions
    choices: CsvOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        if not input or not Path(input).is_file():
            raise PrepError(
                f"input={input or '(not given)'} should be a table: a .csv, .tsv, .jsonl, .json or .parquet file"
            )
        choices = self.choices
        table = TableFile(Path(input), choices.dialect())
        self.choices = replace(choices, caption=choices.caption or ("" if choices.label else "title"))
        self.folder = table.path.parent / choices.images
        if not self.folder.is_dir():
            raise PrepError(f"options.images={choices.images}: {self.folder} is not a folder")
        templates = choices.templates or ("generic" if choices.label and not self.choices.caption else "")
        self.load_captions(templates, "" if choices.licence in table.columns else choices.licence)
        self.choices.refuse_people()
        self.table = CaptionTable(table, self.choices, self.gaps(table.columns))

    def options(self) -> dict[str, Any]:
        """Which columns mean what."""
        # Of a folder elsewhere only the name is of the data, not where it stands on this machine.
        images = self.choices.images
        images = Path(images).name if Path(images).is_absolute() else images
        return {**super().options(), **self.choices.roles(), "images": images, **self.table.table.text_form()}

    def fingerprint(self) -> dict[str, str]:
        """The table by content, the images that it names by their sizes."""
        path = self.table.table.path
        return {path.name: digest_file(path), "images": self.digest_sizes()}

    def rows(self) -> Iterable[tuple[str, CaptionedFile | Dropped]]:
        """The table's rows, gathered by image."""
        rows = self.table.rows(self.folder)
        self.input_counts = {
            **self.table.input_counts,
            **pictures_without_rows(self.folder, self.table.images, bool(self.choices.images)),
        }
        return rows

    def media(self, row: CaptionedFile) -> tuple[dict[str, bytes], dict[str, Any]]:
        """The image, and what it was before, if it had to be encoded again."""
        picture = read_shard_image(self.folder, row.path)
        return {picture.extension: picture.data}, picture.metadata
