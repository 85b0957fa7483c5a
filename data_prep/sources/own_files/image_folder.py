"""Images in folders that are named like their labels: torchvision's and open_clip's usual layout.

    <input>/<split>/<label>/**/*.jpg      or      <input>/<label>/**/*.jpg

Captions are made from the labels by templates; `label_name` is the folder's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.captions.captioned_files import CaptionedFile, CaptionedFileOptions, CaptionedFileSource
from data_prep.captions.labelled_folders import group_pattern, labelled_rows
from data_prep.errors import PrepError
from data_prep.readers.guarded import digest_listing
from data_prep.readers.image_files import ENDINGS, read_shard_image
from data_prep.source import Dropped


@dataclass(frozen=True)
class ImageFolderOptions(CaptionedFileOptions):
    """Options of the source image_folder."""

    templates: str = "generic"
    """Sentences for labels: a name under configs/templates, or a .yaml file."""


class ImageFolder(CaptionedFileSource):
    """A folder of labelled images; JPEG, PNG and WebP keep their bytes, TIFF, BMP and GIF become PNG."""

    name = "image_folder"
    description = "<label>/<image>, captions made from labels"
    files = "a folder of images"
    option_type = ImageFolderOptions
    choices: ImageFolderOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        if not input or not Path(input).is_dir():
            raise PrepError(
                f"input={input or '(not given)'} should be a folder with a folder for each label, or "
                "train/, valid/ and test/ with these"
            )
        self.load_captions(self.choices.templates, self.choices.licence)
        self.group = group_pattern(self.choices.group)
        if self.templates is None:
            raise PrepError("options.templates is empty; without templates, labels make no captions")
        self.gaps(())

    def options(self) -> dict[str, Any]:
        """Templates and what else was chosen."""
        choices = {"licence": self.licence, "modality": self.choices.modality, "group": self.choices.group}
        return {**super().options(), **choices}

    def fingerprint(self) -> dict[str, str]:
        """Names and sizes of all files."""
        return {"files": digest_listing(self.folder)}

    def rows(self) -> Iterable[tuple[str, CaptionedFile | Dropped]]:
        """Every file of the folder, sorted by path; see `labelled_rows` for what is dropped."""
        return labelled_rows(self.folder, ENDINGS, self.group, self.choices.modality)

    def media(self, row: CaptionedFile) -> tuple[dict[str, bytes], dict[str, Any]]:
        """The image, and what it was before, if it had to be encoded again."""
        picture = read_shard_image(self.folder, row.path)
        return {picture.extension: picture.data}, picture.metadata
