"""Tables of questions, of captions or of labels, in any usual file, as a mapping says: exams, visual questions, reports, classes.

    parquet                    images inside, as Hugging Face writes them: {bytes, path}, or lists of them
    .jsonl, .json              lines, a list, or one object whose fields are entries; images as names or base64
    .csv, .tsv, .txt           with a header, or without one

`options.mapping=<name>` says what the columns mean: a file configs/mappings/<name>.yaml, in the working folder or shipped, or
the path of one. `medvlp list mappings` shows the shipped ones. input is the folder that holds the mapping's files, or one file.

A row becomes a question (with options, an answer that is a letter, an index, a text, a number or several of them, images or
none), or captions and labels of its images. Rows about the same images become one sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from data_prep.captions.captioned_files import known_licence
from data_prep.captions.template_files import load_templates
from data_prep.conversations.parquet_questions import ImageLocation, ParquetQuestionSource
from data_prep.conversations.questions import QuestionRow, QuestionRows, QuestionSource, parse_rows
from data_prep.errors import BadRow, PrepError
from data_prep.readers.fields import Entry
from data_prep.readers.guarded import digest_file
from data_prep.readers.image_files import read_below, shard_image
from data_prep.readers.tables.cells import list_in
from data_prep.readers.tables.label_cells import UNCERTAINTY
from data_prep.readers.tables.text_tables import dialect_of
from data_prep.source import Dropped, Options, Origin, Unit
from data_prep.sources.questions.records.files import (
    files_of_folder,
    require_columns,
    split_of_file,
)
from data_prep.sources.questions.records.images import ImageFolders, image_id, with_unique_ids
from data_prep.sources.questions.records.label_captions import label_captions
from data_prep.sources.questions.records.mapping import ANY, columns_of
from data_prep.sources.questions.records.mapping_files import load_mapping
from data_prep.sources.questions.records.questions import conversation_of
from data_prep.sources.questions.records.rows import EmbeddedImage, RecordEntry, RowReader, RowState, bytes_in
from data_prep.sources.questions.records.tables import JoinedTable, RecordTable
from data_prep.vocabulary.licences import UNKNOWN, normalise
from data_prep.vocabulary.text import CAPTIONS, numbered_captions
from medvlp.shards import Sample, make_key
from medvlp.shards.vocabulary import SPLITS

CONTRADICTIONS = "rows whose labels differ from those of an earlier row about the images"


@dataclass(frozen=True)
class RecordsOptions(Options):
    """Options of the source records."""

    mapping: str = ""
    """What the columns mean: a name under configs/mappings, or a .yaml file."""
    images: str = ""
    """Folder of image files, as a path from the input folder or an absolute one; empty: as the mapping says."""
    split: str = ""
    """Of an input that is one file; empty: as the mapping or the file's name says."""
    templates: str = ""
    """Sentences for labels, a name under configs/templates or a .yaml file; empty: as the mapping says, else generic where
    nothing else has words."""
    uncertain: str = "keep"
    """What becomes of a class marked as uncertain (-1): keep, ones (present), zeros (absent), ignore (not stated)."""
    licence: str = ""
    """An id, where the mapping knows none."""
    encoding: str = ""
    """Of text tables, such as cp1252; empty: as the mapping says, else as a byte order mark says, else UTF-8."""
    separator: str = ""
    """Between the cells of a text table; empty: as the mapping says, else as the header shows."""
    quotes: str = ""
    """Of text tables: double, backslash, or none; empty: as the mapping says."""


class Records(ParquetQuestionSource):
    """Reader of tables that a mapping describes. Raises PrepError if a file or a column that it needs is not there."""

    name = "records"
    description = "tables of questions, captions or labels, with embedded images or files, as a mapping says"
    licence = UNKNOWN
    option_type = RecordsOptions
    choices: RecordsOptions
    splits = SPLITS

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        choices = self.choices
        if choices.uncertain not in UNCERTAINTY:
            raise PrepError(f"options.uncertain={choices.uncertain} is not one of {', '.join(UNCERTAINTY)}")
        self.mapping = mapping = load_mapping(choices.mapping)
        path = Path(input)
        if not input or not path.exists():
            raise PrepError(
                f"input={input or '(not given)'} is not there; give the folder (or a file) of {mapping.name}: "
                f"{mapping.files_in_words()}"
            )
        self.folder = path.parent if path.is_file() else path
        form = mapping.table
        self.dialect = dialect_of(
            choices.encoding or form.encoding, choices.separator or form.separator, choices.quotes or form.quotes
        )
        self.name, self.publication = mapping.name, mapping.publication
        if mapping.boxes:
            self.box_question, self.box_agreement = mapping.boxes.question, mapping.boxes.agreement
        licence = choices.licence or mapping.licence
        if path.is_file():
            self._files = [(split_of_file(mapping, path, choices.split), path)]
        elif choices.split:
            raise PrepError(
                "options.split is for an input that is one file; the mapping says it of the files of a folder"
            )
        else:
            self._files = files_of_folder(mapping, path, self.input_counts)
        has_words = bool(mapping.captions or mapping.question)
        templates = choices.templates or mapping.templates or ("" if has_words else "generic")
        self.templates = load_templates(templates) if templates else None
        self.tables_by_path = {p: RecordTable(p, form, self.dialect) for p in dict.fromkeys(p for _, p in self._files)}
        self._joins = [JoinedTable(join, self.folder, form, self.dialect) for join in form.join]
        for table in self.tables_by_path.values():
            require_columns(mapping, table, self.known_columns(table))
        is_column = any(licence in self.known_columns(table) for table in self.tables_by_path.values())
        self.licence = UNKNOWN if is_column else known_licence(licence)
        self.image_folders = ImageFolders(self.folder, choices.images, mapping.image_folders)
        self.images = self.image_folders.root
        self._counts: Counter[str] = Counter()
        self._shard_metadata: dict[str, dict[str, Any]] = {}
        """Image → what its file was before, until the sample has it."""

    @classmethod
    def origin(cls, options: Mapping[str, Any]) -> Origin:
        """Of the mapping's data set. Raises PrepError if there is no mapping of the name."""
        mapping = load_mapping(str(options.get("mapping") or ""))
        return Origin(mapping.title, mapping.page, mapping.files_in_words(), mapping.licence or UNKNOWN)

    def known_columns(self, table: RecordTable) -> list[str]:
        """Of a table and of those that are joined to it."""
        return [*table.columns, *(name for join in self._joins for name in join.columns)]

    def tables(self) -> list[Path]:
        """The files with rows."""
        return list(self.tables_by_path)

    def options(self) -> dict[str, Any]:
        """The mapping by content, and what else shapes the samples."""
        options = {**super().options(), "mapping": self.mapping.name, "mapping_sha256": self.mapping.digest}
        options |= {"uncertain": self.choices.uncertain, "split": self.choices.split, "licence": self.licence}
        images = self.choices.images
        options |= {"images": Path(images).name if Path(images).is_absolute() else images}
        options |= {key: text for key in ("encoding", "separator", "quotes") if (text := getattr(self.choices, key))}
        if self.templates is not None:
            options |= {"templates": self.templates.name, "templates_sha256": self.templates.digest}
        return options

    def fingerprint(self) -> dict[str, str]:
        """The tables by content, and those that are joined; images that are files by names and sizes."""
        digests = QuestionSource.fingerprint(self)
        joined_paths = [path for join in self._joins for path in join.paths]
        return digests | {path.relative_to(self.folder).as_posix(): digest_file(path) for path in joined_paths}

    def units(self) -> list[Unit]:
        """Images (and rows that cannot become part of one, and questions without images) in the order of their first row."""
        units = super().units()
        self.input_counts |= self._counts
        for join in self._joins:
            self.input_counts |= join.counts
        return units

    def _unnamed(self) -> dict[str, int]:
        # The input holds more than images; a folder that the person names is for them alone.
        return super()._unnamed() if self.choices.images else {}

    # Rows

    def rows(self, split: str) -> Iterator[QuestionRow | Dropped]:
        """Drops: bad_row, bad_split, those of `RowReader` and `conversation_of`, nothing_said, and those of reading images."""
        return iter(self._rows_by_split[split])

    @cached_property
    def _rows_by_split(self) -> dict[str, list[QuestionRow | Dropped]]:
        rows: dict[str, list[QuestionRow | Dropped]] = {split: [] for split in SPLITS}
        for split, path in self._files:
            for row_split, row in self._file_rows_of(split, self.tables_by_path[path]):
                rows[row_split].append(row)
        return {split: list(with_unique_ids(items)) for split, items in rows.items()}

    def _file_rows_of(self, split: str, table: RecordTable) -> Iterator[tuple[str, QuestionRow | Dropped]]:
        mapping = self.mapping
        columns = self.known_columns(table)
        reader = RowReader(mapping, columns, table.class_names, self.choices.uncertain)
        terms = [*mapping.columns(), *mapping.constants()]
        names_asked = {part for term in terms for name in columns_of(term) for part in (name, name.partition(".")[0])}
        unread = tuple(name for name in table.columns if name not in names_asked) if table.kind == "parquet" else ()
        state = RowState()

        def entries() -> Iterator[tuple[int, Any]]:
            for state.index, (number, state.offset, entry) in enumerate(table.rows(names_asked)):
                state.split = split if split != ANY else SPLITS[0]
                if isinstance(entry, dict) and self._joins:
                    entry = self._joined(entry, columns)
                if entry is not None:
                    yield number, entry

        def parse(name: str, cells: dict[str, Any]) -> QuestionRow | None:
            entry = RecordEntry(cells if isinstance(cells, Entry) else Entry(cells), columns)
            if not reader.is_meant(entry):
                return None
            if split == ANY:
                state.split = reader.split(entry)
            row = self._row(reader, entry, name, table, state)
            return replace(row, ignored=(*entry.ignored(), *unread))

        file = table.path.relative_to(self.folder).as_posix()
        id_column = next(iter(columns_of(mapping.id)), "")
        for row in parse_rows(table.path, entries(), id_column, parse, table.unit, file):
            yield state.split, row
        self._counts.update(reader.counts)

    def _joined(self, entry: dict[str, Any], columns: list[str]) -> Any:
        """The entry with the columns of its partners; None for one of another kind, which is counted."""
        for join in self._joins:
            try:
                partner = join.partner(RecordEntry(Entry(entry), columns).value(join.join.key or join.join.id))
            except BadRow as bad:
                return bad
            if partner is None:
                self._counts[f"rows without a partner in {join.name}"] += 1
                if join.join.inner:
                    return None
            entry = {**(partner or {}), **entry}
        return entry

    def _row(
        self, reader: RowReader, entry: RecordEntry, name: str, table: RecordTable, state: RowState
    ) -> QuestionRow:
        mapping = self.mapping
        images = reader.images(entry)
        row_id = entry.text(mapping.id) if mapping.id else ""
        numbered = f"{table.path.relative_to(self.folder).with_suffix('').as_posix()}-{state.index}"
        captions, labels = reader.captions(entry), reader.labels(entry)
        conversation = None
        if mapping.question:
            conversation = conversation_of(reader, entry, row_id or numbered, len(images))
        elif not captions and not labels and not mapping.boxes:
            raise BadRow("nothing_said", "the row has neither a caption nor a label")
        located = self.image_folders.located
        names = [image.digest if isinstance(image, EmbeddedImage) else located(image) for image in images]
        for image in images:
            if isinstance(image, EmbeddedImage):
                location = ImageLocation(table.path, state.offset, image.column, image.position)
                self.locations.setdefault((state.split, image.digest), location)
        metadata = {
            "modality": entry.constant(mapping.modality),
            "organ": entry.constant(mapping.organ),
            **self._licence(entry),
            **reader.group(entry),
            **reader.fields(entry, mapping.metadata),
        }
        return QuestionRow(
            name,
            tuple(names),
            image_id(images) or row_id or numbered,
            conversation,
            {key: value for key, value in metadata.items() if value not in ("", None)},
            texts={**numbered_captions(captions), **reader.texts(entry)},
            labels=labels,
            boxes=reader.boxes(entry),
        )

    def _licence(self, entry: RecordEntry) -> dict[str, str]:
        term = self.mapping.licence
        text = entry.constant(term) if term in entry.columns and not self.choices.licence else ""
        return {"licence": normalise(text)} if text else {}

    # Samples

    def image(self, split: str, name: str) -> tuple[str, bytes]:
        """An embedded image, or a file."""
        location = self.locations.get((split, name))
        data = read_below(self.images, name) if location is None else self._embedded(location)
        picture = shard_image(name if location is None else f"{location.path.name} {location.column}", data)
        self._shard_metadata[name] = picture.metadata
        return picture.extension, picture.data

    def _embedded(self, location: ImageLocation) -> bytes:
        table = self.tables_by_path[location.path]
        if table.kind == "parquet":
            return self.embedded(location)
        cell = RecordEntry(Entry(table.at(location.row)), table.columns).value(location.column)
        cell = list_in(cell) or cell if isinstance(cell, str) else cell
        return bytes_in(cell[location.position] if isinstance(cell, list) else cell) or b""

    def sample(self, split: str, rows: QuestionRows, images: dict[str, bytes]) -> Sample:
        """As of other sets; with captions of all rows, and those that templates make of labels."""
        sample = super().sample(split, rows, images)
        sample.key = make_key(self.name, rows[0].image_id, split)
        if not images:
            sample.metadata |= {"original_name": rows[0].name}
            sample.metadata["group_kind"] = rows[0].image_metadata.get("group_kind", "entry")
            del sample.metadata["image_id"]
        for member, name in zip(images, rows[0].images, strict=True):
            picture = self._shard_metadata.pop(name, {})
            if "rescale" in picture:
                sample.metadata.setdefault("rescale", {})[member] = next(iter(picture["rescale"].values()))
            sample.metadata |= {key: value for key, value in picture.items() if key != "rescale"}
        captions = [text for row in rows for name, text in row.texts.items() if CAPTIONS.fullmatch(name)]
        texts_beyond = {name: text for name, text in rows[0].texts.items() if not CAPTIONS.fullmatch(name)}
        if contradictions := sum(row.labels != rows[0].labels for row in rows):
            self.counts["read", CONTRADICTIONS] += contradictions
        label = next(iter(self.mapping.labels), "")
        templated = label_captions(self.templates, sample, label, self.counts) if self.templates else []
        texts = numbered_captions(list(dict.fromkeys([*captions, *templated])))
        sample.texts = {**texts_beyond, **texts}
        templated_names = [name for name, text in texts.items() if text not in captions]
        sample.metadata |= {"templated": templated_names} if templated_names else {}
        return sample
