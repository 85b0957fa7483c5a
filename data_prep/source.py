"""Sources: classes with the facts of a publication, which plan units of work and read one unit at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, get_type_hints

from data_prep.draft import Counts
from data_prep.errors import PrepError
from medvlp.shards import Sample
from medvlp.shards.publication import Publication


@dataclass(frozen=True)
class Unit:
    """A piece of a split that becomes one shard."""

    split: str
    """train, valid or test."""
    number: int
    """Position in the split, from 0."""
    selection: Any
    """What to read, in plain JSON values, so that any process on any machine can do it."""
    fingerprint: str = ""
    """What identifies the unit's own part of the input (a digest); empty: the whole input's fingerprint does.

    With one of its own, a unit stays done when something else of the input changes."""


@dataclass(frozen=True)
class Dropped:
    """A row of the source that cannot become a sample; stage `read` of the ledger counts it under its reason."""

    name: str
    """The publisher's name of it."""
    reason: str
    detail: str
    texts: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """Short texts of the row: one of them may name an image, which then is not without a row."""
    labels: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """As far as they are known, so that a class that loses all its samples is noticed."""


@dataclass(frozen=True)
class Options:
    """The choices of a source, a field each: `options.<name>=<value>` on the command line. Every field has a default;
    the text under it is its help."""


@dataclass(frozen=True)
class Origin:
    """From where a data set comes: what `medvlp list tasks` says where it is not prepared."""

    title: str
    page: str
    """The publisher's, where the files are or where access is asked for; empty where there is none."""
    files: str
    """Which files, as the publisher names them, in one line; empty: none has to be fetched."""
    licence: str
    """Empty where each sample has its own, or nothing is known."""


class Source(ABC):
    """One publisher's layout. A subclass states its facts as class attributes, and its choices as a dataclass."""

    name: str
    """Of the source; of one that reads many data sets, an instance has the data set's."""
    description: ClassVar[str]
    """One line for listings."""
    publication: Publication | None = None
    """None where anyone may have such files: a folder, a table, DICOM."""
    licence: str = ""
    """Of the data set as a whole: an id, or `unknown` where its publisher states none. Empty where each sample has its
    own, or where the user gives one."""
    page: ClassVar[str] = ""
    """The publisher's page with the files; empty: the publication's address."""
    files: ClassVar[str] = ""
    """Which of the publisher's files are read, in one line; empty: none has to be fetched."""
    tools: ClassVar[tuple[str, ...]] = ()
    """Distributions, beyond those that every source uses, whose version can change the bytes of a sample."""
    private: bool = False
    """Samples come from patients' records: stages de-identify texts and pixels, and the source itself gives pseudonyms to
    keys, groups, names and drops."""
    option_type: ClassVar[type[Options]] = Options
    flag_option: ClassVar[str] = ""
    """The option that `flag=` is another name for; empty: the source has no flags."""

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        """options: fields of `option_type`. Raises PrepError for a value of another type."""
        self.choices = self.option_type(**_typed(self.option_type, options))
        self.samples_per_shard = samples_per_shard
        self.counts: Counts = Counter()
        """(stage, what) → how often, of what the unit that was read last held besides samples and drops."""
        self.input_counts: dict[str, int] = {}
        """What → how often, of what the input as a whole holds besides rows; complete after `units`."""

    def options(self) -> dict[str, Any]:
        """The choices that shape the samples, for the manifest."""
        return {"samples_per_shard": self.samples_per_shard}

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """What identifies the input: file (or group of files) → digest. Two runs with equal ones read the same."""

    @abstractmethod
    def units(self) -> list[Unit]:
        """The work, in the order of the data set. The same input gives the same list."""

    @abstractmethod
    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """The samples of a unit, one after the other; every row of the source comes out, as one or the other."""

    @classmethod
    def origin(cls, options: Mapping[str, Any]) -> Origin:
        """From where the files come that these options read. Raises PrepError for options that name nothing."""
        page = cls.page or (cls.publication.url if cls.publication else "")
        return Origin(cls.description, page, cls.files, cls.licence)


def facts_of(source: Source | type[Source]) -> dict[str, Any]:
    """What the ledger says of a source, for the reports: name, and licence and publication where there are any."""
    licence = {"licence": source.licence} if source.licence else {}
    publication = {"publication": asdict(source.publication)} if source.publication else {}
    return {"name": source.name, **licence, **publication}


def chunks(split: str, rows: int, samples_per_shard: int) -> list[Unit]:
    """Units of consecutive rows; a selection is [start, stop]."""
    starts = range(0, rows, samples_per_shard)
    return [Unit(split, n, [start, min(start + samples_per_shard, rows)]) for n, start in enumerate(starts)]


EXPECTED = {bool: "true or false", int: "a whole number", str: "a text"}


def _typed(option_type: type[Options], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, checked. Where a text is expected, numbers, true and false are the texts that they were typed as: a
    column may be called 2024. A list of names is a tuple; one name may stand alone. Raises PrepError."""
    types = get_type_hints(option_type)
    return {name: _value(name, value, types[name]) if name in types else value for name, value in options.items()}


def _value(name: str, value: Any, kind: Any) -> Any:
    if isinstance(value, bool | int | float) and kind not in (bool, int):
        value = str(value).lower() if isinstance(value, bool) else str(value)
    if kind in EXPECTED:
        if value is None:  # options.group=null: nothing was given
            return None
        if type(value) is not kind:
            raise PrepError(f"options.{name} is {value!r}, expected {EXPECTED[kind]}")
        return value
    if value in ("", None):
        return ()
    names = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else None
    if names is None or not all(isinstance(text, str) and text for text in names):
        raise PrepError(f"options.{name} is {value!r}, expected names: options.{name}=[first,second]")
    return tuple(names)
