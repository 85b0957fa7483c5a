"""Studies in DICOM, as hospitals keep them: any folder, any file names. Nothing that identifies a person gets through.

Files are grouped by study, and patients are kept together (`group`). Every data set is rid of identity before anything is
taken from it for a sample (see `remove_identity`); metadata are in defined terms; images are rendered again. Files,
studies and patients have keyed pseudonyms in their places, in drops as well: `pseudonym(key, "file:" + path)` tells anyone who
has the key and the files which one it was. What the tags know is redacted in reports (`KnownIdentifiers`), and the stages of
text and pixels do the rest.

A report is looked for in the table options.reports (StudyInstanceUID or AccessionNumber; text), then in `<file>.txt`
next to an image, `report.txt` in the study's folder, and structured reports of the study.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from data_prep.deidentify.pseudonym import key_id, load_key, pseudonym
from data_prep.errors import PrepError
from data_prep.readers.guarded import digest_file, digest_listing
from data_prep.readers.tables.encodings import check_encoding
from data_prep.source import Dropped, Source, Unit
from data_prep.sources.own_files.dicom_studies.files import Entry, FileRow, scan
from data_prep.sources.own_files.dicom_studies.options import DicomOptions
from data_prep.sources.own_files.dicom_studies.reports import read_table, unread_columns
from data_prep.sources.own_files.dicom_studies.study import Study
from medvlp.shards import Sample


class Dicom(Source):
    """Reader of a folder of DICOM files. Raises PrepError if it is no folder, or for an option that is none."""

    name = "dicom"
    description = "DICOM studies with reports, de-identified, as PNG"
    files = "DICOM files"
    tools = ("pydicom", "pylibjpeg-openjpeg", "dicom-anonymizer")
    private = True
    option_type = DicomOptions
    choices: DicomOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        self.folder = Path(input)
        if not input or not self.folder.is_dir():
            raise PrepError(f"input={input or '(not given)'} is not a folder; give the one that the DICOM files are in")
        self.choices.check()
        encoding, reports = check_encoding(self.choices.encoding), self.choices.reports
        self.choices = replace(self.choices, encoding=encoding)
        self.table = Path(reports) if reports else None
        self.reports = read_table(self.table, encoding) if self.table else {}
        self.input_counts = unread_columns(self.table, encoding) if self.table else {}
        self.key = load_key(None)

    def options(self) -> dict[str, Any]:
        """The choices, and which key gave the pseudonyms."""
        choices = asdict(self.choices)
        del choices["reports"]  # which are in the fingerprint, by content
        if not choices["encoding"]:
            del choices["encoding"]
        return {**super().options(), **choices, "key_id": key_id(self.key)}

    def fingerprint(self) -> dict[str, str]:
        """Names and sizes of the files, and the table of reports: keyed, because names can be guessed."""
        files = {"files": digest_listing(self.folder)}
        if self.table:
            files["reports"] = digest_file(self.table)
        return {name: pseudonym(self.key, f"digest:{digest}", 52) for name, digest in files.items()}

    def units(self) -> list[Unit]:
        """Whole studies in the order of their files' names, until a unit has samples_per_shard files; a selection is
        [start, stop] of entries, so that no name leaves this process."""
        units: list[Unit] = []
        start = files = 0
        for stop, entry in enumerate(self._entries, start=1):
            files += len(entry)
            if files >= self.samples_per_shard or stop == len(self._entries):
                units.append(Unit("train", len(units), [start, stop]))
                start, files = stop, 0
        return units

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """Samples, or drops.

        bad_path, file_too_large, not_dicom, deflated, no_transfer_syntax, broken_dicom; no_pixels, bad_pixels,
        too_many_pixels, no_decoder, duplicate_instance; report_not_utf8, report_of_several_studies, no_report.
        """
        start, stop = unit.selection
        self.counts = Counter()
        for entry in self._entries[start:stop]:
            if entry[0].fault:
                yield self._dropped(entry[0], *entry[0].fault)
            else:
                report = self._scanned[1].get(entry[0].study, "")
                study = Study(self.folder, self.key, self.choices, entry, self.reports, report)
                yield from study.read()
                self.counts += study.counts

    def _dropped(self, row: FileRow, reason: str, detail: str) -> Dropped:
        return Dropped(pseudonym(self.key, f"file:{row.path}"), reason, detail)

    @cached_property
    def _scanned(self) -> tuple[list[Entry], dict[str, str]]:
        return scan(self.folder)

    @property
    def _entries(self) -> list[Entry]:
        return self._scanned[0]
