"""A mapping: what the columns of a published table mean, as a YAML file says it.

`configs/mappings/<name>.yaml`, in the working folder or shipped; the first comment is its line in listings:

    # MedQA: exams of the US, mainland China and Taiwan
    known_from: [https://...]     where the layout was read, and when
    read_on: 2026-11
    licence: MIT                  an id, or a column; publication: {title, authors, venue, year, url}
    files: {train: a/*.jsonl}     split → files below the input (patterns); `any` where a column tells the split
    table: ...                    how it is written and joined; see `TableForm`
    question: question            what a question is made of; see `Mapping`
    options: [opa, opb]
    answer: {letter: answer_idx}

    optional: [explanation]       columns that need not be there

A column is named as the publisher does. `a.b` is the field b of an object in a; `{a}.jpg` is a text with the column's in it,
`{a:3}` with its first three characters.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping as Map
from dataclasses import dataclass, field

from data_prep.sources.questions.records.boxes import BoxesTerm
from medvlp.shards.publication import Publication

GAP = re.compile(r"\{([^{}:]+)(?::(\d+))?\}")
ANY = "any"
"""Of `files`: those whose split a column tells."""

ANSWERS = ("letter", "index", "text", "number", "set", "option")
"""Kinds of answers: the name of an option, its position, its text or free text; a number; several texts, all of them right; the
same option in all rows, by its text."""

LABELS = ("column", "classes", "one_of", "weights")
"""Where a label is: a class or a list in a column; one column a class; the same where one alone is 1; classes with weights."""


def columns_of(term: str) -> list[str]:
    """The columns that a term of a mapping names."""
    return [match[1] for match in GAP.finditer(term)] or ([term] if term else [])


@dataclass(frozen=True)
class Join:
    """Another table, whose columns each row gets from the row of the same key. Of rows with one key, the first counts, or with
    `many` all of them: their cells become lists."""

    file: str
    """Its name below the input, or a pattern of several."""
    id: str
    """The column of the key there."""
    key: str = ""
    """What each row has as the key; empty: the column of the same name."""
    columns: tuple[str, ...] = ()
    """Those that are taken; empty: all."""
    is_many: bool = False
    inner: bool = False
    """Rows without a partner are of another kind, and are left out and counted."""


@dataclass(frozen=True)
class TableForm:
    """How the tables are written."""

    columns: tuple[str, ...] = ()
    """Of text tables without a header, in order."""
    separator: str = ""
    quotes: str = "double"
    encoding: str = ""
    keys: str = ""
    """Of JSON files that are one object: what its keys are called as a column."""
    filters: Map[str, tuple[str, ...]] = field(default_factory=dict)
    """Column → values; rows with others are of another kind: left out, and counted."""
    join: tuple[Join, ...] = ()
    unfold: Map[str, tuple[str, ...]] = field(default_factory=dict)
    """New column → columns, as many for each: every row becomes so many rows, one with each column's cell. What is asked of two
    images in one row becomes two questions."""
    items: str = ""
    """Of JSON, the column of a list of objects: every entry becomes as many rows, one with each object; one without, of none."""


@dataclass(frozen=True)
class QuestionTerm:
    """The question: a column, or one text for all rows (what images ask themselves)."""

    column: str = ""
    text: str = ""
    end: str = ""
    """Where it ends: the column goes on with the options, after these words."""


@dataclass(frozen=True)
class OptionsTerm:
    """The options: a column with all of them, a column each, the same for all rows, or the end of the question's text."""

    column: str = ""
    columns: Map[str, str] = field(default_factory=dict)
    """Letter → column."""
    fixed: tuple[str, ...] = ()
    inline: bool = False
    skip: tuple[str, ...] = ()
    """Texts that stand for no option, and names of what is none."""


@dataclass(frozen=True)
class AnswerTerm:
    """The answer: its kind and its column."""

    kind: str = "text"
    column: str = ""
    first: int = 0
    """index: the number of the first option."""
    lower: str = ""
    upper: str = ""
    """number: columns of the least and the greatest that is right."""
    open: bool = False
    """letter: rows without options have the answer itself in the column. index: a row with one option has it as its answer."""
    names: Map[str, str] = field(default_factory=dict)
    """text: the publisher's word → the answer, for codes."""
    number_type: str = ""
    """number: decimal, integer, date or weeks; or a column that says it."""


@dataclass(frozen=True)
class GroupTerm:
    """What stays in one split."""

    column: str
    kind: str = "patient"
    pattern: str = ""
    """A regular expression with one group, for ids inside of paths."""


@dataclass(frozen=True)
class LabelTerm:
    """A label of the sample."""

    kind: str
    column: str = ""
    columns: Map[str, str] = field(default_factory=dict)
    """Column → class."""
    is_list: bool = False
    """Whether the cell lists classes; else it is one class."""
    separator: str = ""
    names: Map[str, str] = field(default_factory=dict)
    """The publisher's word → the class, for codes."""


@dataclass(frozen=True)
class Mapping:
    """A file of a mapping, checked. Terms are as the module says; "" where the data have no such thing."""

    name: str
    title: str
    digest: str
    known_from: tuple[str, ...]
    read_on: str
    files: Map[str, tuple[str, ...]]
    """Split (or `ANY`) → patterns."""
    publication: Publication | None = None
    licence: str = ""
    table: TableForm = TableForm()
    question: QuestionTerm | None = None
    context: tuple[str, ...] = ()
    """Texts that stand before the question, each on lines of its own."""
    options: OptionsTerm | None = None
    answer: AnswerTerm | None = None
    images: tuple[str, ...] = ()
    """Columns of images, embedded or names; or patterns of names."""
    image_folders: tuple[str, ...] = ("",)
    """Below the input; the first that has the file is meant."""
    id: str = ""
    explanation: str = ""
    question_type: str = ""
    subject: str = ""
    language: str = ""
    group: GroupTerm | None = None
    split: str = ""
    captions: tuple[str, ...] = ()
    texts: Map[str, str] = field(default_factory=dict)
    labels: Map[str, LabelTerm] = field(default_factory=dict)
    """Label → where it is; templates make captions of the first."""
    boxes: BoxesTerm | None = None
    """Boxes in the image, for each label of which a question is made."""
    templates: str = ""
    modality: str = ""
    organ: str = ""
    fields: Map[str, str] = field(default_factory=dict)
    """Further metadata of a question → column."""
    patterns: Map[str, str] = field(default_factory=dict)
    """Of these fields, the part that a regular expression's group finds; where it finds none, the row has no such field."""
    metadata: Map[str, str] = field(default_factory=dict)
    """Further metadata of a sample → column."""

    optional: frozenset[str] = frozenset()
    """Columns that need not be there."""

    @property
    def page(self) -> str:
        """The address where the data set is published, as far as the mapping knows it."""
        return self.known_from[0] if self.known_from else ""

    def files_in_words(self) -> str:
        """Which files it reads."""
        return "; ".join(f"{split}: {', '.join(patterns)}" for split, patterns in self.files.items())

    def is_optional(self, term: str) -> bool:
        """Whether the columns of a term need not be there."""
        return self.optional.issuperset(columns_of(term))

    def columns(self) -> list[str]:
        """All terms that name columns, without repetitions. `licence`, `language`, `modality` and `organ` may be constants, and
        are not among them."""
        question, options, answer = self.question, self.options, self.answer
        terms = [
            *(question.column if question else "", *self.context),
            *([options.column, *options.columns.values()] if options else []),
            *([answer.column, answer.lower, answer.upper] if answer and answer.kind != "option" else []),
            *(self.boxes.terms() if self.boxes else []),
            *(*self.images, self.id, self.explanation, self.question_type, self.subject, self.split),
            *([self.group.column] if self.group else []),
            *(*self.captions, *self.texts.values(), *self.fields.values(), *self.metadata.values()),
            *(term for label in self.labels.values() for term in (label.column, *label.columns)),
            *(*self.table.filters, *(join.key or join.id for join in self.table.join)),
            *(column for columns in self.table.unfold.values() for column in columns),
        ]
        return list(dict.fromkeys(term for term in terms if term))

    def constants(self) -> list[str]:
        """Terms that are a column where the table has one of the name, else a value for all rows."""
        number_type = self.answer.number_type if self.answer else ""
        of_boxes = (self.boxes.label, *self.boxes.size) if self.boxes else ()
        return [t for t in (self.licence, self.language, self.modality, self.organ, number_type, *of_boxes) if t]


def digest_of(text: str) -> str:
    """Of a mapping's file."""
    return hashlib.sha256(text.encode()).hexdigest()
