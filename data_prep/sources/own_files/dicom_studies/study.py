"""One DICOM study: from its files to samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data_prep.deidentify.dicom_tags import described, remove_identity
from data_prep.deidentify.known_identifiers import KnownIdentifiers
from data_prep.deidentify.pseudonym import pseudonym
from data_prep.errors import BadRow
from data_prep.png import encode_png
from data_prep.source import Dropped
from data_prep.sources.own_files.dicom_studies.files import (
    Entry,
    FileRow,
    guarded,
    has_assumed_syntax,
    open_dicom,
    report_names,
)
from data_prep.sources.own_files.dicom_studies.options import DicomOptions
from data_prep.sources.own_files.dicom_studies.pixels import WINDOWS, frames_of, render
from data_prep.sources.own_files.dicom_studies.reports import caption_of, read_report, structured_text
from medvlp.shards import Sample, make_key

MODALITY_NAMES = {
    **{"CT": "CT image", "MR": "MRI", "CR": "X-ray", "DX": "X-ray", "RG": "X-ray", "RF": "fluoroscopy image"},
    **{"MG": "mammogram", "US": "ultrasound image", "XA": "angiogram", "PT": "PET image", "NM": "scintigram"},
    **{"OP": "fundus photograph", "OPT": "optical coherence tomography image", "ES": "endoscopy image"},
    **{"SM": "whole slide microscopy image", "GM": "microscopy image", "XC": "clinical photograph"},
}
"""Defined term → what a caption without a report calls the image."""


@dataclass
class Image:
    """One frame, and what may be told of it."""

    png: bytes
    frame: str
    """Its number from 1, or 0 where there is only one."""
    facts: dict[str, str]
    removed_counts: dict[str, int]
    """What `remove_identity` took out of the file; of several frames, with the first."""


class Study:
    """Reads the study's images and reports; `choices` are the source's options, `table` its table of reports."""

    def __init__(
        self, folder: Path, key: bytes, choices: DicomOptions, rows: Entry, table: dict[str, str], report: str
    ) -> None:
        self.folder = folder
        self.key = key
        self.choices = choices
        self.rows = [row for row in rows if not row.is_report]
        self.structured = [row for row in rows if row.is_report]
        self.counts: Counter[tuple[str, str]] = Counter()
        """For the ledger: what else was seen while reading."""
        self.table = table
        self.report = report
        """The study's report.txt, relative to the folder; "" if there is none."""
        self.study = pseudonym(key, f"study:{rows[0].study}")
        patient = next((row.patient for row in rows if row.patient), "")
        self.group = pseudonym(key, f"patient:{patient}") if patient else self.study
        self.group_kind = "patient" if patient else "study"

    def read(self) -> Iterator[Sample | Dropped]:
        """A sample an image or a study, and a drop for each file that cannot be (part of) one."""
        yield from self._unread_reports()
        instances: set[str] = set()
        rows = []
        for row in self.rows:
            if row.instance in instances:
                yield self._dropped(row, BadRow("duplicate_instance", "the study has this instance twice"))
            else:
                instances.add(row.instance)
                rows.append(row)
        yield from self._whole(rows) if self.choices.sample == "study" else self._single(rows)

    def _single(self, rows: Entry) -> Iterator[Sample | Dropped]:
        for row in rows:
            try:
                text = self._text([row])
                for image in self._images(row):
                    name = pseudonym(self.key, f"instance:{row.instance}")
                    key = make_key("dicom", self.study, name, image.frame)
                    yield self._sample(key, row, {"png": image.png}, [image], text)
            except BadRow as fault:
                yield self._dropped(row, fault)

    def _whole(self, rows: Entry) -> Iterator[Sample | Dropped]:
        most = self.choices.max_images
        selected = [rows[i * len(rows) // most] for i in range(most)] if len(rows) > most else rows
        self.counts["read", "images of a study beyond options.max_images"] += len(rows) - len(selected)
        images: list[Image] = []
        for row in selected:
            try:
                images += self._images(row)
            except BadRow as fault:
                yield self._dropped(row, fault)
        if not images:
            return
        images = images[:most]
        members = {f"{number:04d}.png": image.png for number, image in enumerate(images, start=1)}
        try:
            yield self._sample(make_key("dicom", self.study), rows[0], members, images, self._text(rows))
        except BadRow as fault:
            yield self._dropped(rows[0], fault)

    def _images(self, row: FileRow) -> Iterator[Image]:
        """The frames that the options ask for. Raises BadRow."""
        dataset = open_dicom(self.folder, row.path)
        self.counts["read", "DICOM files without a transfer syntax, told by their first bytes"] += has_assumed_syntax(
            dataset
        )
        with guarded("broken_dicom", "its attributes cannot be read"):
            removed_counts = remove_identity(dataset, self.key)
            facts = described(dataset)
        count = frames_of(dataset)
        frames = {"all": range(count), "first": range(1), "middle": range(count // 2, count // 2 + 1)}
        for frame in frames[self.choices.frames]:
            pixels, window = render(dataset, frame, self.choices.window, self.choices.depth)
            number = str(frame + 1) if count > 1 else "0"
            yield Image(encode_png(pixels), number, {**facts, "window": window}, removed_counts)
            removed_counts = {}

    def _sample(self, key: str, row: FileRow, members: dict[str, bytes], images: list[Image], text: str) -> Sample:
        """Raises BadRow no_report."""
        facts = {
            name: "+".join(sorted({image.facts[name] for image in images if name in image.facts}))
            for name in sorted({name for image in images for name in image.facts})
        }
        removed_counts: Counter[str] = Counter()
        for image in images:
            removed_counts.update(image.removed_counts)
        if text:
            text, removed_counts["words"] = self._known.redact(text)
            caption, sections = caption_of(text)
        elif self.choices.without_report == "drop":
            raise BadRow("no_report", "no report was found, and options.without_report is drop")
        else:
            caption, sections = template_caption(facts), {}
        return Sample(
            key=key,
            images=members,
            texts={"caption": caption, **sections},
            metadata={
                "source": "dicom",
                "licence": self.choices.licence,
                "group": self.group,
                "group_kind": self.group_kind,
                "study": self.study,
                "original_name": pseudonym(self.key, f"file:{row.path}"),
                "modality": "unknown",
                "has_report": bool(text),
                **({} if text else {"templated": ["caption"]}),
                **facts,
                "deidentified": dict(removed_counts),
            },
        )

    def _text(self, rows: Entry) -> str:
        """The report of some of the study's images, with all that it says; "" if there is none. Raises BadRow."""
        for row in rows:
            if report := self.table.get(row.study) or self.table.get(row.accession):
                return report
        names = [name for row in rows for name in report_names(row.path) if (self.folder / name).is_file()]
        encoding = self.choices.encoding
        if names:
            return "\n".join(dict.fromkeys(read_report(self.folder, name, encoding) for name in names)).strip()
        if self.report:
            return read_report(self.folder, self.report, encoding).strip()
        return self._structured_text[0]

    @cached_property
    def _structured_text(self) -> tuple[str, dict[str, BadRow]]:
        """(text of the structured reports, path → what is wrong with one)."""
        texts: list[str] = []
        faults: dict[str, BadRow] = {}
        for row in self.structured:
            try:
                text = structured_text(open_dicom(self.folder, row.path))
            except BadRow as fault:
                faults[row.path] = fault
                continue
            if text:
                texts.append(text)
            else:
                faults[row.path] = BadRow("no_pixels", "a structured report without text")
        return "\n".join(dict.fromkeys(texts)), faults

    def _unread_reports(self) -> Iterator[Dropped]:
        faults = self._structured_text[1]
        yield from (self._dropped(row, faults[row.path]) for row in self.structured if row.path in faults)

    @cached_property
    def _known(self) -> KnownIdentifiers:
        """What the tags know, from one file of each series and all structured reports."""
        identifiers = KnownIdentifiers()
        for row in [*{row.series: row for row in self.rows}.values(), *self.structured]:
            dataset = open_dicom(self.folder, row.path, pixels=False)
            with guarded("broken_dicom", "its attributes cannot be read"):
                identifiers.add(dataset)
        return identifiers

    def _dropped(self, row: FileRow, fault: BadRow) -> Dropped:
        return Dropped(pseudonym(self.key, f"file:{row.path}"), fault.reason, fault.detail)


def template_caption(facts: dict[str, str]) -> str:
    """What an image without a report can be called: "Chest X-ray, PA view, right side." """
    words = facts.get("body_part", "").replace("+", " and ").lower()
    names = [MODALITY_NAMES.get(term, "medical image") for term in facts.get("dicom_modality", "").split("+")]
    subject = f"{words} {' and '.join(dict.fromkeys(names))}".strip()
    details = [f"{facts['view']} view"] if facts.get("view") else []
    sides = {"L": "left side", "R": "right side", "B": "both sides"}
    details += [sides[facts["laterality"]]] if facts.get("laterality") in sides else []
    details += [f"{facts['window']} window"] if facts.get("window") in WINDOWS else []
    return ", ".join([subject[0].upper() + subject[1:], *details]) + "."
