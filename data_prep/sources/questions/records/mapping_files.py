"""Files of mappings: found by name, parsed as data that nobody vouches for, checked before a row is read."""

from __future__ import annotations

import re
from collections.abc import Mapping as Map
from pathlib import Path
from typing import Any

from data_prep.captions.template_files import find_yaml, read_yaml
from data_prep.readers.checked_yaml import CheckedFile
from data_prep.readers.tables.text_tables import QUOTES
from data_prep.sources.questions.records.boxes import boxes_term
from data_prep.sources.questions.records.mapping import (
    ANSWERS,
    ANY,
    LABELS,
    AnswerTerm,
    GroupTerm,
    Join,
    LabelTerm,
    Mapping,
    OptionsTerm,
    QuestionTerm,
    TableForm,
    digest_of,
)
from medvlp.shards.publication import Publication
from medvlp.shards.vocabulary import SPLITS

TEXTS = (
    "licence",
    "id",
    "explanation",
    "question_type",
    "subject",
    "language",
    "split",
    "templates",
    "modality",
    "organ",
)
KEYS = (
    *("known_from", "read_on", "publication", "files", "table", "question", "context", "options", "answer", "images"),
    *(
        "image_folders",
        "group",
        "captions",
        "texts",
        "labels",
        "boxes",
        "fields",
        "patterns",
        "metadata",
        "optional",
        *TEXTS,
    ),
)
RESERVED = ("answer_type", "options", "answer_letter", "answer_letters", "number_type", "lower", "upper", "answer_set")
"""Of a question's metadata: what `options` and `answer` decide."""


def load_mapping(name: str) -> Mapping:
    """The mapping of a name, or of a path that ends in .yaml. Raises PrepError: file, key and how to fix it."""
    path = find_yaml(name, "mappings", "or a .yaml file that says what the columns mean")
    text, content = read_yaml(path)
    title = next((line[1:].strip() for line in text.splitlines() if line.startswith("#")), path.stem)
    return _Checked(path, content, KEYS).mapping_of(title, digest_of(text))


class _Checked(CheckedFile):
    """A parsed file, as nobody vouches for its shape."""

    def mapping_of(self, title: str, digest: str) -> Mapping:
        page = self.content
        mapping = Mapping(
            name=self.path.stem,
            title=title,
            digest=digest,
            known_from=self.several("known_from", page.get("known_from", [])),
            read_on=self.text(page.get("read_on", ""), "read_on"),
            files=self.files(),
            publication=self.publication(),
            table=self.table(self.mapping(page.get("table", {}), "table", _names(TableForm))),
            question=self.question(),
            context=self.several("context", page.get("context", [])),
            options=self.options(),
            answer=self.answer(),
            images=self.several("images", page.get("images", [])),
            image_folders=self.several("image_folders", page.get("image_folders", [""])),
            group=self.group(),
            captions=self.several("captions", page.get("captions", [])),
            texts=self.named("texts"),
            labels=self.labels(),
            boxes=boxes_term(self, page.get("boxes")),
            fields=self.named("fields"),
            patterns=self.patterns(),
            metadata=self.named("metadata"),
            optional=frozenset(self.several("optional", page.get("optional", []))),
            **{key: self.text(page.get(key, ""), key) for key in TEXTS},
        )
        self.check(mapping)
        return mapping

    def check(self, mapping: Mapping) -> None:
        """What holds between the parts of a file."""
        if (mapping.question is None) != (mapping.answer is None):
            self.fail("question", "needs an answer, and an answer a question", "give both, or none")
        if mapping.question is None and not (mapping.captions or mapping.labels or mapping.boxes):
            self.fail(
                "the file", "says neither what is asked nor captions, labels or boxes", "give question and answer"
            )
        if mapping.question is None and not mapping.images:
            self.fail("images", "is missing", "captions and labels are of images: name their column")
        if mapping.options and mapping.options.inline and not (mapping.question and mapping.question.column):
            self.fail("options.inline", "is true, but the question is no column", "name the column of the question")
        if mapping.answer and mapping.answer.kind in ("letter", "index", "option") and not mapping.options:
            self.fail(f"answer.{mapping.answer.kind}", "names an option, but there are no options", "give options")
        if mapping.answer and mapping.answer.kind in ("number", "set") and mapping.options:
            self.fail(f"answer.{mapping.answer.kind}", "stands next to options", "leave the options out")
        if ANY in mapping.files and not mapping.split:
            self.fail("files.any", "has files of several splits, but no column tells them", "give split: <column>")
        if reserved := sorted({*mapping.fields} & {*RESERVED, "language", "subject", "question_type", "rationale"}):
            self.fail(f"fields.{reserved[0]}", "has a key of its own", "use that, or another name")
        if reserved := sorted({*mapping.metadata} & {"group", "group_kind", "licence", "source", "modality", "organ"}):
            self.fail(f"metadata.{reserved[0]}", "has a key of its own, or is the source's", "use another name")
        if any(name == "caption" or re.fullmatch(r"caption_\d+", name) for name in mapping.texts):
            self.fail("texts.caption", "is the caption", "name its column under captions")

    def files(self) -> dict[str, tuple[str, ...]]:
        page = self.mapping(self.content.get("files", {}), "files", (*SPLITS, ANY))
        files = {split: self.several(f"files.{split}", patterns) for split, patterns in page.items()}
        for split, patterns in files.items():
            if not patterns or any(".." in Path(p).parts or Path(p).is_absolute() for p in patterns):
                self.fail(f"files.{split}", f"is {list(patterns)}", "expected names or patterns below the input folder")
        if not files:
            self.fail("files", "is missing", "say which files are which split: {train: train.jsonl, test: test.jsonl}")
        return files

    def publication(self) -> Publication | None:
        keys = ("title", "authors", "venue", "year", "url")
        page = self.mapping(self.content.get("publication", {}), "publication", keys)
        if not page:
            return None
        title, authors, venue, year, url = (self.text(page.get(key, ""), f"publication.{key}") for key in keys)
        if not (title and authors and venue and url.startswith("https://") and re.fullmatch(r"\d{4}", year)):
            self.fail("publication", "lacks a part", f"give {', '.join(keys)}; the address begins with https://")
        return Publication(title, authors, venue, int(year), url)

    def table(self, page: dict[str, Any]) -> TableForm:
        joins = page.get("join", [])
        joins = [joins] if isinstance(joins, dict) else joins
        if not isinstance(joins, list):
            self.fail("table.join", f"is {joins!r}", "expected {file: …, id: …}, or a list of these")
        filters = self.mapping(page.get("filters", {}), "table.filters")
        quotes = self.text(page.get("quotes", "double"), "table.quotes")
        if quotes not in QUOTES:
            self.fail("table.quotes", f"is {quotes!r}", f"expected one of {', '.join(QUOTES)}")
        return TableForm(
            columns=self.several("table.columns", page.get("columns", [])),
            separator=self.text(page.get("separator", ""), "table.separator"),
            quotes=quotes,
            encoding=self.text(page.get("encoding", ""), "table.encoding"),
            keys=self.text(page.get("keys", ""), "table.keys"),
            filters={column: self.several(f"table.filters.{column}", values) for column, values in filters.items()},
            join=tuple(self.join(f"table.join[{number}]", item) for number, item in enumerate(joins)),
            unfold=self.unfold(page.get("unfold", {})),
            items=self.text(page.get("items", ""), "table.items"),
        )

    def unfold(self, value: Any) -> dict[str, tuple[str, ...]]:
        page = self.mapping(value, "table.unfold")
        columns = {name: self.several(f"table.unfold.{name}", names) for name, names in page.items()}
        if len({len(names) for names in columns.values()}) > 1:
            self.fail("table.unfold", "has lists of different lengths", "give as many columns for each new one")
        return columns

    def patterns(self) -> dict[str, str]:
        patterns = self.named("patterns")
        for name, pattern in patterns.items():
            if name not in self.content.get("fields", {}):
                self.fail(f"patterns.{name}", "is of no field", "give fields the column that it looks in")
            self.group_pattern(f"patterns.{name}", pattern)
        return patterns

    def group_pattern(self, key: str, pattern: str) -> None:
        """That a regular expression has one group."""
        try:
            if re.compile(pattern).groups != 1:
                self.fail(key, f"is {pattern!r}", "expected one group in brackets: (patient[0-9]+)")
        except re.error as error:
            self.fail(key, f"is no regular expression: {error}", "fix it")

    def join(self, key: str, item: Any) -> Join:
        page = self.mapping(item, key, ("file", "id", "key", "columns", "many", "inner"))
        file, column, term = (self.text(page.get(name, ""), f"{key}.{name}") for name in ("file", "id", "key"))
        if not file or not column or ".." in Path(file).parts or Path(file).is_absolute():
            self.fail(key, "lacks the file or the column of the key", "give {file: labels.csv, id: case_id}")
        is_many, inner = (self.flag(page.get(name, False), f"{key}.{name}") for name in ("many", "inner"))
        return Join(file, column, term, self.several(f"{key}.columns", page.get("columns", [])), is_many, inner)

    def question(self) -> QuestionTerm | None:
        value = self.content.get("question")
        if value is None:
            return None
        if not isinstance(value, dict):
            return QuestionTerm(self.text(value, "question"))
        page = self.mapping(value, "question", _names(QuestionTerm))
        term = QuestionTerm(*(self.text(page.get(name, ""), f"question.{name}") for name in _names(QuestionTerm)))
        if bool(term.column) == bool(term.text):
            self.fail("question", "has not one of column and text", "give the column, or one text for all rows")
        return term

    def options(self) -> OptionsTerm | None:
        value = self.content.get("options")
        if value is None:
            return None
        if isinstance(value, str):
            return OptionsTerm(column=value)
        if isinstance(value, list):
            columns = self.several("options", value)
            return OptionsTerm(columns={chr(ord("A") + n): column for n, column in enumerate(columns[:26])})
        page = self.mapping(value, "options")
        if set(page) == {"fixed"}:
            return OptionsTerm(fixed=self.several("options.fixed", page["fixed"]))
        if set(page) == {"inline"}:
            return OptionsTerm(inline=self.flag(page["inline"], "options.inline"))
        if "column" in page:
            page = self.mapping(page, "options", ("column", "skip"))
            skip = self.several("options.skip", page.get("skip", []))
            return OptionsTerm(column=self.text(page["column"], "options.column"), skip=skip)
        return OptionsTerm(columns=self.named("options"))

    def answer(self) -> AnswerTerm | None:
        value = self.content.get("answer")
        if value is None:
            return None
        if isinstance(value, str):
            return AnswerTerm(column=value)
        page = self.mapping(value, "answer", (*ANSWERS, "first", "lower", "upper", "number_type", "open", "names"))
        kinds = [kind for kind in ANSWERS if kind in page]
        if len(kinds) != 1:
            self.fail("answer", f"has {', '.join(kinds) or 'no kind'}", f"expected one of {', '.join(ANSWERS)}")
        first = page.get("first", 0)
        if not isinstance(first, int) or isinstance(first, bool):
            self.fail("answer.first", f"is {first!r}", "expected the number of the first option: 0 or 1")
        words = {name: self.text(page.get(name, ""), f"answer.{name}") for name in ("lower", "upper", "number_type")}
        is_open, names = self.flag(page.get("open", False), "answer.open"), self.names("answer", page)
        return AnswerTerm(
            kinds[0], self.text(page[kinds[0]], f"answer.{kinds[0]}"), first, open=is_open, names=names, **words
        )

    def names(self, key: str, page: dict[str, Any]) -> dict[str, str]:
        names = self.mapping(page.get("names", {}), f"{key}.names")
        return {word: self.text(text, f"{key}.names.{word}") for word, text in names.items()}

    def group(self) -> GroupTerm | None:
        value = self.content.get("group")
        if value is None:
            return None
        if isinstance(value, str):
            return GroupTerm(value)
        page = self.mapping(value, "group", _names(GroupTerm))
        words = {name: self.text(text, f"group.{name}") for name, text in page.items()}
        if words.get("pattern"):
            self.group_pattern("group.pattern", words["pattern"])
        if not words.get("column"):
            self.fail("group.column", "is missing", "name the column of the patient")
        return GroupTerm(**words)

    def labels(self) -> dict[str, LabelTerm]:
        labels: dict[str, LabelTerm] = {}
        for name, value in self.mapping(self.content.get("labels", {}), "labels").items():
            key = f"labels.{name}"
            if isinstance(value, str):
                labels[name] = LabelTerm("column", value)
                continue
            page = self.mapping(value, key, (*LABELS, "list", "separator", "names"))
            kinds = [kind for kind in LABELS if kind in page]
            if len(kinds) != 1:
                self.fail(key, f"has {', '.join(kinds) or 'no kind'}", f"expected one of {', '.join(LABELS)}")
            kind = kinds[0]
            separator = self.text(page.get("separator", ""), f"{key}.separator")
            term = LabelTerm(
                kind,
                self.text(page[kind], f"{key}.{kind}") if kind in ("column", "weights") else "",
                self.classes(f"{key}.{kind}", page[kind]) if kind in ("classes", "one_of") else {},
                self.flag(page.get("list", bool(separator)), f"{key}.list"),
                separator,
                self.names(key, page),
            )
            labels[name] = term
        return labels

    def classes(self, key: str, value: Any) -> dict[str, str]:
        if isinstance(value, list):
            return {column: column for column in self.several(key, value)}
        page = self.mapping(value, key)
        return {column: self.text(name, f"{key}.{column}") for column, name in page.items()}

    def named(self, key: str) -> dict[str, str]:
        page = self.mapping(self.content.get(key, {}), key)
        return {name: self.text(value, f"{key}.{name}") for name, value in page.items()}

    def several(self, key: str, value: Any) -> tuple[str, ...]:
        """Texts; one may stand alone."""
        return self.texts(value if isinstance(value, list) else [value], key)


def _names(cls: Any) -> tuple[str, ...]:
    fields: Map[str, Any] = cls.__dataclass_fields__
    return tuple(fields)
