"""Studies in DICOM, as hospitals keep them: any folder, any file names. Nothing that identifies a person gets through.

Files are grouped by study, and patients are kept together (`group`). Every data set is rid of identity before anything is
taken from it for a sample (see `remove_identity`); metadata are in defined terms; images are rendered anew. Files,
studies and patients have keyed pseudonyms in their places, in drops as well: `pseudonym(key, "file:" + path)` tells whoever
has the key and the files which one it was. A report is struck of what the tags know (`Known`), and the stages of text and
pixels do the rest.

A report is looked for in the table options.reports (StudyInstanceUID or AccessionNumber; text), then in `<file>.txt`
beside an image, `report.txt` in the study's folder, and structured reports of the study.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from data_prep.deidentify.pseudonym import key_id, load_key, pseudonym
from data_prep.errors import PrepError
from data_prep.readers.files import digest_listing
from data_prep.readers.tables.encodings import check_encoding
from data_prep.source import Dropped, Unit, digest_file, refuse_flag
from data_prep.sources.own_files.dicom_studies.files import Entry, FileRow, scan
from data_prep.sources.own_files.dicom_studies.pixels import WINDOWS
from data_prep.sources.own_files.dicom_studies.reports import read_table, unread_columns
from data_prep.sources.own_files.dicom_studies.study import Study
from medvlp.shards import Sample

CHOICES: dict[str, tuple[Any, ...]] = {
    "sample": ("image", "study"),
    "frames": ("middle", "first", "all"),
    "depth": (8, 16),
    "window": ("", *WINDOWS),
    "without_report": ("template", "drop"),
}


class Dicom:
    """Reader of a folder of DICOM files. Raises PrepError if it is no folder, or for an option that is none.

    options.sample: image (default): a sample for each image; study: one for each study, with all its images.
    options.window: lung, mediastinum, abdomen, bone, brain, stroke or subdural, for CT; default: the file's own.
    options.depth: 8 (default) or 16 bits of grey.
    options.frames: of an image with several: middle (default), first, or all.
    options.reports: a CSV with the reports, beside the folder's own. options.without_report: template (default: a caption
    from modality, body part and view) or drop. options.max_images: of a study in one sample, evenly chosen (default 32).
    options.licence: what the shards are to say (default "unknown"). options.encoding: of reports that are neither UTF-8 nor
    marked, such as cp1252.
    """

    name = "dicom"
    tools: tuple[str, ...] = ("pydicom", "pylibjpeg-openjpeg", "dicom-anonymizer")
    private = True
    """Comes from patients' records."""

    def __init__(
        self,
        input: str,
        samples_per_shard: int = 1000,
        flag: str = "",
        *,
        sample: str = "image",
        window: str = "",
        depth: int = 8,
        frames: str = "middle",
        reports: str = "",
        without_report: str = "template",
        max_images: int = 32,
        licence: str = "unknown",
        encoding: str = "",
    ) -> None:
        refuse_flag(self.name, flag)
        self.folder = Path(input)
        if not input or not self.folder.is_dir():
            raise PrepError(f"input={input or '(not given)'} is not a folder; give the one that the DICOM files are in")
        self.choices: dict[str, Any] = {
            **{"sample": sample, "frames": frames, "depth": depth, "window": window, "without_report": without_report},
            **{"max_images": max_images, "licence": licence},
            **({"encoding": check_encoding(encoding)} if encoding else {}),
        }
        for option, allowed in CHOICES.items():
            if self.choices[option] not in allowed:
                names = ", ".join(str(value) for value in allowed if value != "")
                raise PrepError(f"options.{option}={self.choices[option]}, expected one of {names}")
        if not isinstance(max_images, int) or max_images < 1:
            raise PrepError(f"options.max_images={max_images}, expected 1 or more")
        self.samples_per_shard = samples_per_shard
        self.table = Path(reports) if reports else None
        self.reports = read_table(self.table, self.choices.get("encoding", "")) if self.table else {}
        self.planned = unread_columns(self.table, self.choices.get("encoding", "")) if self.table else {}
        """Columns of the table that are not read → rows that have them."""
        self.key = load_key(None)
        self.counts: Counter[tuple[str, str]] = Counter()

    def options(self) -> dict[str, Any]:
        """The choices, and which key gave the pseudonyms."""
        return {"samples_per_shard": self.samples_per_shard, **self.choices, "key_id": key_id(self.key)}

    def fingerprint(self) -> dict[str, str]:
        """Names and sizes of the files, and the table of reports: keyed, because names can be guessed."""
        files = {"files": digest_listing(self.folder)}
        if self.table:
            files["reports"] = digest_file(self.table)
        return {name: pseudonym(self.key, f"digest:{digest}", 52) for name, digest in files.items()}

    def units(self) -> list[Unit]:
        """Whole studies in the order of their files' names, until a unit has samples_per_shard files; `what` is
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
        start, stop = unit.what
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
