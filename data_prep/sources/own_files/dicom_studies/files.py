"""DICOM files: finding them below a folder, and opening one as data that nobody vouches for.

What pydicom says about a broken value quotes it, in errors, warnings and log lines. So everything that pydicom does
here runs in `hushed()`, and an error is passed on by the name of its type alone.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import BadRow, PrepError
from data_prep.readers.clutter import SYSTEM_FILE, is_clutter
from data_prep.readers.guarded import regular_only, resolve_below

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_FILE_BYTES = 2 * 2**30
META_BYTES = 64 * 1024
"""Of a file's start, which hold its meta information; that is some hundred bytes."""

SIGNS = ("SOPClassUID", "StudyInstanceUID", "Modality")
"""Attributes of which a data set without a header has to have one to be taken for DICOM."""

DEFLATED = "1.2.840.10008.1.2.1.99"
STRUCTURED_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
"""What the UIDs of their storage classes begin with (PS3.6 annex A)."""

SUFFIXES = (".dcm", ".dicom", ".ima", ".dic")
REPORT = "report.txt"
IDENTIFYING = (
    *("PatientID", "IssuerOfPatientID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SOPInstanceUID"),
    *("SOPClassUID", "InstanceNumber", "AccessionNumber"),
)
"""Attributes that are read of every file to find what belongs together."""

NO_PATIENT = frozenset(("", "0", "anonymous", "anonymized", "anonymised", "anon", "unknown", "none", "n/a", "na"))
"""Patient IDs, in lower case, that name nobody: patients that share one are not one patient."""


@dataclass(frozen=True)
class FileRow:
    """A file below the folder, and where its header says that it belongs."""

    path: str
    """Relative to the folder, with `/`."""
    patient: str = ""
    """Empty: not said."""
    study: str = ""
    series: tuple[int, str] = (0, "")
    """(number, UID)."""
    number: int = 0
    instance: str = ""
    accession: str = ""
    is_report: bool = False
    """A structured report, which has no pixels."""
    fault: tuple[str, str] | None = None
    """(reason, detail) where it is not DICOM."""


Entry = list[FileRow]
"""The files of a study, in order of series and number; or one file that is not DICOM."""


@contextmanager
def hushed() -> Iterator[None]:
    """Keeps pydicom's warnings and log lines, which quote values, from being shown."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def guarded(reason: str, problem: str) -> Iterator[None]:
    """Hushed, and whatever goes wrong is a BadRow that says `problem` and the error's type: nothing that the file says.

    Raises PrepError where it is the system that cannot read: a failing disk is no fault of the file.
    """
    try:
        with hushed():
            yield
    except BadRow:
        raise
    except OSError as error:
        if error.errno is None:  # pydicom's own, about content
            raise BadRow(reason, f"{problem} ({type(error).__name__})") from None
        raise PrepError(f"a file of the input cannot be opened: {error.strerror}; see to its permissions") from None
    except Exception as error:
        raise BadRow(reason, f"{problem} ({type(error).__name__})") from None


def open_dicom(folder: Path, name: str, pixels: bool = True, only: tuple[str, ...] = ()) -> Dataset:
    """The data set in a file, or what comes before its pixels, or of that only some attributes.

    A file without preamble, header or transfer syntax is read as its first element is encoded; `has_assumed_syntax` then says so.
    Raises BadRow: bad_path, file_too_large, not_dicom, deflated, no_transfer_syntax, broken_dicom.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_dataset

    path = checked_path(folder, name)
    with guarded("broken_dicom", "pydicom cannot read it"):
        with open(path, "rb", opener=regular_only) as file:
            start = file.read(META_BYTES)
        has_header = start[128:132] == b"DICM"
        if not has_header and not _begins_as_data_set(start, path.stat().st_size):
            raise BadRow("not_dicom", "the file does not begin as DICOM files or data sets do (PS3.10, PS3.5)")
        # Inflating has no bound in pydicom, and a thousandfold is possible.
        meta = read_dataset(
            io.BytesIO(start[132 if has_header else 0 :]), False, True, stop_when=lambda tag, vr, length: tag.group != 2
        )
        if meta.get("TransferSyntaxUID") == DEFLATED:
            raise BadRow("deflated", "the data set is deflated as a whole; convert it to another transfer syntax")
        dataset = dcmread(
            path, force=True, stop_before_pixels=not pixels, specific_tags=[*only, *SIGNS] if only else None
        )
        if not has_header and not any(keyword in dataset for keyword in SIGNS):
            raise BadRow("not_dicom", "it begins as a data set, but names neither a class, a study nor a modality")
        if "TransferSyntaxUID" not in dataset.file_meta:
            _assume_syntax(dataset)
        return dataset


def _begins_as_data_set(start: bytes, size: int) -> bool:
    """Whether the bytes are an element of a group that comes first, with a type or a length that can be (PS3.5, 7.1)."""
    if len(start) < 8:
        return False
    if start[4:6].isalpha() and start[4:6].isupper():
        return start[:2] in (b"\x02\0", b"\x08\0", b"\0\x08")
    return start[:2] == b"\x08\0" and int.from_bytes(start[4:8], "little") <= size


def _assume_syntax(dataset: Dataset) -> None:
    """Raises BadRow no_transfer_syntax where pixels are compressed, since nothing then says how."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
        raise BadRow(
            "no_transfer_syntax",
            "its pixels are compressed, and TransferSyntaxUID (0002,0010) is missing, which says how; export it again with "
            "the file meta information, or write the UID into the file",
        )
    is_implicit, is_little = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    dataset.assumed_syntax = True


def has_assumed_syntax(dataset: Dataset) -> bool:
    """Whether `open_dicom` had to tell the transfer syntax from the bytes."""
    return bool(getattr(dataset, "assumed_syntax", False))


def checked_path(folder: Path, name: str) -> Path:
    """The path of a regular file below the folder. Raises BadRow bad_path (without the name), file_too_large."""
    try:
        path = resolve_below(folder, name)
        status = os.stat(path)
    except BadRow:
        raise BadRow("bad_path", "a link that leaves the folder, or no name for a file") from None
    except OSError as error:
        raise BadRow("bad_path", f"not there any more, or a link to nowhere ({type(error).__name__})") from None
    if not stat.S_ISREG(status.st_mode):
        raise BadRow("bad_path", "not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise BadRow("file_too_large", f"{status.st_size} bytes, at most {MAX_FILE_BYTES} are read")
    return path


def names_below(folder: Path) -> list[str]:
    """All files below a folder, sorted. DICOMDIR is skipped: it lists the others."""
    names = []
    for parent, _, files in os.walk(folder):
        inner = os.path.relpath(parent, folder)
        names += [name if inner == "." else f"{inner}/{name}" for name in files if name.upper() != "DICOMDIR"]
    return sorted(names, key=os.fsencode)


def scan(folder: Path) -> tuple[list[Entry], dict[str, str]]:
    """(entries in the order of their first file, study → its report.txt).

    Text files that are the report of a study or of an image are no entries. A report.txt speaks of the study whose
    files, and no others, lie in its folder and below.
    """
    names = names_below(folder)
    texts = {name for name in names if name.lower().endswith(".txt")}
    rows = [_row(folder, name) for name in names if name not in texts]
    studies: dict[str, Entry] = defaultdict(list)
    studies_below: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.fault is None:
            studies[row.study].append(row)
            for parent in Path(row.path).parents:
                studies_below[parent.as_posix()].add(row.study)
    reports: dict[str, str] = {}
    image_texts = {text for row in rows if row.fault is None for text in report_names(row.path)}
    for name in sorted(texts):
        studies_here = studies_below.get(Path(name).parent.as_posix(), set())
        if Path(name).name.lower() == REPORT and len(studies_here) == 1:
            reports[next(iter(studies_here))] = name
        elif name not in image_texts:
            is_ambiguous = Path(name).name.lower() == REPORT and studies_here
            rows.append(FileRow(name, fault=_REPORT_OF_SEVERAL if is_ambiguous else _NOT_DICOM))
    entries = [sorted(study, key=_order) for study in studies.values()]
    entries += [[row] for row in rows if row.fault]
    return sorted(entries, key=lambda entry: min(os.fsencode(row.path) for row in entry)), reports


_REPORT_OF_SEVERAL = ("report_of_several_studies", "below the folder of this report.txt lie files of several studies")
_NOT_DICOM = ("not_dicom", "a text file that stands next to no DICOM file of its name")


def report_names(path: str) -> tuple[str, ...]:
    """Names that the report of one image may have."""
    stem = path[: -len(Path(path).suffix)] if Path(path).suffix.lower() in SUFFIXES else path
    return (f"{stem}.txt", f"{path}.txt")


def _row(folder: Path, name: str) -> FileRow:
    if is_clutter(name):
        return FileRow(name, fault=SYSTEM_FILE)
    try:
        header = open_dicom(folder, name, pixels=False, only=IDENTIFYING)
    except BadRow as fault:
        return FileRow(name, fault=(fault.reason, fault.detail))
    with hushed():
        # Without a study, what lies in one folder is taken for one.
        study = _text(header, "StudyInstanceUID") or f"folder:{Path(name).parent.as_posix()}"
        patient = _text(header, "PatientID").casefold()
        issuer = _text(header, "IssuerOfPatientID").casefold()
        return FileRow(
            path=name,
            patient="" if patient in NO_PATIENT else f"{issuer}:{patient}",
            study=study,
            series=(_number(header, "SeriesNumber"), _text(header, "SeriesInstanceUID")),
            number=_number(header, "InstanceNumber"),
            instance=_text(header, "SOPInstanceUID") or f"file:{name}",
            accession=_text(header, "AccessionNumber"),
            is_report=_text(header, "SOPClassUID").startswith(STRUCTURED_REPORTS),
        )


def _order(row: FileRow) -> tuple[Any, ...]:
    return (*row.series, row.number, os.fsencode(row.path))


def _text(dataset: Dataset, keyword: str) -> str:
    try:
        return str(dataset.get(keyword) or "").strip(" \0")
    except Exception:  # a value that cannot be read says nothing
        return ""


def _number(dataset: Dataset, keyword: str) -> int:
    try:
        return int(dataset.get(keyword) or 0)
    except Exception:
        return 0
