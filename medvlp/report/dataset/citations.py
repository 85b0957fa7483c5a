"""The works that a data set is made of: a row an article (or another work with an address) and licence, on disk.

Samples' metadata are streamed from the tars by their indexes, and gathered in a database of SQLite's that lives in a
temporary file: millions of articles take no more memory than a few.
"""

import json
import os
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from medvlp.report.files import Row
from medvlp.report.licences import licence_address
from medvlp.report.markdown import one_line
from medvlp.shards import ShardDataset, ShardError
from medvlp.shards.index import open_index
from medvlp.shards.publication import Publication

MAX_IN_MEMORY = 1_000
"""Works gathered in memory before they go to the file; the samples of an article stand together."""

CUT, REENCODED, RENDERED = 1, 2, 4
CHANGES = {
    CUT: "figure cut into panels",
    REENCODED: "image re-encoded as PNG without loss",
    RENDERED: "image turned upright, laid on white or scaled to 8 bits",
}
"""What can have been done to some samples only, by bit."""


@dataclass(frozen=True)
class Work:
    """What is known of a work; an unknown field is empty."""

    source: str
    article: str
    version: str
    title: str
    authors: str
    journal: str
    year: str
    doi: str
    url: str
    citation: str
    licence: str
    licence_url: str

    @property
    def name(self) -> str:
        """What tells it from other works of its source; empty for the source's data set as a whole."""
        return self.article or self.url or self.citation or "; ".join(filter(None, (self.authors, self.title)))


def metadata_rows(dataset: ShardDataset) -> Iterator[Row]:
    """The metadata of every sample in order; of the tars only the JSON members are read.

    Raises:
        ShardError: a member is not what was written.
    """
    for name in dataset.manifest.shards:
        tar = dataset.folder / name
        try:
            index = open_index(tar.with_suffix(".idx"))
            rows = index[index["member"] == b"json"]
            with open(tar, "rb") as file:
                for _, _, offset, size, crc in (row.item() for row in rows):
                    data = os.pread(file.fileno(), size, offset)
                    if zlib.crc32(data) != crc:
                        raise ValueError(f"the bytes at {offset} are not what was written")
                    metadata = json.loads(data).get("metadata", {})
                    if not isinstance(metadata, dict):
                        raise ValueError(f"the metadata at {offset} are not an object")
                    yield metadata
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise ShardError(f"{tar} cannot be read: {error}; `medvlp verify` says what is wrong") from None


def work_of(metadata: Row, publications: Mapping[str, Publication]) -> Work:
    """The work that a sample was taken from, as its metadata name it; without one, the publisher's data set.

    publications: source → that of its data set."""
    text = {name: _text(metadata.get(name)) for name in _FIELDS}
    article = text["article"]
    licence = text["licence"] or "unknown"
    if _is_pmcid(article):
        url = f"https://pmc.ncbi.nlm.nih.gov/articles/{article}/"
    else:
        url = f"https://doi.org/{text['article_doi']}" if text["article_doi"] else text["url"]
    title, authors, journal, year = (text[name] for name in ("article_title", "authors", "journal", "year"))
    has_work = article or url or text["citation"] or authors or title
    if not has_work and (dataset := publications.get(text["source"])):
        title, authors, journal, year, url = (
            dataset.title,
            dataset.authors,
            dataset.venue,
            str(dataset.year),
            dataset.url,
        )
    return Work(
        source=text["source"],
        article=article,
        version=text["article_version"],
        title=title,
        authors=authors,
        journal=journal,
        year=year,
        doi=text["article_doi"],
        url=url,
        citation=text["citation"],
        licence=licence,
        licence_url=text["licence_url"] or licence_address(licence),
    )


_FIELDS = (
    *("source", "article", "article_version", "article_title", "article_doi", "authors", "journal", "year"),
    *("citation", "licence", "licence_url", "url"),
)


def changes_of(metadata: Row) -> int:
    """Bits of `CHANGES`."""
    changes = {
        CUT: "panel_box" in metadata,
        REENCODED: metadata.get("reencoded_from"),
        RENDERED: metadata.get("rendered"),
    }
    return sum(bit for bit, is_done in changes.items() if is_done)


def removed_by_source(metadata: Row) -> dict[str, int]:
    """What the source's reader took out of a sample's files, by kind, such as private tags of DICOM."""
    counts = metadata.get("deidentified")
    kinds = counts.items() if isinstance(counts, dict) else ()
    return {one_line(str(kind)).replace("_", " "): count for kind, count in kinds if isinstance(count, int) and count}


class Citations:
    """The works by (source, work, licence), in that order, with their numbers of samples and what was changed."""

    def __init__(self, database: sqlite3.Connection, publications: Mapping[str, Publication]) -> None:
        self._database = database
        self._publications = publications
        self.removed_counts: Counter[str] = Counter()
        """What the source's reader took out of files, over all samples, by kind."""

    def __iter__(self) -> Iterator[tuple[Work, int, int]]:
        """(work, samples, bits of `CHANGES`)."""
        query = "SELECT content, samples, changes FROM works ORDER BY source, work, licence"
        for content, samples, changes in self._database.execute(query):
            yield Work(**json.loads(content)), samples, changes

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM works").fetchone()[0])

    def summary(self) -> list[tuple[str, str, int, int]]:
        """(source, licence, works, samples)."""
        query = "SELECT source, licence, count(*), sum(samples) FROM works GROUP BY 1, 2 ORDER BY 1, 2"
        return self._database.execute(query).fetchall()

    def changes(self) -> int:
        """Bits of `CHANGES` that any work has."""
        rows = self._database.execute("SELECT DISTINCT changes FROM works").fetchall()
        return reduce(or_, (bits for (bits,) in rows), 0)

    def _add(self, batch: dict[tuple[str, str, str], list[Any]]) -> None:
        rows = ((*key, *row) for key, row in batch.items())
        self._database.executemany(
            "INSERT INTO works VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (source, work, licence) DO UPDATE SET "
            "samples = samples + excluded.samples, changes = changes | excluded.changes",
            rows,
        )
        batch.clear()

    def gather(self, dataset: ShardDataset) -> None:
        """Add the works of a split. What the first sample of a work says of it holds."""
        batch: dict[tuple[str, str, str], list[Any]] = {}
        for metadata in metadata_rows(dataset):
            work = work_of(metadata, self._publications)
            key = work.source, work.name, work.licence
            if key not in batch:
                if len(batch) >= MAX_IN_MEMORY:
                    self._add(batch)
                batch[key] = [json.dumps(work.__dict__), 0, 0]
            self.removed_counts.update(removed_by_source(metadata))
            batch[key][1] += 1
            batch[key][2] |= changes_of(metadata)
        self._add(batch)


@contextmanager
def collected_citations(datasets: list[ShardDataset], publications: Mapping[str, Publication]) -> Iterator[Citations]:
    """The works of all splits; they are gone when the block ends. publications: source → that of its data set.

    Raises:
        ShardError: a tar cannot be read, or the disk for temporary files is full.
    """
    try:
        with closing(sqlite3.connect("")) as database:  # no name: a temporary file, which goes by itself
            database.execute("PRAGMA synchronous = OFF")
            database.execute(
                "CREATE TABLE works (source TEXT, work TEXT, licence TEXT, content TEXT, samples INTEGER, "
                "changes INTEGER, PRIMARY KEY (source, work, licence)) WITHOUT ROWID"
            )
            citations = Citations(database, publications)
            for dataset in datasets:
                citations.gather(dataset)
            yield citations
    except sqlite3.Error as error:
        raise ShardError(f"the list of works needs room for temporary files: {error}; set SQLITE_TMPDIR") from None


def _is_pmcid(article: str) -> bool:
    return article.startswith("PMC") and article[3:].isascii() and article[3:].isdigit()


def _text(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(filter(None, map(_text, value)))
    return "" if value is None or isinstance(value, dict) else one_line(str(value))
