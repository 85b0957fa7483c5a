"""What sources of single files share: a file is a sample, its captions come from a table or from templates for its labels."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from data_prep.captions.template_files import load_templates
from data_prep.captions.templates import Templates
from data_prep.deidentify.pseudonym import key_id, load_key, pseudonym
from data_prep.errors import BadRow, PrepError
from data_prep.readers.files import check_utf8, size_of
from data_prep.source import Dropped, Unit, chunks
from data_prep.vocabulary.licences import UNKNOWN, normalise
from data_prep.vocabulary.text import numbered_captions
from medvlp.shards import Sample, make_key
from medvlp.shards.vocabulary import SPLITS

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What people call splits, in lower case → our name."""


NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Row:
    """A file below the source's folder, and what is said of it."""

    path: str
    split: str
    published_split: str = ""
    """The publisher's word for it; empty where nobody said one."""
    captions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """What templates make captions of."""
    values: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    """Column → text, for gaps in templates."""
    texts: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    """Further texts of the sample."""
    columns: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    """Further labels of the sample: texts and lists."""
    work: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    """Metadata of the work that the file is from: citation, authors, article_title, article_doi, url."""
    id: str = ""
    """What the key is made of instead of the path."""
    group: str = ""
    licence: str = ""
    modality: str = ""
    count: int = 1
    """Rows of the table that are about this file."""


class CaptionedFiles:
    """A reader of files below a folder; a subclass says which there are (`rows`) and how one is read (`media`).

    Set `private` where files come from patients' records: keys, groups, original names and the names of drops are then
    pseudonyms, and drops give no details, because these quote names. What the captions say is left to stages.
    """

    name: str
    tools: tuple[str, ...] = ()

    def __init__(self, folder: Path, samples_per_shard: int, templates: str, licence: str, private: bool) -> None:
        if not isinstance(private, bool):
            raise PrepError(f"options.private is {private!r}, expected true or false")
        self.folder = folder
        self.samples_per_shard = samples_per_shard
        self.private = private
        self.templates: Templates | None = load_templates(templates) if templates else None
        self.licence = known_licence(licence)
        self._key = load_key() if private else None
        self.planned: dict[str, int] = {}
        """What was passed by in the input as a whole → how often, once its rows have been listed."""

    def rows(self) -> Iterable[tuple[str, Row | Dropped]]:
        """(split, row) of all that the source holds, in its order."""
        raise NotImplementedError

    def media(self, row: Row) -> tuple[dict[str, bytes], dict[str, Any]]:
        """(images by member name, metadata) of a row's file. Raises BadRow."""
        raise NotImplementedError

    def shared_options(self) -> dict[str, Any]:
        """What shapes the samples of every such source."""
        options: dict[str, Any] = {"samples_per_shard": self.samples_per_shard, "private": self.private}
        if self.templates is not None:
            options |= {"templates": self.templates.name, "templates_sha256": self.templates.digest}
        if self._key is not None:
            options["key_id"] = key_id(self._key)
        return options

    def gaps(self, columns: Collection[str]) -> list[str]:
        """Columns that the templates ask for. Raises PrepError if they ask for more than there are."""
        if self.templates is None:
            return []
        self.templates.check_gaps(columns)
        return self.templates.columns()

    def digest_sizes(self) -> str:
        """sha256 of the names and sizes of all files that rows name: hashing a million images is too slow."""
        digest = hashlib.sha256()
        for split in SPLITS:
            for row, size in zip(self._rows[split], self._sizes[split], strict=True):
                digest.update(f"{row.path if isinstance(row, Row) else ''}\t{size}\n".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def units(self) -> list[Unit]:
        """Consecutive rows, in the source's order. A unit stays done while its rows and the sizes of their files do."""
        return [
            replace(unit, mark=self._mark(split, *unit.what))
            for split in SPLITS
            for unit in chunks(split, len(self._rows[split]), self.samples_per_shard)
        ]

    def _mark(self, split: str, start: int, stop: int) -> str:
        rows, sizes = self._rows[split][start:stop], self._sizes[split][start:stop]
        listing = "\n".join(f"{size}\t{row!r}" for size, row in zip(sizes, rows, strict=True))
        return hashlib.sha256(listing.encode("utf-8", "surrogatepass")).hexdigest()

    @cached_property
    def _sizes(self) -> dict[str, array[int]]:
        """Bytes of each row's file; -1 where there is none."""
        return {split: array("q", map(self._size, rows)) for split, rows in self._rows.items()}

    def _size(self, row: Row | Dropped) -> int:
        size = size_of(self.folder, row.path) if isinstance(row, Row) else None
        return -1 if size is None else size

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """Every row, as a sample or as a drop."""
        start, stop = unit.what
        for row in self._rows[unit.split][start:stop]:
            try:
                yield self._hidden(row) if isinstance(row, Dropped) else self._sample(row)
            except BadRow as bad:
                name, labels = (row.path, row.labels) if isinstance(row, Row) else (row.name, ())
                yield self._hidden(Dropped(name, bad.reason, bad.detail, labels=_label_name(labels)))

    @cached_property
    def _rows(self) -> dict[str, list[Row | Dropped]]:
        # A process reads many units: files are listed and tables parsed once for all of them.
        rows: dict[str, list[Row | Dropped]] = {split: [] for split in SPLITS}
        for split, row in self.rows():
            rows[split].append(row)
        if not any(rows.values()):
            raise PrepError(f"{self.folder} holds nothing for source {self.name}: no file, or a table without rows")
        return rows

    def _sample(self, row: Row) -> Sample:
        check_utf8(row.path, "the file's name")
        images, described = self.media(row)
        key = self.key_of(row)
        captions = list(row.captions)
        made = self.templates.captions(row.labels, key, row.values) if self.templates and row.labels else []
        modality = row.modality or (self.templates.modality if self.templates else "")
        texts = numbered_captions(list(dict.fromkeys([*captions, *made])))
        templated = [name for name, text in texts.items() if text not in captions]
        return Sample(
            key=key,
            images=images,
            texts={**row.texts, **texts},
            labels={**row.columns, **_label_name(row.labels)},
            metadata={
                "group": self._alias("group", row.group or row.path),
                "group_kind": "patient" if row.group else "image",
                "licence": normalise(row.licence) if row.licence else self.licence,
                "source": self.name,
                "original_name": self._alias("file", row.path),
                "modality": modality or "unknown",
                **({"published_split": row.published_split} if row.published_split else {}),
                **({"rows": row.count} if row.count > 1 else {}),
                **row.work,
                **({"templated": templated} if templated else {}),
                **described,
            },
        )

    def key_of(self, row: Row) -> str:
        """The sample's key: of its id if it has one, else of its path, whose ending stays because names may share it."""
        if self._key is not None:
            group = self._alias("group", row.group) if row.group else "0"
            return make_key(self.name, group, self._alias("file", row.id or row.path))
        if row.id:
            return make_key(self.name, row.id)
        *folders, file = row.path.split("/")
        stem, ending = split_ending(file)
        return make_key(self.name, "/".join(folders), stem, ending) if folders else make_key(self.name, stem, ending)

    def _alias(self, kind: str, text: str) -> str:
        return text if self._key is None else pseudonym(self._key, f"{kind}:{text}")

    def _hidden(self, drop: Dropped) -> Dropped:
        return drop if self._key is None else Dropped(self._alias("file", drop.name), drop.reason, "")


def _label_name(labels: Sequence[str]) -> dict[str, Any]:
    if not labels:
        return {}
    return {"label_name": labels[0] if len(labels) == 1 else list(labels)}


def split_ending(name: str) -> tuple[str, str]:
    """(stem, ending) of a file's name; `nii.gz` is one ending, in a form that keys can hold."""
    if name.lower().endswith(".nii.gz"):
        return name[: -len(".nii.gz")], "nii-gz"
    stem, dot, ending = name.rpartition(".")
    return (stem, ending) if dot else (name, "0")


def known_licence(wording: str) -> str:
    """The id of a licence that somebody gave as an option. Raises PrepError if it names none."""
    licence = normalise(wording) if wording else UNKNOWN
    if licence == UNKNOWN and wording.lower() not in ("", UNKNOWN):
        raise PrepError(
            f"options.licence={wording} is neither a column nor a licence that is known; give an id such as CC-BY-4.0 "
            "or CC0-1.0, or LicenseRef-<name> for one of your own"
        )
    return licence


def split_of(word: str) -> str:
    """train, valid or test. Raises BadRow bad_split."""
    split = SPLIT_NAMES.get(word.strip().lower())
    if split is None:
        raise BadRow("bad_split", f"the split is {word[:80]!r}, expected one of {', '.join(SPLIT_NAMES)}")
    return split


def names_of(option: str, value: Any) -> list[str]:
    """An option that lists names; one name may stand alone. Raises PrepError."""
    names = [value] if isinstance(value, str) and value else list(value) if isinstance(value, list | tuple) else None
    if value in ("", None):
        return []
    if names is None or not all(isinstance(name, str) and name for name in names):
        raise PrepError(f"options.{option} is {value!r}, expected names: options.{option}=[first,second]")
    return names
