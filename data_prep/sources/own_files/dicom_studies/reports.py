"""Reports of a study: from a table, a text file next to the images, or a structured report among them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.errors import BadRow, PrepError
from data_prep.readers.tables.encodings import SAVE, detect
from data_prep.readers.tables.text_tables import Dialect, TextTable
from data_prep.sources.own_files.dicom_studies.files import checked_path, guarded

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_REPORT_BYTES = 2**20
MAX_DEPTH = 16
"""Of a structured report's tree."""

TABLE_KEYS = ("StudyInstanceUID", "AccessionNumber")
TABLE_TEXTS = ("text", "report", "findings", "impression")
SECTIONS = {
    "findings": ("findings", "finding", "befund"),
    "impression": ("impression", "impressions", "conclusion", "conclusions", "opinion", "beurteilung"),
}
"""Section that is kept → headings that it goes by."""

_HEADING = re.compile(r"^[ \t]*([A-Za-zÄÖÜäöü][A-Za-zÄÖÜäöü /&()-]{2,40}?)[ \t]*:", re.MULTILINE)


def read_table(path: Path, encoding: str = "") -> dict[str, str]:
    """Study UID or accession number → report. Raises PrepError, which quotes no row.

    encoding: of the table, where no byte order mark tells.
    """
    if not path.is_file():
        raise PrepError(f"options.reports={path} is not a file; give a CSV with {' or '.join(TABLE_KEYS)}, and text")
    reports: dict[str, str] = {}
    for line, _, entry in TextTable(path, dialect=Dialect(encoding, options=("encoding",))).rows():
        if isinstance(entry, BadRow):
            raise PrepError(f"{path} line {line}: {entry.detail}; or remove the row")
        keys = [entry[key].strip() for key in TABLE_KEYS if entry.get(key, "").strip()]
        parts = [(name, entry[name]) for name in TABLE_TEXTS if entry.get(name, "").strip()]
        if not keys or not parts:
            raise PrepError(
                f"{path} line {line}: expected a value for {' or '.join(TABLE_KEYS)}, and one for "
                f"{', '.join(TABLE_TEXTS)}; the columns are {', '.join(entry)}"
            )
        text = "\n".join(value if name in ("text", "report") else f"{name.upper()}: {value}" for name, value in parts)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise PrepError(
                f"{path} line {line} is not UTF-8; {SAVE}, or say options.encoding=cp1252 or another"
            ) from None
        for key in keys:
            if reports.setdefault(key, text) != text:
                raise PrepError(f"{path} line {line}: a second, different report of one study; keep one of them")
    return reports


def unread_columns(path: Path, encoding: str = "") -> dict[str, int]:
    """What `read_table` ignores, as `TextTable.unread` counts it."""
    return TextTable(path, dialect=Dialect(encoding, options=("encoding",))).unread((*TABLE_KEYS, *TABLE_TEXTS))


def read_report(folder: Path, name: str, encoding: str = "") -> str:
    """A text file. Raises BadRow: bad_path, file_too_large, report_not_utf8.

    encoding: of the file, where no byte order mark tells.
    """
    path = checked_path(folder, name)
    with guarded("broken_report", "it cannot be read"), open(path, "rb") as file:
        data = file.read(MAX_REPORT_BYTES + 1)
    if len(data) > MAX_REPORT_BYTES:
        raise BadRow("file_too_large", f"a report of more than {MAX_REPORT_BYTES} bytes")
    try:
        text = detect(path, io.BytesIO(data), encoding)
        return data[text.start :].decode(text.encoding)
    except (PrepError, UnicodeDecodeError):
        problem = f"is not {encoding}" if encoding else "is not UTF-8"
        raise BadRow(
            "report_not_utf8", f"the report {problem}; {SAVE}, or say options.encoding=cp1252 or another"
        ) from None


def structured_text(dataset: Dataset) -> str:
    """The text items of a structured report (PS3.3 C.17.3), each after the name of its concept; names, dates, codes and
    measurements in it are not read. Raises BadRow broken_dicom."""
    with guarded("broken_dicom", "the report's content cannot be read"):
        return "\n".join(_items(dataset, 0))


def _items(dataset: Dataset, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        return
    for item in dataset.get("ContentSequence") or ():
        if item.get("ValueType") == "TEXT" and item.get("TextValue"):
            concept = next(iter(item.get("ConceptNameCodeSequence") or ()), None)
            heading = str(concept.get("CodeMeaning") or "").strip() if concept is not None else ""
            yield f"{heading.upper()}: {item.TextValue}" if heading else str(item.TextValue)
        yield from _items(item, depth + 1)


def sections_of(report: str) -> dict[str, str]:
    """Findings and impression, where headings ("FINDINGS:") tell them apart from the rest; several of one are joined."""
    names = {heading: section for section, headings in SECTIONS.items() for heading in headings}
    headings = list(_HEADING.finditer(report))
    sections: dict[str, list[str]] = {}
    for index, heading in enumerate(headings):
        section = names.get(heading[1].strip().lower())
        if not section:
            continue
        end = next((later.start() for later in headings[index + 1 :] if _ends(later[1], names)), len(report))
        if text := report[heading.end() : end].strip():
            sections.setdefault(section, []).append(text)
    return {section: " ".join(sections[section]) for section in SECTIONS if section in sections}


def _ends(heading: str, names: dict[str, str]) -> bool:
    """A heading ends a section if it is one of ours, or in capitals: "Lungs: clear" goes on."""
    return heading.strip().lower() in names or heading.isupper()


def caption_of(report: str) -> tuple[str, dict[str, str]]:
    """(findings and impression as one text, or the whole report where there are none; the sections)."""
    sections = sections_of(report)
    return "\n".join(sections.values()) or report.strip(), sections
