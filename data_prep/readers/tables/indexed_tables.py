"""Tables too large to hold: a unit names its rows by their positions in the file, and reads them there.

A table is gone through once, by the process that plans; what stays of a row is three numbers. Rows that name one image
become one sample, wherever they stand, since an image belongs to one sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from data_prep.errors import BadRow
from data_prep.readers.fields import Entry, count_ignored, short_texts
from data_prep.readers.guarded import digest_file, digest_listing, json_lines
from data_prep.readers.image_files import ShardImage, read_shard_image
from data_prep.readers.tables.text_tables import TextTable
from data_prep.readers.unlisted_images import pictures_without_rows
from data_prep.source import Dropped, Source, Unit
from medvlp.shards import Sample
from medvlp.shards.vocabulary import SPLITS

RowPosition = list[int]
"""[table, line, byte offset], in JSON's types."""


@dataclass(frozen=True)
class JsonLines:
    """A file of JSON lines; its rows are numbered as an editor numbers lines."""

    path: Path

    def rows(self) -> Iterator[tuple[int, int, Any]]:
        """(number, byte offset, entry) of each row; an entry may be a BadRow."""
        with open(self.path, "rb") as file:
            yield from json_lines(file)

    def at(self, file: BinaryIO, offset: int, line: int) -> Any:
        """The entry at an offset that `rows` gave."""
        file.seek(offset)
        return next(json_lines(file))[2]


Table = JsonLines | TextTable


@dataclass(slots=True)
class ImageRows:
    """The rows of one image, or one row that names none."""

    image: str
    """As the table names it; empty for a row that cannot be used."""
    split: str
    positions: list[RowPosition] = field(default_factory=list)


@dataclass(frozen=True)
class TableRow:
    """One row, as `parse` gave it."""

    name: str
    """File and line, for a person who looks for it."""
    entry: Entry
    table: int


class ImageTableSource(Source):
    """A source of tables next to a folder of images: one sample an image. A subclass says what a row means.

    Every row comes out as part of a sample or as a Dropped of its own, so the ledger counts images and lost rows.
    """

    splits: tuple[str, ...] = SPLITS
    tables: list[Table]
    images: Path
    """Folder of the images."""

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        self.folder = Path(input)

    def image_of(self, entry: dict[str, Any]) -> str:
        """The image that a row names. Raises BadRow."""
        raise NotImplementedError

    def split_of(self, table: int, entry: dict[str, Any]) -> str:
        """The split that a row is of. Raises BadRow."""
        raise NotImplementedError

    def check(self, entry: dict[str, Any]) -> None:
        """Raises BadRow for a row that says nothing usable of its image."""
        raise NotImplementedError

    def sample(self, rows: list[TableRow], picture: ShardImage, unit_facts: dict[str, Any]) -> Sample:
        """The sample of an image. unit_facts: what `unit_facts` gave for the unit."""
        raise NotImplementedError

    def unit_facts(self, images: list[ImageRows]) -> dict[str, Any]:
        """What else a unit with these images has to know, in plain JSON."""
        return {}

    def fingerprint(self) -> dict[str, str]:
        """The tables by content, the images by names and sizes."""
        digests = {table.path.relative_to(self.folder).as_posix(): digest_file(table.path) for table in self.tables}
        return digests | {f"{self.images.relative_to(self.folder).as_posix()}/": digest_listing(self.images)}

    def gather(self) -> list[ImageRows]:
        """The rows by image, in the order of first rows. The first row decides the split."""
        images: list[ImageRows] = []
        by_image: dict[str, ImageRows] = {}
        words: set[str] = set()
        for table, reader in enumerate(self.tables):
            for number, offset, entry in reader.rows():
                position = [table, number, offset]
                try:
                    image = self.image_of(_usable(entry))
                    rows = by_image.get(image) or ImageRows(image, self.split_of(table, entry))
                except BadRow:
                    words.update(short_texts(entry))
                    images.append(ImageRows("", self.splits[0], [position]))
                    continue
                if not rows.positions:
                    by_image[image] = rows
                    images.append(rows)
                rows.positions.append(position)
        self.input_counts = pictures_without_rows(self.images, by_image.keys(), True, words)
        return images

    def units(self) -> list[Unit]:
        """Images (and rows that cannot become part of one) in the order of their first row."""
        images = self.gather()
        units = []
        for split in self.splits:
            of_split = [rows for rows in images if rows.split == split]
            starts = range(0, len(of_split), self.samples_per_shard)
            for number, start in enumerate(starts):
                chunk = of_split[start : start + self.samples_per_shard]
                positions = [rows.positions for rows in chunk]
                units.append(Unit(split, number, {"places": positions, "about": self.unit_facts(chunk)}))
        return units

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """A sample for each image; where the image cannot be read, a drop for each of its rows."""
        self.counts = Counter()
        with ExitStack() as stack:
            files = [stack.enter_context(open(table.path, "rb")) for table in self.tables]
            for positions in unit.selection["places"]:
                yield from self._read_image(files, positions, unit.selection["about"])

    def _read_image(
        self, files: Sequence[BinaryIO], positions: list[RowPosition], unit_facts: dict[str, Any]
    ) -> Iterator[Sample | Dropped]:
        rows = []
        for table, number, offset in positions:
            name = f"{self.tables[table].path.name} line {number}"
            try:
                entry = Entry(_usable(self.tables[table].at(files[table], offset, number)))
                name += f" ({self.image_of(entry)[:120]})"
                self.split_of(table, entry)
                self.check(entry)
                rows.append(TableRow(name, entry, table))
            except BadRow as bad:
                yield Dropped(name, bad.reason, bad.detail)
        if not rows:
            return
        try:
            picture = read_shard_image(self.images, self.image_of(rows[0].entry))
        except BadRow as bad:
            yield from (Dropped(row.name, bad.reason, bad.detail) for row in rows)
            return
        yield self.sample(rows, picture, unit_facts)
        for row in rows:
            count_ignored(self.counts, row.entry.ignored())


def _usable(entry: Any) -> dict[str, Any]:
    if isinstance(entry, BadRow):
        raise entry
    if not isinstance(entry, dict):
        raise BadRow("bad_row", f"the entry is a {type(entry).__name__}, expected an object")
    return entry
