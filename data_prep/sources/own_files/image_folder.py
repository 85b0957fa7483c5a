"""Images in folders that are named like their labels: torchvision's and open_clip's usual layout.

    <input>/<split>/<label>/**/*.jpg      or      <input>/<label>/**/*.jpg

Captions are made from the labels by templates; `label_name` is the folder's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_prep.captions.captioned_files import CaptionedFiles, Row
from data_prep.errors import PrepError
from data_prep.readers.files import ENDINGS, digest_listing, read_picture
from data_prep.readers.image_tree import group_pattern, labelled_rows
from data_prep.source import Dropped, refuse_flag


class ImageFolder(CaptionedFiles):
    """Reader of a folder of labelled images; JPEG, PNG and WebP keep their bytes, TIFF, BMP and GIF become PNG.

    Options: templates (a name under configs/templates or a .yaml file; default generic), licence (an id), modality (if the
    templates name none), group (a regular expression on paths like train/NORMAL/person1_2.jpeg whose named group `group`
    is the patient, as (?P<group>person[0-9]+)_), private (true for images from patients' records).
    """

    name = "image_folder"

    def __init__(
        self,
        input: str,
        samples_per_shard: int = 1000,
        flag: str = "",
        *,
        templates: str = "generic",
        licence: str = "",
        modality: str = "",
        group: str = "",
        private: bool = False,
    ) -> None:
        refuse_flag(self.name, flag)
        if not input or not Path(input).is_dir():
            raise PrepError(
                f"input={input or '(not given)'} should be a folder with a folder for each label, or "
                "train/, valid/ and test/ with these"
            )
        super().__init__(Path(input), samples_per_shard, templates, licence, private)
        self.modality = modality
        self.group = group_pattern(group)
        if self.templates is None:
            raise PrepError("options.templates is empty; without templates, labels make no captions")
        self.gaps(())

    def options(self) -> dict[str, Any]:
        """Templates and what else was chosen."""
        group = self.group.pattern if self.group else ""
        return {**self.shared_options(), "licence": self.licence, "modality": self.modality, "group": group}

    def fingerprint(self) -> dict[str, str]:
        """Names and sizes of all files."""
        return {"files": digest_listing(self.folder)}

    def rows(self) -> Iterable[tuple[str, Row | Dropped]]:
        """Every file of the folder, sorted by path; see `labelled_rows` for what is dropped."""
        return labelled_rows(self.folder, ENDINGS, self.group, self.modality)

    def media(self, row: Row) -> tuple[dict[str, bytes], dict[str, Any]]:
        """The image, and what it was before, if it had to be encoded anew."""
        picture = read_picture(self.folder, row.path)
        return {picture.extension: picture.data}, picture.described
