"""Volumes in NIfTI (.nii.gz, .nii), passed on byte for byte, with captions from a table or from labels.

What a header says of shape and type is compared with what the file holds, in bounded memory. Headers also have room for
free text (`descrip`, `aux_file`, `db_name`, `data_type`, `intent_name`, extensions that can hold a whole DICOM header), and
gzip for the original name of the file: for private volumes all of it is blanked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from data_prep.captions.caption_tables import CaptionTable
from data_prep.captions.captioned_files import CaptionedFile, CaptionedFileSource
from data_prep.captions.labelled_folders import group_pattern, labelled_rows
from data_prep.captions.table_options import TableOptions
from data_prep.errors import PrepError
from data_prep.readers.guarded import digest_file
from data_prep.readers.image_tree import walk
from data_prep.readers.nifti_volumes import read_volume
from data_prep.readers.tables.table_files import TableFile
from data_prep.readers.unlisted_images import as_read
from data_prep.source import Dropped

ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class NiftiOptions(TableOptions):
    """Options of the source nifti: without a table, templates, licence, modality, group and private alone."""

    image_option: ClassVar[str] = "file"

    table: str = ""
    """A table in the folder, say labels.csv; empty: the folders are labels, <label>/ or <split>/<label>/."""
    file: str = "file"
    """Column of the volume's path."""
    templates: str = ""
    """Sentences for labels: a name under configs/templates, or a .yaml file. By default generic where there is a label."""
    group: str = ""
    """Column of the patient. Without a table: a regular expression on paths, whose named group `group` is the patient."""
    private: bool = False
    """Volumes come from patients' records: their headers are blanked, and their names are pseudonyms."""


class Nifti(CaptionedFileSource):
    """A folder of volumes; .nii are compressed.

    Captions or labels come from a table of any form that the source csv reads, or from the folders' names.
    """

    name = "nifti"
    description = "volumes (.nii.gz), with a table of reports or labels"
    files = "NIfTI volumes"
    tools = ("nibabel",)
    option_type = NiftiOptions
    choices: NiftiOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        if not input or not Path(input).is_dir():
            raise PrepError(f"input={input or '(not given)'} should be a folder of .nii.gz or .nii files")
        choices = self.choices
        table = TableFile(self.folder / choices.table, choices.dialect()) if choices.table else None
        columns = table.columns if table else []
        templates = choices.templates or ("generic" if choices.label or table is None else "")
        self.load_captions(templates, "" if choices.licence in columns else choices.licence)
        choices.refuse_people()
        gaps = self.gaps(columns)
        self.table = CaptionTable(table, choices, gaps) if table else None
        self.group = None if table else group_pattern(choices.group)
        self._check(table)

    def _check(self, table: TableFile | None) -> None:
        choices = self.choices
        if table is not None and not choices.caption and not choices.label:
            raise PrepError(
                f"say which column of {table.path.name} holds what is said of a volume: options.caption=<column> or "
                f"options.label=<column>; it has {', '.join(map(repr, table.columns))}"
            )
        about_rows = ("caption", "label", "key", "split", "texts", "labels", *choices.work())
        needless = [option for option in about_rows if getattr(choices, option)]
        if table is None and needless:
            raise PrepError(f"options.{needless[0]} is about a table; name it with options.table=<file in the folder>")

    def options(self) -> dict[str, Any]:
        """Which columns mean what."""
        table = self.table.table.path.relative_to(self.folder).as_posix() if self.table else ""
        form = self.table.table.text_form() if self.table else {}
        return {**super().options(), **self.choices.roles(), "table": table, **form}

    def fingerprint(self) -> dict[str, str]:
        """The table by content, the volumes by their sizes."""
        tables = {self.table.table.path.name: digest_file(self.table.table.path)} if self.table else {}
        return {**tables, "volumes": self.digest_sizes()}

    def rows(self) -> Iterable[tuple[str, CaptionedFile | Dropped]]:
        """The table's rows and then volumes without a row (dropped as no_table_row); or all files, by their folders."""
        if self.table is None:
            return labelled_rows(self.folder, ENDINGS, self.group, self.choices.modality)
        return self._tabled(self.table)

    def _tabled(self, table: CaptionTable) -> Iterator[tuple[str, CaptionedFile | Dropped]]:
        yield from table.rows(self.folder)
        self.input_counts = table.input_counts
        images = set(map(as_read, table.images))
        files = sorted(item for item in walk(self.folder) if isinstance(item, str) and item.lower().endswith(ENDINGS))
        for path in files:
            if as_read(path) not in images:
                yield "train", Dropped(path, "no_table_row", f"{table.table.path.name} has no row for it")

    def media(self, row: CaptionedFile) -> tuple[dict[str, bytes], dict[str, Any]]:
        """The volume, its shape and spacing, and what stood or was blanked in its header."""
        data, metadata = read_volume(self.folder, row.path, blank=self.private)
        return {"nii.gz": data}, metadata
