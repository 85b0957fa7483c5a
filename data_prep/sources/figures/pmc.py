"""PubMed Central's Open Access articles: a sample for each graphic of each figure, with what the text says of it.

    texts     caption; references: the sentences of the article that refer to the figure, a line each
    metadata  the article (ids, title, journal, authors, citation, licence, retraction), figure_id, figure_label,
              reference_sections: the section titles of those sentences

Layouts are in `pmc_layout`. Graphics of tables and formulas, videos and supplements are not figures: `counts` has how
many were passed by. The publisher has no splits: all is train until a grouped split divides it by article.

A licence is stated in up to three places: the article's XML, the metadata next to it, a file list. Where they disagree
the strictest holds; `licence_statements` then has them all. A figure that was lent by another publisher is not under
the article's licence.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from data_prep.draft import Counts
from data_prep.errors import BadRow, PrepError
from data_prep.readers.archives import Archive, Folder, Package
from data_prep.readers.clutter import COUNTED
from data_prep.readers.fields import MAX_TEXT, count_ignored
from data_prep.readers.image_files import ShardImage, shard_image
from data_prep.source import Dropped, Source, Unit
from data_prep.sources.figures.pmc_articles.article import Article, Figure, parse_article
from data_prep.sources.figures.pmc_articles.context import Context, checked, context_of
from data_prep.sources.figures.pmc_articles.layout import ArticleCopy, Layout, find_articles
from data_prep.vocabulary.licences import UNKNOWN, family_of, normalise, strictest
from medvlp.shards import Sample, make_key
from medvlp.shards.publication import Publication

FIGURES_AN_ARTICLE = 5
"""About the mean of the Open Access subset: a unit takes so many fewer articles than a shard should have samples."""

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
"""Of a graphic that is named without one, in this order: PMC's .gif next to a .jpg is a thumbnail."""

PASSED_BY = {
    "pdf": "pdf",
    "video": "mp4 m4v mov avi wmv mpg mpeg flv webm",
    "sound": "mp3 wav",
    "document": "doc docx rtf txt csv xls xlsx ppt pptx htm html eps ps",
    "archive": "zip gz tgz rar 7z tar",
    "image of no figure": "jpg jpeg png tif tiff bmp webp",
    "gif of no figure": "gif",
}
"""What `counts` calls files that no sample comes from, by their extensions."""


class Pmc(Source):
    """Reader of a folder of articles, old layout and new. Raises PrepError if there is none."""

    name = "pmc"
    description = "PubMed Central open access: articles → figures, captions, references"
    files = "articles of the Open Access subset, as packages or as single files, with their list"
    publication = Publication(
        title="PMC Open Access Subset",
        authors="National Library of Medicine (US).",
        venue="Bethesda (MD)",
        year=2003,
        url="https://pmc.ncbi.nlm.nih.gov/tools/openftlist/",
    )
    tools = ("lxml",)

    def __init__(self, input: str, samples_per_shard: int = 1000) -> None:
        super().__init__(input, samples_per_shard)
        self.folder = Path(input)
        if not input or not self.folder.is_dir():
            raise PrepError(f"input={input or '(not given)'} is not a folder; give the one that holds the articles")

    @cached_property
    def _layout(self) -> Layout:
        return find_articles(self.folder)

    def fingerprint(self) -> dict[str, str]:
        """File lists by content; articles and their metadata by names and sizes."""
        return self._layout.fingerprint

    def units(self) -> list[Unit]:
        """Articles by PMCID, each with the copies of it that are not read; what else was found goes with the first."""
        layout = self._layout
        self.input_counts = layout.ignored
        superseded: dict[ArticleCopy, list[str]] = {}
        for old, newest in layout.superseded:
            superseded.setdefault(newest, []).append(old.path)
        step = max(1, self.samples_per_shard // FIGURES_AN_ARTICLE)
        units = []
        for number, start in enumerate(range(0, len(layout.copies), step)):
            articles, sizes = [], []
            for copy in layout.copies[start : start + step]:
                list_row = layout.list_rows.get(copy.number)
                list_entry = [list_row.licence, list_row.retracted] if list_row else None
                articles.append([copy.kind, copy.path, copy.number, copy.version, list_entry, superseded.get(copy, [])])
                sizes.append(_size(self.folder, copy))
            notes = [] if number else [[note.name, note.reason, note.detail] for note in layout.notes]
            selection = {"articles": articles, "notes": notes}
            fingerprint = hashlib.sha256(json.dumps([selection, sizes]).encode()).hexdigest()
            units.append(Unit("train", number, selection, fingerprint))
        return units

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """A sample or a drop for each graphic of a figure; a drop for each article that gives none."""
        self.counts = Counter()
        folders: dict[Path, Folder] = {}
        yield from (Dropped(*note) for note in unit.selection["notes"])
        for kind, path, number, version, list_entry, superseded in unit.selection["articles"]:
            for old in superseded:
                yield Dropped(
                    old, "older_version", f"{path} is the newest of the article, or the first of equal copies"
                )
            try:
                context = context_of(self.folder / path, path, number, version, list_entry)
                package = self._package(kind, path, folders)
                yield from self._read_article(kind, package, context)
            except BadRow as bad:
                yield Dropped(path, bad.reason, bad.detail)

    def _package(self, kind: str, path: str, folders: dict[Path, Folder]) -> Package:
        if kind == "archive":
            return Archive(self.folder / path)
        folder = self.folder / path if kind == "folder" else (self.folder / path).parent
        if folder not in folders:  # a folder of many articles is listed once a unit
            folders.clear()
            folders[folder] = Folder(folder)
        return folders[folder]

    def _read_article(self, kind: str, package: Package, context: Context) -> Iterator[Sample | Dropped]:
        name = _xml_name(kind, package, context.path)
        article = parse_article(checked(name, package.read(name), context))
        count_ignored(self.counts, context.ignored)
        reader = _ArticleReader(article, package, context, self.counts)
        if kind != "file":  # in a folder of several articles they are not this one's
            for member, reason in package.refusals.items():
                yield Dropped(f"{context.path}/{member}", "bad_member", f"{reason}: refused")
        samples = 0
        for item in reader.read():
            samples += 1
            yield item
        if not samples:
            yield Dropped(context.path, "no_figures", "the article has no figures")
        if kind != "file":
            reader.count_files(name)


class _ArticleReader:
    """Makes the samples of one article."""

    def __init__(self, article: Article, package: Package, context: Context, counts: Counts) -> None:
        self.article, self.package, self.context, self.counts = article, package, context, counts
        self.folded = {name.lower(): name for name in sorted(package.sizes, reverse=True)}
        self.used: set[str] = set()
        self.keys: set[str] = set()
        self.pmc = context.pmc or article.ids.get("pmc", "")
        if article.ids.get("pmc", self.pmc) != self.pmc:  # which of the two would the licence in the list be for?
            raise BadRow("pmcid_mismatch", f"the file says that it is {article.ids['pmc']}, its name says {self.pmc}")
        self.id = self.pmc or context.path
        self.metadata = self._about()
        for kind, number in article.other_graphics.items():
            self._count(f"graphics of no figure: {kind}", number)

    def _count(self, name: str, number: int = 1) -> None:
        self.counts["read", name] += number

    def read(self) -> Iterator[Sample | Dropped]:
        """The graphics of all figures, in the order of the document."""
        for number, figure in enumerate(self.article.figures, start=1):
            name = figure.id or f"figure{number}"
            if not figure.graphics:
                detail = "a video" if figure.has_media else "nothing"
                yield Dropped(f"{self.id}/{name}"[:200], "no_graphic", f"the figure holds {detail}, and no graphic")
            for panel, hrefs in enumerate(figure.graphics):
                try:
                    yield self._sample(figure, name, panel, hrefs)
                except BadRow as bad:
                    yield Dropped(f"{self.id}/{name}/{hrefs[0]}"[:200], bad.reason, bad.detail)

    def _sample(self, figure: Figure, name: str, panel: int, hrefs: list[str]) -> Sample:
        if len(figure.caption) > MAX_TEXT:
            raise BadRow("caption_too_long", f"it has more than {MAX_TEXT} characters")
        file, picture = self._picture(hrefs)
        key = make_key("pmc", self.id, name, str(panel))
        if key in self.keys:  # ids that occur twice break XML's rules, and do occur
            key = make_key("pmc", self.id, f"{name}.{len(self.keys)}", str(panel))
        self.keys.add(key)
        references = {"references": "\n".join(figure.references)} if figure.references else {}
        metadata = self.metadata | {
            "original_name": f"{self.id}/{file}",
            "figure_id": figure.id,
            "figure_label": figure.label,
            "reference_sections": figure.sections,
            **picture.metadata,
        }
        if figure.rights:
            metadata["figure_rights"] = figure.rights
        if figure.licence != UNKNOWN and figure.licence != metadata["licence"]:
            metadata["licence"] = strictest([figure.licence, metadata["licence"]])
            metadata["licence_url"] = ""
            self._count("licence of the figure's own")
        return Sample(
            key=key,
            images={picture.extension: picture.data},
            texts={"caption": figure.caption, **references},
            metadata=metadata,
        )

    def _picture(self, hrefs: list[str]) -> tuple[str, ShardImage]:
        """(file, image) of the first of the alternatives that is there, those that need no conversion first."""
        files = [file for href in hrefs if (file := self._find(href))]
        if not files:
            raise BadRow("missing_image", f"{hrefs[0][:100]} is not among the article's files")
        self.used.update(files)
        files.sort(key=lambda file: next((i for i, e in enumerate(EXTENSIONS) if file.lower().endswith(e)), 99))
        return files[0], shard_image(files[0], checked(files[0], self.package.read(files[0]), self.context))

    def _find(self, href: str) -> str | None:
        """The file that a graphic names: as it is, in another case, or with an extension added or exchanged."""
        if re.match(r"(?:https?|ftp):", href, re.IGNORECASE):
            raise BadRow("remote_image", f"{href[:100]} is an address, and nothing is fetched")
        if not href.strip("./ ") or href.startswith("/") or "\\" in href or ".." in href.split("/"):
            raise BadRow("bad_path", f"{href[:100]!r} is not the name of a file of the article")
        if href in self.package.sizes:
            return href
        folded = href.lower()
        stem = next((folded.removesuffix(e) for e in (*EXTENSIONS, ".eps", ".pdf") if folded.endswith(e)), folded)
        names = [folded, *(folded + e for e in EXTENSIONS), *(stem + e for e in EXTENSIONS)]
        return next((self.folded[name] for name in names if name in self.folded), None)

    def count_files(self, xml: str) -> None:
        """Count the article's files that no sample came from, by kind."""
        if self.package.clutter:
            self._count(COUNTED[1], self.package.clutter)
        for name in self.package.sizes.keys() - self.used - {xml}:
            extension = name.rpartition(".")[2].lower()
            kind = next((kind for kind, extensions in PASSED_BY.items() if extension in extensions.split()), "other")
            self._count(f"files passed by: {kind}")

    def _about(self) -> dict[str, Any]:
        article = self.article
        licence, statements = self._licence()
        retracted = [*self.context.retracted, *article.retracted]
        metadata = {
            "source": "pmc",
            "licence": licence,
            "licence_url": article.licence_url if normalise(article.licence_url) == licence else "",
            "group": self.pmc or article.ids.get("doi") or self.id,
            "group_kind": "article",
            "modality": "unknown",
            "article": self.id,
            "article_version": self.context.version or None,
            "article_pmid": article.ids.get("pmid"),
            "article_doi": article.ids.get("doi"),
            "article_title": article.title,
            "article_type": article.kind,
            "journal": article.journal,
            "year": article.year,
            "authors": article.authors,
            "citation": _citation(article),
            "url": f"https://pmc.ncbi.nlm.nih.gov/articles/{self.pmc}/" if self.pmc else None,
            "retracted": bool(retracted),
            "retracted_by": retracted or None,
            "licence_statements": statements or None,
        }
        return {name: value for name, value in metadata.items() if value is not None}

    def _licence(self) -> tuple[str, dict[str, str]]:
        """(the licence that holds, all statements where they disagree)."""
        statements = {"article": self.article.licence, **self.context.statements}
        statements = {origin: licence for origin, licence in statements.items() if licence != UNKNOWN}
        if len({family_of(licence) for licence in statements.values()}) < 2:
            return strictest(list(statements.values()) or [UNKNOWN]), {}
        self._count("licences stated differently: articles")
        return strictest(list(statements.values())), statements


def _size(folder: Path, copy: ArticleCopy) -> Any:
    """What of a place changes when its content does: sizes, and for a folder of a version also names."""
    if copy.kind != "folder":
        return copy.size
    return sorted(Folder(folder / copy.path).sizes.items())


def _xml_name(kind: str, package: Package, path: str) -> str:
    """The file that holds the article's text. Raises BadRow no_xml."""
    base = path.rpartition("/")[2]
    if kind == "file":
        return base
    if kind == "folder":
        return f"{base}.xml"
    texts = sorted(name for name in package.sizes if name.lower().endswith((".nxml", ".xml")))
    texts.sort(key=lambda name: (not name.lower().endswith(".nxml"), "/" in name))
    if not texts:
        raise BadRow("no_xml", "the archive holds no .nxml")
    return texts[0]


def _citation(article: Article) -> str:
    authors = article.authors[0] + (" et al." if len(article.authors) > 1 else ".") if article.authors else ""
    issue = " ".join(filter(None, (article.journal, str(article.year or ""), article.volume_page)))
    title = article.title if article.title.endswith((".", "?", "!")) or not article.title else f"{article.title}."
    doi = f"doi:{article.ids['doi']}" if "doi" in article.ids else ""
    return " ".join(filter(None, (authors, title, f"{issue}." if issue else "", doi)))
