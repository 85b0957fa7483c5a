"""What question-answering sets share: rows that each ask one question, gathered into one sample an image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_prep.sources.base import Dropped, Unit, chunks, digest_file, refuse_flag
from data_prep.sources.files import BadRow, read_image, size_of
from medvlp.shards import Conversation, Sample, Turn, make_key

IMAGE = "<image>"
"""Stands in a user turn for each of the sample's images."""


@dataclass(frozen=True)
class Asked:
    """One row of the publisher's: a question about one image."""

    name: str
    """File, entry and the publisher's id, for a person who looks for it."""
    image: str
    """Name of the image below the image folder; rows with one name become one sample."""
    image_id: str
    conversation: Conversation
    about: dict[str, Any] = field(default_factory=dict)
    """What the row says of its image (modality, organ): metadata of the sample."""


Gathered = list[Asked]
"""All rows about one image, in the publisher's order."""


def ask(question: str, answer: str, id: str | None, metadata: dict[str, Any]) -> Conversation:
    """A question about one image and its answer; metadata that is None or empty is left out.

    Raises BadRow placeholder_count if the publisher's text holds the placeholder itself.
    """
    if IMAGE in question or IMAGE in answer:
        raise BadRow("placeholder_count", f"the text of the question or answer holds {IMAGE}, which stands for images")
    turns = [Turn("user", f"{IMAGE}\n{question}"), Turn("assistant", answer)]
    return Conversation(turns, id, {name: value for name, value in metadata.items() if value not in (None, "")})


def gather(rows: Iterable[Asked | Dropped]) -> list[Gathered | Dropped]:
    """Rows by image, where each image stands at its first row; drops stay where they are."""
    gathered: list[Gathered | Dropped] = []
    by_image: dict[str, Gathered] = {}
    for row in rows:
        if isinstance(row, Dropped):
            gathered.append(row)
        elif row.image in by_image:
            by_image[row.image].append(row)
        else:
            by_image[row.image] = [row]
            gathered.append(by_image[row.image])
    return gathered


def to_sample(source: str, licence: str, split: str, rows: Gathered, extension: str, image: bytes) -> Sample:
    """The sample of one image. Its key names the split too: some publishers ask about one image in train and in test."""
    first = rows[0]
    return Sample(
        key=make_key(source, first.image_id, split),
        images={extension: image},
        conversations=[row.conversation for row in rows],
        metadata={
            **first.about,
            "group": first.image_id,
            "group_kind": "image",
            "image_id": first.image_id,
            "licence": licence,
            "original_name": first.image,
            "source": source,
        },
    )


class QuestionFolder:
    """A reader of tables of questions beside a folder of images; a subclass says where they are and what a row means.

    Every row comes out as part of a sample or as a Dropped of its own, so the ledger counts images and lost rows.
    """

    name: str
    licence: str
    splits: tuple[str, ...]
    tools: tuple[str, ...] = ()
    images: Path
    """Folder of the images."""

    def __init__(self, input: str, samples_per_shard: int = 1000, flag: str = "") -> None:
        refuse_flag(self.name, flag)
        self.folder = Path(input)
        self.samples_per_shard = samples_per_shard
        # A process reads many units of a split: the tables are parsed once for all of them.
        self._gathered = lru_cache(maxsize=1)(lambda split: gather(self.rows(split)))

    def tables(self) -> list[Path]:
        """The files that hold the questions."""
        raise NotImplementedError

    def rows(self, split: str) -> Iterator[Asked | Dropped]:
        """The rows of a split in the publisher's order."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """Nothing to choose but the size of shards."""
        return {"samples_per_shard": self.samples_per_shard}

    def units(self) -> list[Unit]:
        """Images (and rows that cannot become part of one) in the order of their first question."""
        return [u for split in self.splits for u in chunks(split, len(self._gathered(split)), self.samples_per_shard)]

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """A sample for each image; where the image cannot be read, a drop for each of its rows."""
        start, stop = unit.what
        for item in self._gathered(unit.split)[start:stop]:
            if isinstance(item, Dropped):
                yield item
                continue
            try:
                extension, image = read_image(self.images, item[0].image)
            except BadRow as bad:
                yield from (Dropped(row.name, bad.reason, bad.detail) for row in item)
                continue
            yield to_sample(self.name, self.licence, unit.split, item, extension, image)

    def fingerprint(self) -> dict[str, str]:
        """The tables by content; the images that they name by names and sizes, since hashing them twice is too slow."""
        marks = {path.relative_to(self.folder).as_posix(): digest_file(path) for path in self.tables()}
        for split in self.splits:
            names = [item[0].image for item in self._gathered(split) if not isinstance(item, Dropped)]
            listing = "\n".join(f"{name}\t{size_of(self.images, name)}" for name in sorted(names))
            marks[f"images of {split}"] = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
        return marks


def named(path: Path, number: int, key: str, entry: Any) -> str:
    """How a row is called in dropped.jsonl: file, entry (from 1) and the publisher's id, if it has one."""
    id = entry.get(key) if isinstance(entry, dict) else None
    return f"{path.name} entry {number}" + (f" ({key} {str(id)[:80]})" if id is not None else "")
