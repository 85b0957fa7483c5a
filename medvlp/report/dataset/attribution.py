"""Attribution: who made what the data set is made of, where it stands, under which licence, and what was changed.

attribution.csv   a row a work and licence; for millions of articles, written as it is read
ATTRIBUTION.md    the same summed up, and works by name as long as they are few
"""

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from medvlp.report.dataset.citations import CHANGES, Citations, Work
from medvlp.report.dataset.contents import Contents
from medvlp.report.dataset.stages import changes_to_all
from medvlp.report.licences import licence_address
from medvlp.report.markdown import link, plain, table
from medvlp.shards.atomic import whole_file, write_whole

TABLE = "attribution.csv"
PAGE = "ATTRIBUTION.md"
MAX_LISTED = 200
"""Works that the page names one by one."""

COLUMNS = (
    *("source", "article", "version", "title", "authors", "journal", "year", "doi", "url", "citation"),
    *("licence", "licence_url", "samples", "changes"),
)


def write_attribution(contents: Contents, citations: Citations) -> list[Path]:
    """Write both files; returns their paths."""
    general = changes_to_all(contents)
    path = contents.folder / TABLE
    with whole_file(path) as file:
        file.writelines(_lines(citations, general))
    page = contents.folder / PAGE
    write_whole(page, "\n".join(_page(contents, citations, general)).encode("utf-8"))
    return [page, path]


def read_attribution(folder: Path) -> list[tuple[str, str, int, int]]:
    """(source, licence, works, samples) from the table, read row by row; nothing where there is no table."""
    path = folder / TABLE
    counts: dict[tuple[str, str], list[int]] = {}
    if path.is_file():
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                sums = counts.setdefault((row["source"], row["licence"]), [0, 0])
                sums[0] += 1
                sums[1] += int(row["samples"])
    return [(*key, works, samples) for key, (works, samples) in sorted(counts.items())]


def _lines(citations: Citations, general: list[str]) -> Iterator[bytes]:
    yield _line(COLUMNS)
    for work, samples, changes in citations:
        cells = [_cell(getattr(work, column)) for column in COLUMNS[:-2]]
        yield _line([*cells, samples, "; ".join([*_changes(changes), *general])])


def _line(cells: Iterable[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8")


def _cell(text: str) -> str:
    """Spreadsheets would compute a title that begins like a formula; an apostrophe keeps it text."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _changes(bits: int) -> list[str]:
    return [words for bit, words in CHANGES.items() if bits & bit]


def _page(contents: Contents, citations: Citations, general: list[str]) -> Iterator[str]:
    yield from ["# Attribution", ""]
    yield f"{contents.samples} samples, prepared by medvlp from {plain(contents.source)}. Licences are those that the"
    yield "source or the article states; none is granted here, and nobody named here endorses this data set."
    yield from ["", "## Sources and licences", ""]
    rows = [
        (plain(source), link(licence, licence_address(licence)), count, samples)
        for source, licence, count, samples in citations.summary()
    ]
    yield from table(["Source", "Licence", "Works", "Samples"], rows, numbers=(2, 3))
    sources = list(dict.fromkeys(source for source, *_ in citations.summary()))
    for source in sources:
        if publication := contents.publications.get(source):
            yield from ["", f"{plain(source)}: {link(publication.citation, publication.url)}"]
    yield from ["", "## Changes", ""]
    yield f"To every sample, where it applied: {'; '.join(general)}." if general else "No stage changed every sample."
    if changes := _changes(citations.changes()):
        yield f"To some samples, as {TABLE} says of each work: {'; '.join(changes)}."
    yield from ["", "## Works", "", f"{TABLE} has a row for each work and licence, with {', '.join(COLUMNS)}."]
    yield "A work is an article, or whatever else has an address, authors or a citation of its own; other samples are one row"
    yield "a source."
    yield "An apostrophe before = + - @ at a cell's beginning keeps spreadsheets from computing it."
    if len(citations) > MAX_LISTED:
        yield f"The first {MAX_LISTED} of {len(citations)}:"
    yield ""
    yield from (f"- {_sentence(work, samples, changes)}" for work, samples, changes in islice(citations, MAX_LISTED))
    yield ""


def _sentence(work: Work, samples: int, changes: int) -> str:
    cited = "" if work.article else work.citation  # of an article, authors and title say the same
    title = work.title or cited or work.article or work.url or f"{work.source}, as a whole"
    issue = " ".join(filter(None, (work.journal, work.year)))
    licence = link(work.licence, work.licence_url)
    authors = work.authors.removesuffix(".")
    parts = [
        authors and f"{plain(authors)}.",
        link(title.removesuffix("."), work.url) + ".",
        issue and f"{plain(issue)}.",
        f"{plain(cited.removesuffix('.'))}." if cited != title and cited else "",
    ]
    sentence = (
        f"{' '.join(filter(None, parts))} Licence: {licence}. {samples} {'sample' if samples == 1 else 'samples'}"
    )
    return f"{sentence}; {'; '.join(_changes(changes))}." if changes else f"{sentence}."
