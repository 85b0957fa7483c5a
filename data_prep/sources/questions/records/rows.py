"""Rows of records: what a mapping makes of an entry."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_prep.captions.captioned_files import split_of
from data_prep.conversations.boxes import PublishedBox
from data_prep.conversations.parquet_questions import image_digest
from data_prep.errors import BadRow
from data_prep.readers.fields import Entry, as_text, kind_of, plain, says_something
from data_prep.readers.image_fields import MAX_IMAGES, image_name
from data_prep.readers.image_files import MAX_IMAGE_BYTES
from data_prep.readers.tables.cells import (
    is_empty,
    items_of_cell,
    list_in,
    literal_in,
    prose_of_cell,
    suffix,
    text_of_cell,
)
from data_prep.readers.tables.label_cells import (
    class_of_cell,
    classes_of_cell,
    one_of_cells,
    states_of_cells,
    weights_of_cell,
)
from data_prep.sources.questions.records.boxes import boxes_of_entry
from data_prep.sources.questions.records.mapping import GAP, LabelTerm
from data_prep.sources.questions.records.mapping import Mapping as RecordMapping
from data_prep.vocabulary.text import says_nothing
from medvlp.shards.vocabulary import SPLITS

LONGEST_NAME = 255
"""Characters of a file's name; a longer text in a column of images is an image as base64."""

DATA_ADDRESS = re.compile(r"data:image/[\w.+-]+;base64,")


@dataclass(frozen=True)
class EmbeddedImage:
    """An image in a row: its column, and its position where the cell holds several."""

    digest: str
    column: str
    position: int = 0


@dataclass
class RowState:
    """Of a table that is gone through: the row's split, its position from 0, and its offset in the file."""

    split: str = SPLITS[0]
    index: int = 0
    offset: int = 0


@dataclass
class RecordEntry:
    """An entry, whose cells are asked for by the terms of a mapping."""

    cells: Entry
    columns: Sequence[str]
    """Of the table: names without a row's own."""
    nested: dict[str, Entry] = field(default_factory=dict)
    """Column → the object in it, where a term asked for a field of it."""

    def value(self, term: str) -> Any:
        """What a term names; None where it is not there."""
        if GAP.search(term):
            parts = {
                match[0]: self.text(match[1])[: int(match[2]) if match[2] else None] for match in GAP.finditer(term)
            }
            return GAP.sub(lambda match: parts[match[0]], term) if all(parts.values()) else None
        first, dot, inner = term.partition(".")
        if term in self.cells or not dot:
            return self.cells.get(term)
        cell = self.cells.get(first)
        if isinstance(cell, str) and first not in self.nested:
            cell = literal_in(cell)
        if first in self.nested:
            return self.nested[first].get(inner)
        if not isinstance(cell, dict):
            return None
        return self.nested.setdefault(first, Entry(cell)).get(inner)

    def text(self, term: str) -> str:
        """The text, "" where there is none. Raises BadRow: bad_, long_<column>, not_utf8."""
        return text_of_cell({term: self.value(term)}, term)

    def prose(self, term: str) -> str:
        """A text for readers: the items of a list a line each; "" where it says nothing. Raises BadRow as `text`."""
        text = prose_of_cell({term: self.value(term)}, term)
        return "" if says_nothing(text) else text

    def needed(self, term: str) -> str:
        """The text. Raises BadRow as `text`, and missing_, empty_<column>."""
        text = self.text(term)
        if not text:
            is_missing = not GAP.search(term) and not {term, term.partition(".")[0]} & self.cells.keys()
            kind = "missing" if is_missing else "empty"
            raise BadRow(f"{kind}_{suffix(term)}", f"{term} is {kind}")
        return text

    def note(self, term: str) -> str:
        """A text that goes along with a sample: its faults do not cost the sample, but count as ignored."""
        try:
            return self.prose(term)
        except BadRow:
            self.cells.put_back(term.partition(".")[0])
            return ""

    def constant(self, term: str) -> str:
        """The note of a column of that name, else the term itself."""
        return self.note(term) if {term, term.partition(".")[0]} & {*self.columns} else term

    def ignored(self) -> tuple[str, ...]:
        """Fields of nested objects that nothing asked for."""
        return tuple(f"{column}.{name}" for column, entry in self.nested.items() for name in entry.ignored())


class RowReader:
    """What rows of one table mean. counts: what was left out or is unusual → how often."""

    def __init__(
        self, mapping: RecordMapping, columns: Sequence[str], class_names: Mapping[str, Sequence[str]], uncertain: str
    ) -> None:
        self.mapping, self.columns, self.class_names, self.uncertain = mapping, columns, class_names, uncertain
        self.counts: Counter[str] = Counter()

    def is_meant(self, entry: RecordEntry) -> bool:
        """Whether the mapping takes rows of this kind; others are counted."""
        for column, values in self.mapping.table.filters.items():
            if entry.text(column) not in values:
                self.counts[f"rows of another kind ({column})"] += 1
                return False
        return True

    def split(self, entry: RecordEntry) -> str:
        """Of a row whose column tells it. Raises BadRow bad_split."""
        return split_of(entry.needed(self.mapping.split))

    def boxes(self, entry: RecordEntry) -> tuple[PublishedBox, ...]:
        """Boxes in the row's image; rows without are counted. Raises BadRow as `boxes_of_entry`."""
        if self.mapping.boxes is None:
            return ()
        boxes = tuple(boxes_of_entry(self.mapping.boxes, entry))
        if not boxes:
            self.counts["rows without a box"] += 1
        return boxes

    def images(self, entry: RecordEntry) -> list[str | EmbeddedImage]:
        """Names of files, and images in the row, in order.

        Raises BadRow: missing_image, bad_image, embedded_image, too_many_images, not_utf8.
        """
        images: list[str | EmbeddedImage] = []
        for term in self.mapping.images:
            images += self._images(self._cell(entry, term), term)
        if len(images) > MAX_IMAGES:
            raise BadRow("too_many_images", f"the row has {len(images)} images, at most {MAX_IMAGES} become one sample")
        if not images and self.mapping.images and not all(map(self.mapping.is_optional, self.mapping.images)):
            names = ", ".join(self.mapping.images)
            raise BadRow("missing_image", f"the row has no image in {names}")
        return images

    @staticmethod
    def _cell(entry: RecordEntry, term: str) -> Any:
        """What a term names; of a pattern around a list, as many names as it has."""
        gaps = list(GAP.finditer(term))
        if len(gaps) != 1 or not isinstance(items := entry.value(gaps[0][1]), list):
            return entry.value(term)
        return [term.replace(gaps[0][0], item) if isinstance(item, str) else item for item in items]

    def _images(self, cell: Any, column: str) -> Iterator[str | EmbeddedImage]:
        if isinstance(cell, str) and (items := list_in(cell)) is not None:
            cell = items
        is_list = isinstance(cell, list)
        for position, item in enumerate(cell if is_list else [cell]):
            if not says_something(item) and not isinstance(item, bytes):
                continue
            data = bytes_in(item)
            if data is None:
                yield image_name(item, f"{column}[{position}]" if is_list else column)
            elif digest := image_digest(data):
                yield EmbeddedImage(digest, column, position)

    def captions(self, entry: RecordEntry) -> list[str]:
        """Texts with words in them, without repetitions. Raises BadRow: bad_, long_<column>, not_utf8."""
        captions = []
        for term in self.mapping.captions:
            items = items_of_cell({term: entry.value(term)}, term)
            captions += [entry.text(term)] if items is None else items
        return list(dict.fromkeys(caption for caption in captions if not says_nothing(caption)))

    def texts(self, entry: RecordEntry) -> dict[str, str]:
        """Further texts of the sample."""
        return {name: text for name, term in self.mapping.texts.items() if (text := entry.prose(term))}

    def labels(self, entry: RecordEntry) -> dict[str, Any]:
        """Labels as `label_cells` describes them; those that the row does not state are not there."""
        labels: dict[str, Any] = {}
        for name, term in self.mapping.labels.items():
            value = self._label(entry, term)
            if term.kind == "weights" and value is not None:
                labels[name], labels[f"{name}_weights"] = list(value), value
            elif value not in (None, "", {}):
                labels[name] = value
        return labels

    def _label(self, entry: RecordEntry, term: LabelTerm) -> Any:
        if term.kind in ("classes", "one_of"):
            cells = {column: entry.value(column) for column in term.columns}
            if term.kind == "one_of":
                return one_of_cells(cells, term.columns)
            return states_of_cells(cells, term.columns, self.uncertain)
        column = term.column
        cells = {column: self._classes(entry.value(term.column), column)}
        if term.kind == "weights":
            return weights_of_cell(cells, column, term.names)
        if term.is_list:
            return classes_of_cell(cells, column, term.names, term.separator)
        return class_of_cell(cells, column, term.names)

    def _classes(self, value: Any, column: str) -> Any:
        """Numbers of classes as their names, where the file says them."""
        names = self.class_names.get(column)
        if not names:
            return value
        numbers = value if isinstance(value, list) else [value]
        if not all(type(n) is int and 0 <= n < len(names) for n in numbers if n is not None):
            return value
        words = [names[n] for n in numbers if n is not None]
        return words if isinstance(value, list) else words[0] if words else None

    def fields(self, entry: RecordEntry, terms: Mapping[str, str]) -> dict[str, Any]:
        """Metadata: texts, numbers, truth values and lists of these; of fields with a pattern the part that it finds."""
        values: dict[str, Any] = {}
        patterns = self.mapping.patterns if terms is self.mapping.fields else {}
        for name, term in terms.items():
            cell = entry.value(term)
            value = plain(cell)
            if name in patterns:
                if match := re.search(patterns[name], str(value or "")):
                    values[name] = match[1]
            elif says_something(value):
                values[name] = value
            elif says_something(cell) and term in entry.cells:
                entry.cells.put_back(term)
        return values

    def group(self, entry: RecordEntry) -> dict[str, str]:
        """What stays in one split. Raises BadRow no_group where the pattern is not in the column."""
        term = self.mapping.group
        text = entry.text(term.column) if term else ""
        if term is None or not text:
            return {}
        if term.pattern:
            match = re.search(term.pattern, text)
            if not match:
                raise BadRow("no_group", f"{term.column} is {text[:80]!r}, in which {term.pattern} is not")
            text = match[1]
        return {"group": text, "group_kind": term.kind}


def bytes_in(item: Any) -> bytes | None:
    """The image that a cell holds itself: bytes, {"bytes": ...}, base64; None for the name of a file.

    Raises BadRow: bad_image (base64 that is none), image_too_large.
    """
    if isinstance(item, dict) and not isinstance(item.get("bytes"), str):
        item = item.get("bytes") or item
    elif isinstance(item, dict):
        item = item["bytes"]
    if isinstance(item, bytes):
        return item or None
    address = DATA_ADDRESS.match(item) if isinstance(item, str) else None
    if not isinstance(item, str) or not (address or len(item) > LONGEST_NAME):
        return None
    text = item[address.end() :] if address else item
    if len(text) > MAX_IMAGE_BYTES * 4 // 3:
        raise BadRow("image_too_large", f"the image has {len(text)} characters of base64")
    try:
        return base64.b64decode("".join(text.split()), validate=True) or None
    except (binascii.Error, ValueError):
        raise BadRow("bad_image", f"{item[:40]!r}… is neither a name nor an image as base64") from None


def number_of(value: str) -> int | float | None:
    """A number that JSON can hold; None for what is none, or has other characters."""
    text = value.replace(",", "").strip()
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", text):
        return None
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < 2**53 and "." not in text else plain(number)


def short_digest(names: Sequence[str]) -> str:
    """Of several images together."""
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def answer_texts(value: Any, column: str) -> list[str]:
    """The texts of an answer's cell: of a list each. Raises BadRow: bad_, long_<column>, not_utf8."""
    items = value if isinstance(value, list) else list_in(value) if isinstance(value, str) else None
    if items is None:
        text = text_of_cell({column: value}, column)
        return [text] if text else []
    if not all(as_text(item) is not None or isinstance(item, bool) or is_empty(item) for item in items):
        raise BadRow(f"bad_{suffix(column)}", f"{column} holds {kind_of(items[0])}, expected texts")
    return [text for item in items if (text := text_of_cell({column: item}, column))]
