"""Images of records: where their files are, and the ids that samples get from them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from data_prep.conversations.questions import QuestionRow
from data_prep.errors import PrepError
from data_prep.readers.guarded import size_of
from data_prep.source import Dropped
from data_prep.sources.questions.records.rows import EmbeddedImage, short_digest


class ImageFolders:
    """Folders of image files: the person's, or those of a mapping below the input, of which the first that has a file counts.

    Raises PrepError for a folder of the person's that is none.
    """

    def __init__(self, folder: Path, choice: str, folders: Sequence[str]) -> None:
        self.root = folder / choice
        self.prefixes = [f"{name.rstrip('/')}/" if name.strip("./") else "" for name in folders] or [""]
        if choice:
            self.prefixes = [""]
            if not self.root.is_dir() or ".." in Path(choice).parts:
                raise PrepError(f"options.images={choice} is not a folder below {folder}, nor an absolute one")

    def located(self, name: str) -> str:
        """A name as seen from the root; in the first folder, where none has it."""
        while name.startswith(("./", "/")):
            name = name.removeprefix(".").removeprefix("/")
        prefixes = self.prefixes
        if len(prefixes) > 1 and "/" not in name:
            return self._prefix_by_name.get(name, prefixes[0]) + name
        if len(prefixes) > 1:
            prefixes = [p for p in prefixes if size_of(self.root, f"{p}{name}") is not None] or prefixes
        return f"{prefixes[0]}{name}"

    @cached_property
    def _prefix_by_name(self) -> dict[str, str]:
        """File → the first folder that has it: asking each folder for each row takes longer than all else."""
        prefix_by_name: dict[str, str] = {}
        for prefix in reversed(self.prefixes):
            folder = self.root / prefix
            if folder.is_dir():
                prefix_by_name |= dict.fromkeys(os.listdir(folder), prefix)
        return prefix_by_name


def image_id(images: Sequence[str | EmbeddedImage]) -> str:
    """Of one image its published name without the ending, or the start of its digest; of several a digest; "" of none."""
    names = [image.digest[:16] if isinstance(image, EmbeddedImage) else image for image in images]
    if len(names) != 1:
        return short_digest(names) if names else ""
    stem = names[0].rpartition(".")[0] if isinstance(images[0], str) else ""
    return stem.strip("./") or names[0]


def with_unique_ids(rows: list[QuestionRow | Dropped]) -> Iterator[QuestionRow | Dropped]:
    """Rows whose ids differ where their images do: a publisher's ids may repeat, and keys are made of them."""
    images_by_id: dict[str, tuple[str, ...] | int] = {}
    for number, row in enumerate(rows):
        if isinstance(row, QuestionRow):
            mark = row.images or number
            name, repetition = row.image_id, 1
            while images_by_id.setdefault(name, mark) != mark:
                repetition += 1
                name = f"{row.image_id}-{repetition}"
            row = row if name == row.image_id else replace(row, image_id=name)
        yield row
