"""A table of images with captions, or with labels that templates make captions of.

By default as open_clip reads them: columns `filepath` and `title`. Any separator works, and so do JSON
(a list of objects), JSON lines and parquet.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_prep.captions.captioned_files import CaptionedFiles, Row, names_of
from data_prep.errors import PrepError
from data_prep.readers.files import read_picture
from data_prep.readers.tables.named import Table
from data_prep.readers.tables.text import dialect_of
from data_prep.readers.tables.user import Roles, TableRows, refuse_work
from data_prep.readers.unlisted_images import pictures_without_rows
from data_prep.source import Dropped, digest_file, refuse_flag


class CsvTable(CaptionedFiles):
    """Reader of a table (the input) whose rows name images.

    Options: image (column of the path, default filepath), images (the folder that paths start from, default the table's),
    caption (column, default title unless label is given), label (column) with label_separator (between several labels in
    a cell) and templates (default generic where only labels are given), group (column: the patient), key (column: a
    unique id), split and licence and modality (column, or one value for all), texts and labels (lists of columns to
    keep); attribution, author, title, doi, url (columns about the work that an image is from, for ATTRIBUTION.md);
    encoding (such as cp1252; without it, by the file's mark, else UTF-8), separator (else told by the header) and quotes
    (double, backslash, or none: a quote is a character as any other) of a text table; private (true for patients' records).

    Rows about one image become one sample, with all their captions and labels. A label is missing only where its cell is
    empty: None and NA are classes. Cells that hold lists, in Python's or JSON's writing, are lists.
    """

    name = "csv"

    def __init__(
        self,
        input: str,
        samples_per_shard: int = 1000,
        flag: str = "",
        *,
        image: str = "filepath",
        images: str = "",
        caption: str = "",
        label: str = "",
        label_separator: str = "",
        templates: str = "",
        group: str = "",
        key: str = "",
        split: str = "",
        licence: str = "",
        modality: str = "",
        texts: list[str] | str = "",
        labels: list[str] | str = "",
        attribution: str = "",
        author: str = "",
        title: str = "",
        doi: str = "",
        url: str = "",
        encoding: str = "",
        separator: str = "",
        quotes: str = "double",
        private: bool = False,
    ) -> None:
        refuse_flag(self.name, flag)
        if not input or not Path(input).is_file():
            raise PrepError(
                f"input={input or '(not given)'} should be a table: a .csv, .tsv, .jsonl, .json or .parquet file"
            )
        table = Table(Path(input), dialect_of(encoding, separator, quotes))
        caption = caption or ("" if label else "title")
        templates = templates or ("generic" if label and not caption else "")
        # Of a folder elsewhere only the name is of the data, not where it stands on this machine.
        self.images = Path(images).name if Path(images).is_absolute() else images
        folder = table.path.parent / images
        if not folder.is_dir():
            raise PrepError(f"options.images={images}: {folder} is not a folder")
        constant = "" if licence in table.columns else licence
        super().__init__(folder, samples_per_shard, templates, constant, private)
        self.roles = Roles(
            **{"image": image, "caption": caption, "label": label, "label_separator": label_separator},
            **{"group": group, "key": key, "split": split, "licence": licence, "modality": modality},
            **{"attribution": attribution, "author": author, "title": title, "doi": doi, "url": url},
            texts=tuple(names_of("texts", texts)),
            labels=tuple(names_of("labels", labels)),
        )
        refuse_work(self.roles, private)
        self.table = TableRows(table, self.roles, {}, self.gaps(table.columns))

    def options(self) -> dict[str, Any]:
        """Which columns mean what."""
        return {
            **self.shared_options(),
            **self.roles.described(),
            "images": self.images,
            **self.table.table.described(),
        }

    def fingerprint(self) -> dict[str, str]:
        """The table by content, the images that it names by their sizes."""
        path = self.table.table.path
        return {path.name: digest_file(path), "images": self.digest_sizes()}

    def rows(self) -> Iterable[tuple[str, Row | Dropped]]:
        """The table's rows, gathered by image."""
        rows = self.table.rows(self.folder)
        self.planned = {
            **self.table.planned,
            **pictures_without_rows(self.folder, self.table.images, bool(self.images)),
        }
        return rows

    def media(self, row: Row) -> tuple[dict[str, bytes], dict[str, Any]]:
        """The image, and what it was before, if it had to be encoded anew."""
        picture = read_picture(self.folder, row.path)
        return {picture.extension: picture.data}, picture.described
