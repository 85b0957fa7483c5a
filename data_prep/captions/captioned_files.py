"""Sources of single files: a file is a sample, with captions from a table or from templates for its labels."""

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
from data_prep.deidentify.pseudonym import key_id, load_key, pseudonym
from data_prep.errors import BadRow, PrepError
from data_prep.readers.fields import check_utf8
from data_prep.readers.guarded import size_of
from data_prep.source import Dropped, Options, Source, Unit, chunks
from data_prep.vocabulary.licences import UNKNOWN, normalise
from data_prep.vocabulary.splits import SPLIT_NAMES
from data_prep.vocabulary.text import numbered_captions
from medvlp.shards import Sample, make_key
from medvlp.shards.vocabulary import SPLITS
from medvlp.wording.label_captions import GapError, NoCaption, Templates

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CaptionedFile:
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


@dataclass(frozen=True)
class CaptionedFileOptions(Options):
    """Options of every source of single files."""

    templates: str = ""
    """Sentences for labels: a name under configs/templates, or a .yaml file."""
    licence: str = ""
    """An id, such as CC-BY-4.0."""
    modality: str = ""
    """Of the images, where the templates name none."""
    group: str = ""
    """A regular expression on paths, whose named group `group` is the patient, as (?P<group>person[0-9]+)_ is for
    train/NORMAL/person1_2.jpeg."""
    private: bool = False
    """Files come from patients' records: nothing that identifies a person goes into the samples."""


class CaptionedFileSource(Source):
    """A source of files below a folder; a subclass says which there are (`rows`) and how one is read (`media`).

    Where files come from patients' records (`private`), keys, groups, original names and the names of drops are
    pseudonyms, and drops give no details, because these quote names. What the captions say is left to stages.
    """

    option_type = CaptionedFileOptions
    choices: CaptionedFileOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        self.folder = Path(input)
        self.private = self.choices.private
        self.templates: Templates | None = None
        self._key = load_key() if self.private else None

    def load_captions(self, templates: str, licence: str) -> None:
        """The templates by name, and the licence of all samples that state none. Raises PrepError."""
        self.templates = load_templates(templates) if templates else None
        self.licence = known_licence(licence)

    def rows(self) -> Iterable[tuple[str, CaptionedFile | Dropped]]:
        """(split, row) of all that the source holds, in its order."""
        raise NotImplementedError

    def media(self, row: CaptionedFile) -> tuple[dict[str, bytes], dict[str, Any]]:
        """(images by member name, metadata) of a row's file. Raises BadRow."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
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
        try:
            self.templates.check_gaps(columns)
        except GapError as error:
            raise PrepError(str(error)) from None
        return self.templates.columns()

    def digest_sizes(self) -> str:
        """sha256 of the names and sizes of all files that rows name: hashing a million images is too slow."""
        digest = hashlib.sha256()
        for split in SPLITS:
            for row, size in zip(self._rows[split], self._sizes[split], strict=True):
                digest.update(
                    f"{row.path if isinstance(row, CaptionedFile) else ''}\t{size}\n".encode("utf-8", "surrogatepass")
                )
        return digest.hexdigest()

    def units(self) -> list[Unit]:
        """Consecutive rows, in the source's order. A unit stays done while its rows and the sizes of their files do."""
        return [
            replace(unit, fingerprint=self._fingerprint(split, *unit.selection))
            for split in SPLITS
            for unit in chunks(split, len(self._rows[split]), self.samples_per_shard)
        ]

    def _fingerprint(self, split: str, start: int, stop: int) -> str:
        rows, sizes = self._rows[split][start:stop], self._sizes[split][start:stop]
        # A row is written as caches have it, under the name that its class had when they were begun.
        texts = [
            repr(row).replace("CaptionedFile(", "Row(", 1) if isinstance(row, CaptionedFile) else repr(row)
            for row in rows
        ]
        listing = "\n".join(f"{size}\t{text}" for size, text in zip(sizes, texts, strict=True))
        return hashlib.sha256(listing.encode("utf-8", "surrogatepass")).hexdigest()

    @cached_property
    def _sizes(self) -> dict[str, array[int]]:
        """Bytes of each row's file; -1 where there is none."""
        return {split: array("q", map(self._size, rows)) for split, rows in self._rows.items()}

    def _size(self, row: CaptionedFile | Dropped) -> int:
        size = size_of(self.folder, row.path) if isinstance(row, CaptionedFile) else None
        return -1 if size is None else size

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """Every row, as a sample or as a drop."""
        start, stop = unit.selection
        for row in self._rows[unit.split][start:stop]:
            try:
                yield self._hidden(row) if isinstance(row, Dropped) else self._sample(row)
            except BadRow as bad:
                name, labels = (row.path, row.labels) if isinstance(row, CaptionedFile) else (row.name, ())
                yield self._hidden(Dropped(name, bad.reason, bad.detail, labels=_label_name(labels)))

    @cached_property
    def _rows(self) -> dict[str, list[CaptionedFile | Dropped]]:
        # A process reads many units: files are listed and tables parsed once for all of them.
        rows: dict[str, list[CaptionedFile | Dropped]] = {split: [] for split in SPLITS}
        for split, row in self.rows():
            rows[split].append(row)
        if not any(rows.values()):
            raise PrepError(f"{self.folder} holds nothing for source {self.name}: no file, or a table without rows")
        return rows

    def _sample(self, row: CaptionedFile) -> Sample:
        check_utf8(row.path, "the file's name")
        images, file_metadata = self.media(row)
        key = self.key_of(row)
        captions = list(row.captions)
        try:
            templated_captions = (
                self.templates.captions(row.labels, key, row.values) if self.templates and row.labels else []
            )
        except NoCaption as fault:
            raise BadRow(fault.reason, fault.detail) from None
        modality = row.modality or (self.templates.modality if self.templates else "")
        texts = numbered_captions(list(dict.fromkeys([*captions, *templated_captions])))
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
                **file_metadata,
            },
        )

    def key_of(self, row: CaptionedFile) -> str:
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
