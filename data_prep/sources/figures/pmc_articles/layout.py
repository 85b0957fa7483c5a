"""Layouts of PubMed Central: where the articles are in a folder, in any form in which they are given out.

    oa_file_list.csv, oa_package/xx/yy/PMC1.tar.gz                     until 2026: one archive an article
    PMC1.2/PMC1.2.xml, PMC1.2/*.jpg, metadata/PMC1.2.json              since: one folder a version of an article
    PMC1/*.nxml, PMC1/*.jpg or *.nxml, *.jpg                           archives that somebody unpacked

What a file list says of licences and retractions is looked up; which articles there are, the folder says.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.errors import BadRow, PrepError
from data_prep.readers.clutter import COUNTED, is_clutter
from data_prep.readers.guarded import digest_file, regular_only
from data_prep.readers.tables.text_tables import TextTable
from data_prep.source import Dropped
from data_prep.vocabulary.licences import normalise, strictest

_ARCHIVE = re.compile(r"PMC(\d{1,12})\.(?:tar\.gz|tgz|tar)")
_VERSIONED = re.compile(r"PMC(\d{1,12})\.(\d{1,4})")
_TEXT = re.compile(r".+\.nxml|PMC\d+(?:\.\d+)?\.xml")
_LIST = re.compile(r".*file_?list.*\.csv")
_ARTICLE_ID = re.compile(rb"""<article-id[^>]*\spub-id-type=["']pmc(?:id)?["'][^>]*>\s*(?:PMC)?(\d{1,12})""")


@dataclass(frozen=True)
class ArticleCopy:
    """One copy of an article."""

    number: int
    """Of the PMCID; 0 if neither a name nor the file tells."""
    version: int
    """0 where the layout has none."""
    kind: str
    """archive, folder (of one version), or file (an XML with its images next to it)."""
    path: str
    """Relative to the input."""
    size: int
    """Bytes of the archive or the XML, for the fingerprint."""


@dataclass
class ListRow:
    """What file lists say of an article; of several rows the stricter."""

    licence: str
    retracted: bool


@dataclass
class Layout:
    """All that planning needs to know."""

    copies: list[ArticleCopy] = field(default_factory=list)
    """Those that are read, by PMCID."""
    superseded: list[tuple[ArticleCopy, ArticleCopy]] = field(default_factory=list)
    """(copy that is not read, the one that is)."""
    list_rows: dict[int, ListRow] = field(default_factory=dict)
    """Of the articles that are there."""
    notes: list[Dropped] = field(default_factory=list)
    """What else was found and is not read."""
    ignored: dict[str, int] = field(default_factory=dict)
    """What is neither → how often it was found."""
    fingerprint: dict[str, str] = field(default_factory=dict)
    """The fingerprint: lists by content, articles and metadata by names and sizes."""


def find_articles(folder: Path) -> Layout:
    """What is in the folder. Raises PrepError if there is no article."""
    layout = Layout()
    lists: list[Path] = []
    copies = list(_walk(folder, lists, layout))
    layout.notes.sort(key=lambda note: note.name)
    if not copies:
        raise PrepError(
            f"{folder} holds no article of PubMed Central; expected PMC<number>.tar.gz at any depth, folders "
            "PMC<number>.<version>/ with the XML of that name, or .nxml files with their images next to them"
        )
    _choose(copies, layout)
    for path in sorted(lists):
        _look_up(path, folder, layout)
    listing = [f"{copy.path}\t{copy.size}" for copy in [*layout.copies, *(old for old, _ in layout.superseded)]]
    layout.fingerprint["articles"] = _digest(listing)
    metadata = folder / "metadata"
    if metadata.is_dir():
        with os.scandir(metadata) as entries:
            layout.fingerprint["metadata/"] = _digest(f"{entry.name}\t{_bytes(entry)}" for entry in entries)
    return layout


def _walk(folder: Path, lists: list[Path], layout: Layout) -> Iterator[ArticleCopy]:
    """The articles below a folder; file lists and what is not looked into are added to the other two."""
    notes, ignored = layout.notes, layout.ignored
    queue = [""]
    while queue:
        inner = queue.pop()
        with os.scandir(folder / inner) as entries:
            for entry in entries:
                path = f"{inner}/{entry.name}" if inner else entry.name
                if is_clutter(entry.name):
                    ignored[COUNTED[1]] = ignored.get(COUNTED[1], 0) + 1
                    continue
                if entry.is_symlink():
                    if entry.is_dir() or _ARCHIVE.fullmatch(entry.name) or _TEXT.fullmatch(entry.name):
                        notes.append(Dropped(path, "link", "links are not followed; put the files themselves there"))
                    continue
                if entry.is_dir():
                    copy = _version_folder(folder, path, entry.name)
                    if copy is not None:
                        yield copy
                    elif entry.name != "metadata":
                        queue.append(path)
                elif not entry.is_file() and (_ARCHIVE.fullmatch(entry.name) or _TEXT.fullmatch(entry.name)):
                    notes.append(Dropped(path, "bad_path", "it is a device or a pipe, and no file"))
                elif match := _ARCHIVE.fullmatch(entry.name):
                    yield ArticleCopy(int(match[1]), 0, "archive", path, entry.stat().st_size)
                elif _TEXT.fullmatch(entry.name):
                    yield ArticleCopy(_own_number(folder / path), 0, "file", path, entry.stat().st_size)
                elif _LIST.fullmatch(entry.name):
                    lists.append(folder / path)


def _bytes(entry: os.DirEntry[str]) -> int:
    """Of a link that leads nowhere, its own: the article whose metadata it is will be a drop."""
    try:
        return entry.stat().st_size
    except OSError:
        return entry.stat(follow_symlinks=False).st_size


def _version_folder(folder: Path, path: str, name: str) -> ArticleCopy | None:
    match = _VERSIONED.fullmatch(name)
    if not match:
        return None
    try:
        size = os.lstat(folder / path / f"{name}.xml").st_size
    except FileNotFoundError:
        return None
    return ArticleCopy(int(match[1]), int(match[2]), "folder", path, size)


def _own_number(path: Path) -> int:
    """The PMCID that an XML gives itself: names of unpacked files do not tell."""
    with open(path, "rb", opener=regular_only) as file:
        match = _ARTICLE_ID.search(file.read(2**16))
    return int(match[1]) if match else 0


def _choose(copies: list[ArticleCopy], layout: Layout) -> None:
    """The newest version of each article; of copies of one version, the first by path."""
    copies.sort(key=lambda copy: (copy.number or sys.maxsize, -copy.version, copy.path))
    newest: ArticleCopy | None = None
    for copy in copies:
        if newest is not None and copy.number and copy.number == newest.number:
            layout.superseded.append((copy, newest))
        else:
            layout.copies.append(copy)
            newest = copy


def _look_up(path: Path, folder: Path, layout: Layout) -> None:
    """Take from a file list what it says of the articles that are there, and note how many are not."""
    numbers = {copy.number for copy in layout.copies}
    name = path.relative_to(folder).as_posix()
    rows = absent = bad = 0
    for _, _, row in TextTable(path).rows():
        rows += 1
        if isinstance(row, BadRow):
            bad += 1
            continue
        fields = {re.sub(r"[^a-z]", "", column.lower()): text for column, text in row.items()}
        match = re.fullmatch(r"\s*PMC(\d{1,12})\s*", fields.get("accessionid", ""))
        if not match:
            bad += 1
        elif int(match[1]) not in numbers:
            absent += 1
        else:
            licence = sys.intern(normalise(fields.get("license", "")))
            retracted = fields.get("retracted", "").strip().lower() in ("yes", "y", "true", "1")
            list_row = layout.list_rows.setdefault(int(match[1]), ListRow(licence, retracted))
            list_row.licence = strictest([list_row.licence, licence])
            list_row.retracted |= retracted
    if bad:
        layout.notes.append(Dropped(name, "bad_row", f"{bad} of {rows} rows have no Accession ID, or fields too many"))
    if absent:
        layout.notes.append(Dropped(name, "not_there", f"{absent} of {rows} listed articles are not in the folder"))
    layout.fingerprint[name] = digest_file(path)


def _digest(lines: Iterator[str] | list[str]) -> str:
    return hashlib.sha256(json.dumps(sorted(lines)).encode()).hexdigest()
