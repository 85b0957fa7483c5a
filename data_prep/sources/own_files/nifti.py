"""Volumes in NIfTI (.nii.gz, .nii), passed on byte for byte, with captions from a table or from labels.

What a header says of shape and type is compared with what the file holds, in bounded memory. Headers also have room for
free text (`descrip`, `aux_file`, `db_name`, `data_type`, `intent_name`, extensions that can hold a whole DICOM header), and
gzip for the original name of the file: for private volumes all of it is blanked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_prep.captions.captioned_files import CaptionedFiles, Row, names_of
from data_prep.errors import PrepError
from data_prep.readers.image_tree import group_pattern, labelled_rows, walk
from data_prep.readers.nifti_volumes import read_volume
from data_prep.readers.tables.named import Table
from data_prep.readers.tables.text import dialect_of
from data_prep.readers.tables.user import Roles, TableRows, refuse_work
from data_prep.readers.unlisted_images import as_read
from data_prep.source import Dropped, digest_file, refuse_flag

ENDINGS = (".nii.gz", ".nii")


class Nifti(CaptionedFiles):
    """Reader of a folder of volumes; .nii are compressed.

    Options: table (a table in the folder, say labels.csv), with file (column of the path, default file), caption or label
    (columns; a label takes label_separator and templates, default generic), group, key, split, licence, modality, texts
    and labels, attribution, author, title, doi, url, encoding, separator, quotes as for the source csv; private (true for
    volumes from patients' records, whose headers are blanked).

    Without a table: <label>/ or <split>/<label>/ as for image_folder, where group is a regular expression on paths.
    """

    name = "nifti"
    tools = ("nibabel",)

    def __init__(
        self,
        input: str,
        samples_per_shard: int = 1000,
        flag: str = "",
        *,
        table: str = "",
        file: str = "file",
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
        if not input or not Path(input).is_dir():
            raise PrepError(f"input={input or '(not given)'} should be a folder of .nii.gz or .nii files")
        opened = Table(Path(input) / table, dialect_of(encoding, separator, quotes)) if table else None
        columns = opened.columns if opened else []
        templates = templates or ("generic" if label or opened is None else "")
        constant = "" if licence in columns else licence
        super().__init__(Path(input), samples_per_shard, templates, constant, private)
        self.roles = Roles(
            **{"image": file, "caption": caption, "label": label, "label_separator": label_separator},
            **{"group": group, "key": key, "split": split, "licence": licence, "modality": modality},
            **{"attribution": attribution, "author": author, "title": title, "doi": doi, "url": url},
            texts=tuple(names_of("texts", texts)),
            labels=tuple(names_of("labels", labels)),
        )
        refuse_work(self.roles, private)
        gaps = self.gaps(columns)
        self.table = TableRows(opened, self.roles, {"image": "file"}, gaps) if opened else None
        self.group = None if opened else group_pattern(group)
        self._check(opened)

    def _check(self, table: Table | None) -> None:
        roles = self.roles
        if table is not None and not roles.caption and not roles.label:
            raise PrepError(
                f"say which column of {table.path.name} holds what is said of a volume: options.caption=<column> or "
                f"options.label=<column>; it has {', '.join(map(repr, table.columns))}"
            )
        about_rows = ("caption", "label", "key", "split", "texts", "labels", *roles.work())
        needless = [role for role in about_rows if getattr(roles, role)]
        if table is None and needless:
            raise PrepError(f"options.{needless[0]} is about a table; name it with options.table=<file in the folder>")

    def options(self) -> dict[str, Any]:
        """Which columns mean what."""
        table = self.table.table.path.relative_to(self.folder).as_posix() if self.table else ""
        read = self.table.table.described() if self.table else {}
        return {**self.shared_options(), **self.roles.described(), "table": table, **read}

    def fingerprint(self) -> dict[str, str]:
        """The table by content, the volumes by their sizes."""
        tables = {self.table.table.path.name: digest_file(self.table.table.path)} if self.table else {}
        return {**tables, "volumes": self.digest_sizes()}

    def rows(self) -> Iterable[tuple[str, Row | Dropped]]:
        """The table's rows and then volumes without a row (dropped as no_table_row); or all files, by their folders."""
        if self.table is None:
            return labelled_rows(self.folder, ENDINGS, self.group, self.roles.modality)
        return self._tabled(self.table)

    def _tabled(self, table: TableRows) -> Iterator[tuple[str, Row | Dropped]]:
        yield from table.rows(self.folder)
        self.planned = table.planned
        named = set(map(as_read, table.images))
        found = sorted(item for item in walk(self.folder) if isinstance(item, str) and item.lower().endswith(ENDINGS))
        for path in found:
            if as_read(path) not in named:
                yield "train", Dropped(path, "no_table_row", f"{table.table.path.name} has no row for it")

    def media(self, row: Row) -> tuple[dict[str, bytes], dict[str, Any]]:
        """The volume, its shape and spacing, and what stood or was blanked in its header."""
        data, described = read_volume(self.folder, row.path, blank=self.private)
        return {"nii.gz": data}, described
