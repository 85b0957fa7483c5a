"""Redaction of a report by the patient's own DICOM tags: names, numbers, dates and places known for certain.

Patterns and lists (see `text`) have to guess what is a name; the file next to the report knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

NUMBER_KEYWORDS = frozenset(
    ("PatientID", "AccessionNumber", "StudyID", "IssuerOfPatientID", "OtherPatientIDs", "AdmissionID", "ServiceEpisodeID",
     "PatientTelephoneNumbers", "MedicalRecordLocator", "RequestedProcedureID", "ScheduledProcedureStepID",
     "FillerOrderNumberImagingServiceRequest", "PlacerOrderNumberImagingServiceRequest", "DeviceSerialNumber",
     "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
)  # fmt: skip
HOSPITAL_KEYWORDS = frozenset(
    ("InstitutionName", "InstitutionAddress", "PatientAddress", "StationName", "InstitutionalDepartmentName",
     "CurrentPatientLocation", "PatientInstitutionResidence")
)  # fmt: skip
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
MIN_NUMBER = 3
"""Characters; a shorter number stands everywhere."""


@dataclass
class KnownIdentifiers:
    """Identifiers of a case, by the word that takes their place; fill it from every file of the case."""

    strings: dict[str, set[str]] = field(default_factory=lambda: {"NAME": set(), "ID": set(), "HOSPITAL": set()})
    dates: set[str] = field(default_factory=set)
    """YYYYMMDD."""

    def add(self, dataset: Dataset) -> None:
        """Learn from a data set that still has its identifying tags."""
        for element in _elements(dataset):
            values = [str(value).strip() for value in _values(element)]
            if element.VR == "PN":
                self.strings["NAME"] |= {part for value in values for part in re.split(r"[\^=\s,]+", value) if part}
            elif element.VR == "DA":
                self.dates |= {value for value in values if re.fullmatch(r"(19|20)\d{6}", value)}
            elif element.keyword in NUMBER_KEYWORDS:
                self.strings["ID"] |= {value for value in values if len(value) >= MIN_NUMBER}
            elif element.keyword in HOSPITAL_KEYWORDS:
                self.strings["HOSPITAL"] |= {value for value in values if len(value) >= MIN_NUMBER}

    def redact(self, text: str) -> tuple[str, int]:
        """(the text with [NAME], [ID], [DATE], [HOSPITAL] in place of what is known, how many times)."""
        replacements = 0
        for kind, pattern in self._patterns():
            text, times = pattern.subn(f"[{kind}]", text)
            replacements += times
        return text, replacements

    def _patterns(self) -> Iterator[tuple[str, re.Pattern[str]]]:
        # Longest first: of an address that contains a name, no half may be left. Names last, they are the shortest.
        for kind in ("HOSPITAL", "ID"):
            if self.strings[kind]:
                alternatives = [
                    re.escape(identifier).replace(r"\ ", r"\s+") for identifier in _longest(self.strings[kind])
                ]
                yield kind, _whole_words(alternatives, re.IGNORECASE)
        if self.dates:
            yield "DATE", _whole_words([form for date in sorted(self.dates) for form in _written(date)], re.IGNORECASE)
        names = self.strings["NAME"]
        if long := [name for name in _longest(names) if len(name) > 2]:
            yield "NAME", _whole_words(map(re.escape, long), re.IGNORECASE)
        if short := [name for name in _longest(names) if len(name) == 2]:
            # As words, "an" and "he" are not Ms An and Mr He; a single letter is an initial and says little.
            yield "NAME", _whole_words([re.escape(form) for name in short for form in (name.upper(), name.title())], 0)


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    for tag in list(dataset.keys()):
        if tag.is_private:
            continue
        try:
            element = dataset[tag]
        except Exception:  # a value that cannot be read cannot stand in a report either
            continue
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _elements(item)
        else:
            yield element


def _values(element: DataElement) -> list[object]:
    value = element.value
    if value is None:
        return []
    return list(value) if element.VM > 1 else [value]


def _longest(strings: set[str]) -> list[str]:
    return sorted(strings, key=lambda string: (-len(string), string))


def _whole_words(alternatives: Iterable[str], flags: int) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{'|'.join(alternatives)})(?!\w)", flags)


def _written(date: str) -> Iterator[str]:
    """Patterns of the ways in which a date is written: 20240305, 2024-03-05, 5.3.2024, 03/05/24, March 5, 2024, ..."""
    year, month, day = date[:4], int(date[4:6]), int(date[6:])
    if not 1 <= month <= 12:
        return
    years, months, days = rf"(?:{year}|{year[2:]})", f"0?{month}", f"0?{day}"
    name = rf"{MONTHS[month - 1][:3]}(?:{MONTHS[month - 1][3:]}|\.)?"
    yield date
    yield rf"{year}[-/.]{months}[-/.]{days}"
    yield rf"{days}[-/. ]{months}[-/. ]{years}"
    yield rf"{months}[-/. ]{days}[-/. ]{years}"
    yield rf"{name}\s+{days}(?:st|nd|rd|th)?,?\s+{years}"
    yield rf"{days}(?:st|nd|rd|th|\.)?[\s-]+{name},?[\s-]+{years}"
