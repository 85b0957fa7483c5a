"""Options of the source dicom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data_prep.errors import PrepError
from data_prep.source import Options
from data_prep.sources.own_files.dicom_studies.pixels import WINDOWS

ALLOWED: dict[str, tuple[Any, ...]] = {
    "sample": ("image", "study"),
    "frames": ("middle", "first", "all"),
    "depth": (8, 16),
    "window": ("", *WINDOWS),
    "without_report": ("template", "drop"),
}


@dataclass(frozen=True)
class DicomOptions(Options):
    """Options of the source dicom."""

    sample: str = "image"
    """image: a sample for each image; study: one for each study, with all its images."""
    frames: str = "middle"
    """Of an image with several: middle, first, or all."""
    depth: int = 8
    """Bits of grey: 8 or 16."""
    window: str = ""
    """For CT: lung, mediastinum, abdomen, bone, brain, stroke or subdural; empty: the file's own."""
    without_report: str = "template"
    """template: a caption from modality, body part and view; drop: no sample."""
    max_images: int = 32
    """Of a study in one sample, evenly chosen."""
    reports: str = ""
    """A CSV with the reports, in addition to those in the folder."""
    licence: str = "unknown"
    """What the shards are to say."""
    encoding: str = ""
    """Of reports that are neither UTF-8 nor marked, such as cp1252."""

    def check(self) -> None:
        """Raises PrepError for a choice that is none."""
        for option, allowed in ALLOWED.items():
            if getattr(self, option) not in allowed:
                names = ", ".join(str(value) for value in allowed if value != "")
                raise PrepError(f"options.{option}={getattr(self, option)}, expected one of {names}")
        if self.max_images < 1:
            raise PrepError(f"options.max_images={self.max_images}, expected 1 or more")
