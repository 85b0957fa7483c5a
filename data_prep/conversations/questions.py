"""Sources of question-answering sets: rows that each hold a conversation, gathered into one sample an image.

A reader of such a set yields `QuestionRow` rows; `QuestionSource` gathers them, reads the images, and makes the samples.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_prep.conversations.agreement import Agreement
from data_prep.conversations.boxes import QUESTION, PublishedBox, box_questions
from data_prep.errors import BadRow
from data_prep.readers.fields import Entry, count_ignored, short_texts, text_of
from data_prep.readers.guarded import digest_file, size_of
from data_prep.readers.image_files import read_image
from data_prep.readers.tables.text_tables import TextTable
from data_prep.readers.unlisted_images import pictures_without_rows
from data_prep.source import Dropped, Source, Unit, chunks
from medvlp.shards import Conversation, Sample, Turn, make_key
from medvlp.shards.vocabulary import IMAGE_TOKEN


@dataclass(frozen=True)
class QuestionRow:
    """One row of the publisher's: a question, or a dialogue, about an image, several, or none; or what is said of images."""

    name: str
    """File, entry and the publisher's id, for a person who looks for it."""
    images: tuple[str, ...]
    """Names of the images below the image folder, in order; rows with the same ones become one sample."""
    image_id: str
    """The publisher's id of the image (or of the images together): unique in a split."""
    conversation: Conversation | None
    """None for rows that ask nothing, but have texts or labels."""
    image_metadata: dict[str, Any] = field(default_factory=dict)
    """What the row says of its images (modality, organ, a group other than the image): metadata of the sample.

    The first row's, if they differ.
    """
    ignored: tuple[str, ...] = ()
    """Fields of the publisher's row that the reader did not ask for."""
    file: str = ""
    """The table's name, of sources in which it is part of keys."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Texts of the sample, captions as `numbered_captions` names them."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    boxes: tuple[PublishedBox, ...] = ()
    """Boxes in its image; each label of an image is asked for once."""


QuestionRows = list[QuestionRow]
"""All rows about the same images, in the publisher's order."""


def ask(question: str, answer: str, id: str | None, metadata: dict[str, Any], images: int | None = 1) -> Conversation:
    """A question about images and its answer; metadata that is None or empty is skipped.

    images: how many; a placeholder for each stands before the question. None: the question says where they stand.

    Raises BadRow placeholder_count if the publisher's text holds the placeholder itself.
    """
    if (IMAGE_TOKEN in question and images is not None) or IMAGE_TOKEN in answer:
        raise BadRow(
            "placeholder_count", f"the text of the question or answer holds {IMAGE_TOKEN}, which stands for images"
        )
    turns = [Turn("user", f"{IMAGE_TOKEN}\n" * (images or 0) + question), Turn("assistant", answer)]
    return Conversation(turns, id, {name: value for name, value in metadata.items() if value not in (None, "")})


def answer_type_of(entry: dict[str, Any]) -> str:
    """open or closed, from OPEN, CLOSED, or "CLOSED ". Raises BadRow bad_answer_type for anything else."""
    answer_type = text_of(entry, "answer_type").lower()
    if answer_type not in ("open", "closed"):
        raise BadRow("bad_answer_type", f"answer_type is {answer_type!r}, expected OPEN or CLOSED")
    return answer_type


def yes_no_is_closed(answer: str) -> str:
    """closed for yes and no, else open: for sets that do not publish the answer type."""
    return "closed" if answer.lower() in ("yes", "no") else "open"


def choose(options: dict[str, str], letter: str, answer: str) -> tuple[str, dict[str, Any]]:
    """(the answer's text, metadata of a multiple-choice question): letter or answer may be empty, not both.

    options: letter → text; of equal texts the first counts. Raises BadRow answer_mismatch if no option is as both say.
    """
    fitting = [
        name
        for name, text in options.items()
        if (not letter or name == letter) and (not answer or text.casefold() == answer.casefold())
    ]
    if not fitting:
        answer_text = " ".join(part for part in (letter, repr(answer) if answer else "") if part)
        raise BadRow("answer_mismatch", f"the answer {answer_text} is none of {options}")
    metadata = {"answer_type": "multiple_choice", "options": options, "answer_letter": fitting[0]}
    return options[fitting[0]], metadata


def gather(rows: Iterable[QuestionRow | Dropped]) -> list[QuestionRows | Dropped]:
    """Rows by images, which stand at their first row. Rows without images stay apart; drops stay where they are."""
    images: list[QuestionRows | Dropped] = []
    by_images: dict[tuple[str, ...], QuestionRows] = {}
    for row in rows:
        if isinstance(row, Dropped):
            images.append(row)
        elif row.images in by_images:
            by_images[row.images].append(row)
        else:
            together = [row]
            images.append(together)
            if row.images:
                by_images[row.images] = together
    return images


def parse_rows(
    path: Path,
    entries: Iterable[tuple[int, Any]],
    id_key: str,
    parse: Callable[[str, dict[str, Any]], QuestionRow | None],
    unit: str = "entry",
    file: str = "",
) -> Iterator[QuestionRow | Dropped]:
    """What `parse(name, entry)` makes of each (number, entry) of a file; None leaves it out: it is of another split.

    An entry that is no object, or for which parse raises BadRow, becomes a drop with file, number and id. A BadRow may
    stand in the place of an entry that could not be read. unit: what the numbers count. file: what drops call the file, where
    its name does not tell it. Fields that parse does not ask
    for are the row's `ignored`.
    """
    for number, entry in entries:
        name = f"{file or path.name} {unit} {number}"
        try:
            if isinstance(entry, BadRow):
                raise entry
            if not isinstance(entry, dict):
                raise BadRow("bad_row", f"the entry is a {type(entry).__name__}, expected an object")
            if entry.get(id_key) is not None:
                name += f" ({id_key} {str(entry[id_key])[:80]})"
            entry = Entry(entry)
            row = parse(name, entry)
        except BadRow as bad:
            yield Dropped(name, bad.reason, bad.detail, short_texts(entry))
        else:
            if row is not None:
                yield replace(row, ignored=row.ignored + entry.ignored())


def numbered_rows(table: TextTable) -> Iterator[tuple[int, Any]]:
    """(line, entry) of a table for `parse_rows`, with "index": the row's number from 0, unless a column is called so."""
    for index, row in enumerate(table.rows()):
        yield row.line, row.entry if isinstance(row.entry, BadRow) else {"index": index, **row.entry}


def member_names(extensions: list[str]) -> list[str]:
    """Names of images in a sample whose sorted order is theirs: `jpg`; `0.jpg`, `1.png`; `00.jpg`, `01.jpg`, …"""
    if len(extensions) == 1:
        return extensions
    digits = len(str(len(extensions) - 1))
    return [f"{number:0{digits}}.{extension}" for number, extension in enumerate(extensions)]


class QuestionSource(Source):
    """A source of tables of questions next to a folder of images; a subclass says where they are and what a row means.

    Every row comes out as part of a sample or as a Dropped of its own, so the ledger counts images and lost rows.
    """

    splits: tuple[str, ...]
    images: Path
    """Folder of the images."""
    box_question: str = QUESTION
    """What asks for the boxes of a {label}."""
    box_language: str = ""
    box_agreement: Agreement | None = None
    """Of several readers; without it, all of their boxes are right."""

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        self.folder = Path(input)
        # A process reads many units: the tables are parsed once for all of them.
        self._image_rows = lru_cache(maxsize=None)(lambda split: gather(self.asked_rows(split)))

    def tables(self) -> list[Path]:
        """The files that hold the questions."""
        raise NotImplementedError

    def rows(self, split: str) -> Iterator[QuestionRow | Dropped]:
        """The rows of a split in the publisher's order."""
        raise NotImplementedError

    def asked_rows(self, split: str) -> Iterator[QuestionRow | Dropped]:
        """The rows as they become samples."""
        return self.rows(split)

    def units(self) -> list[Unit]:
        """Images (and rows that cannot become part of one) in the order of their first question."""
        self.input_counts |= self._unnamed()
        return [u for split in self.splits for u in chunks(split, len(self._image_rows(split)), self.samples_per_shard)]

    def _unnamed(self) -> dict[str, int]:
        """Pictures in the image folder that no row names, of any split."""
        folder = getattr(self, "images", None)
        if folder is None or not folder.is_dir():
            return {}
        items = [item for split in self.splits for item in self._image_rows(split)]
        images = {name for item in items if not isinstance(item, Dropped) for name in item[0].images}
        words = {word for item in items if isinstance(item, Dropped) for word in item.texts}
        return pictures_without_rows(folder, images, folder not in {path.parent for path in self.tables()}, words)

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """A sample for each image; where the image cannot be read, a drop for each of its rows."""
        self.counts = Counter()
        start, stop = unit.selection
        for item in self._image_rows(unit.split)[start:stop]:
            if isinstance(item, Dropped):
                yield item
                continue
            for row in item:
                count_ignored(self.counts, row.ignored)
            try:
                images = [self.image(unit.split, name) for name in item[0].images]
            except BadRow as bad:
                yield from (Dropped(row.name, bad.reason, bad.detail) for row in item)
                continue
            names = member_names([extension for extension, _ in images])
            sample = self.sample(unit.split, item, dict(zip(names, (data for _, data in images), strict=True)))
            yield from self.with_boxes(sample, item)

    def with_boxes(self, sample: Sample, rows: QuestionRows) -> Iterator[Sample | Dropped]:
        """The sample with a question for each label that has boxes, and a drop for each that cannot be asked for; no sample
        where nothing is said of it then."""
        try:
            boxes = self.boxes(rows)
        except BadRow as bad:
            yield Dropped(rows[0].name, bad.reason, bad.detail)
            boxes = []
        is_disputed = False
        if boxes:
            images = [sample.images[name] for name in sorted(sample.images)]
            questions = box_questions(boxes, images, self.box_question, self.box_language, self.box_agreement)
            sample.conversations += questions.conversations
            self.counts.update({("read", subject): count for subject, count in questions.counts().items() if count})
            yield from (Dropped(f"{rows[0].name} boxes", bad.reason, bad.detail) for bad in questions.faults)
            is_disputed = bool(questions.unsettled and not questions.faults)
        if sample.conversations or sample.texts or sample.labels:
            yield sample
        elif is_disputed:
            yield Dropped(rows[0].name, "no_agreement", "of no label have enough readers drawn the same box")
        elif not boxes:
            yield Dropped(rows[0].name, "no_box", "nothing is said of the image, and no box drawn")

    def boxes(self, rows: QuestionRows) -> list[PublishedBox]:
        """What was drawn into the image of the rows. Raises BadRow."""
        return [box for row in rows for box in row.boxes]

    def image(self, split: str, name: str) -> tuple[str, bytes]:
        """(extension, bytes) of an image that a row of the split names. Raises BadRow."""
        return read_image(self.images, name)

    def sample(self, split: str, rows: QuestionRows, images: dict[str, bytes]) -> Sample:
        """The sample. Its key names the split: some publishers ask about one image in train and in test."""
        first = rows[0]
        return Sample(
            key=make_key(self.name, first.image_id, split),
            images=images,
            texts=dict(first.texts),
            labels=dict(first.labels),
            conversations=[row.conversation for row in rows if row.conversation],
            metadata={
                "group": first.image_id,
                "group_kind": "image",
                "image_id": first.image_id,
                "licence": self.licence,
                "original_name": first.images[0] if first.images else first.name,
                "source": self.name,
                **first.image_metadata,
            },
        )

    def fingerprint(self) -> dict[str, str]:
        """The tables by content; the images that they name by names and sizes, since hashing them twice is too slow."""
        digests = {path.relative_to(self.folder).as_posix(): digest_file(path) for path in self.tables()}
        for split in self.splits:
            items = [item for item in self._image_rows(split) if not isinstance(item, Dropped)]
            names = sorted({name for item in items for name in item[0].images})
            listing = "\n".join(f"{name}\t{size_of(self.images, name)}" for name in names)
            digests[f"images of {split}"] = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
        return digests
