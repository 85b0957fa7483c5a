"""Sets for retrieval in BEIR's layout (Thakur et al. 2021), and with images in the same files.

    corpus.jsonl         {"_id": "d1", "title": "...", "text": "...", "image": "a.png"}     what is looked for
    queries.jsonl        {"_id": "q1", "text": "...", "image": "b.png", "reference": ["d7"]}
    qrels/test.tsv       query-id <tab> corpus-id <tab> score, with a header

`image` and `reference` are ours: an image of a document or of a query, and the documents from whose images a query starts
(composed retrieval). The other names are those of BEIR's loader.

A set has one split, `options.split`: the documents are the same in all of them. Queries without a grade there are of another
split and are counted. A document's title and text are joined by a blank.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data_prep.captions.captioned_files import known_licence
from data_prep.errors import BadRow, PrepError
from data_prep.readers.fields import Entry, count_ignored, plain, text_of
from data_prep.readers.guarded import digest_file, digest_listing, read_json_lines, regular_only
from data_prep.readers.image_files import read_shard_image
from data_prep.source import Dropped, Options, Source, Unit, chunks
from medvlp.shards import Sample, make_key
from medvlp.shards.vocabulary import DOCUMENT, QUERY, SPLITS

CORPUS, QUERIES = "corpus.jsonl", "queries.jsonl"
COLUMNS = ["query-id", "corpus-id", "score"]
BEIR_NAMES = {"train": "train", "valid": "dev", "test": "test"}


@dataclass(frozen=True)
class RetrievalSetsOptions(Options):
    """Options of the source retrieval_sets."""

    split: str = "test"
    """Whose grades are taken: qrels/<split>.tsv, of valid also qrels/dev.tsv."""
    images: str = ""
    """Folder of image files, as a path below the input folder; empty: that folder."""
    licence: str = ""
    """An id; empty: unknown."""


class RetrievalSets(Source):
    """Reader of a folder in BEIR's layout. Raises PrepError if a file is missing, or the grades are not as BEIR writes them."""

    name = "retrieval_sets"
    description = "queries, documents and their graded relevance in BEIR's layout, images included"
    page = "https://github.com/beir-cellar/beir"
    files = "corpus.jsonl, queries.jsonl and qrels/<split>.tsv"
    licence = "unknown"
    option_type = RetrievalSetsOptions
    choices: RetrievalSetsOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        self.folder, split = Path(input), self.choices.split
        if split not in SPLITS:
            raise PrepError(f"options.split={split} is not one of {', '.join(SPLITS)}")
        names = [f"qrels/{name}.tsv" for name in dict.fromkeys((split, BEIR_NAMES[split]))]
        grades = next((name for name in names if (self.folder / name).is_file()), names[-1])
        missing = [name for name in (CORPUS, QUERIES, grades) if not (self.folder / name).is_file()]
        if not input or missing:
            raise PrepError(f"input={input or '(not given)'} is not in BEIR's layout: it lacks {', '.join(missing)}")
        self.grades_name = grades
        self.images = self.folder / self.choices.images
        if not self.images.is_dir() or ".." in Path(self.choices.images).parts:
            raise PrepError(f"options.images={self.choices.images}: not a folder below {self.folder}")
        self.licence = known_licence(self.choices.licence) if self.choices.licence else "unknown"

    def options(self) -> dict[str, Any]:
        """The split whose grades are taken, and where images are."""
        return {**super().options(), "split": self.choices.split, "images": self.choices.images}

    def fingerprint(self) -> dict[str, str]:
        """The three files by content, images by names and sizes."""
        digests = {name: digest_file(self.folder / name) for name in (CORPUS, QUERIES, self.grades_name)}
        return digests | ({"images": digest_listing(self.images)} if self._has_images else {})

    def units(self) -> list[Unit]:
        """Documents, then queries, in the order of the files."""
        of_split = sum(isinstance(entry, BadRow) or id in self._grades for _, id, entry in self._rows(QUERIES))
        count = sum(1 for _ in self._rows(QUERIES))
        self.input_counts = {"queries without a grade in this split": count - of_split} if count > of_split else {}
        return chunks(self.choices.split, len(self._entries), self.samples_per_shard)

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """Drops: bad_row, bad_json, line_too_long, not_utf8, missing__id, empty__id, duplicate_id, no_content, bad_reference; and
        those of reading images."""
        start, stop = unit.selection
        for file, number, id, entry in self._entries[start:stop]:
            name = f"{file} line {number}"
            try:
                if isinstance(entry, BadRow):
                    raise entry
                yield self._sample(file, id, Entry(entry))
            except BadRow as bad:
                yield Dropped(name, bad.reason, bad.detail)

    def _sample(self, file: str, id: str, entry: Entry) -> Sample:
        is_query = file == QUERIES
        role = QUERY if is_query else DOCUMENT
        entry.get("_id")
        parts = [text_of(entry, key) for key in ("title", "text") if plain(entry.get(key)) not in (None, "")]
        image = plain(entry.get("image"))
        picture = read_shard_image(self.images, str(image)) if image not in (None, "") else None
        if not parts and picture is None and not (is_query and entry.get("reference")):
            raise BadRow("no_content", "the line has neither a text nor an image")
        metadata: dict[str, Any] = {
            "source": self.name,
            "licence": self.licence,
            "group": f"{role} {id}",
            "group_kind": role,
            "original_name": id,
            "modality": "unknown",
            "role": role,
        }
        if is_query:
            reference = entry.get("reference")
            reference = [reference] if isinstance(reference, str) else reference or []
            if not isinstance(reference, list) or not all(isinstance(name, str) and name for name in reference):
                raise BadRow("bad_reference", "reference is neither an id nor a list of ids")
            metadata |= {"relevance": self._grades[id], **({"reference": reference} if reference else {})}
        else:
            metadata["document_id"] = id
        count_ignored(self.counts, entry.ignored())
        texts = {role: " ".join(parts)} if parts else {}
        images = {picture.extension: picture.data} if picture else {}
        key = make_key(self.name, role, id)
        return Sample(key=key, images=images, texts=texts, metadata=metadata | (picture.metadata if picture else {}))

    @cached_property
    def _entries(self) -> list[tuple[str, int, str, Any]]:
        """(file, line, id, entry or what is wrong with it), of the queries those with a grade."""
        entries = []
        for file in (CORPUS, QUERIES):
            ids: set[str] = set()
            for number, id, entry in self._rows(file):
                if file == QUERIES and not isinstance(entry, BadRow) and id not in self._grades:
                    continue
                if id and id in ids:
                    entry = BadRow("duplicate_id", f"_id {id!r} was there before")
                ids.add(id)
                entries.append((file, number, id, entry))
        return entries

    def _rows(self, file: str) -> Iterator[tuple[int, str, Any]]:
        for number, entry in read_json_lines(self.folder / file):
            try:
                if isinstance(entry, BadRow):
                    raise entry
                if not isinstance(entry, dict):
                    raise BadRow("bad_row", f"the line holds a {type(entry).__name__}, expected an object")
                yield number, text_of(entry, "_id"), entry
            except BadRow as bad:
                yield number, "", bad

    @cached_property
    def _grades(self) -> dict[str, dict[str, float]]:
        """Query → document → grade. Raises PrepError: a line that is not one."""
        grades: dict[str, dict[str, float]] = {}
        path = self.folder / self.grades_name
        with open(path, encoding="utf-8-sig", newline="", opener=regular_only) as file:
            try:
                rows = (line.rstrip("\r\n").split("\t") for line in file)
                if (header := next(rows, [])) != COLUMNS:
                    raise PrepError(f"{path} line 1: {header}, expected {COLUMNS} with tabs between them")
                for number, row in enumerate(rows, start=2):
                    try:
                        query, document, grade = row[0], row[1], float(row[2])
                    except (IndexError, ValueError):
                        raise PrepError(f"{path} line {number}: {row}, expected a query, a document, a grade") from None
                    if not 0 <= grade < float("inf"):
                        raise PrepError(f"{path} line {number}: grade {grade}, expected 0 or more")
                    grades.setdefault(query, {})[document] = int(grade) if grade == int(grade) else grade
            except UnicodeDecodeError as error:
                raise PrepError(f"{path} cannot be read ({error}); save it as UTF-8 with tabs") from None
        return grades

    @cached_property
    def _has_images(self) -> bool:
        return any(isinstance(entry, dict) and entry.get("image") for *_, entry in self._entries)
