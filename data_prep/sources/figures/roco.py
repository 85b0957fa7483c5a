"""ROCO v1 (Pelka et al., LABELS 2018): figures of PubMed Central with captions, keywords and UMLS concepts.

    {train,validation,test}/{radiology,non-radiology}/       below the folder, or below its data/
        captions.txt     ROCO_81834<tab> Case #1 right gaze ...          a blank before the caption
        cuis.txt         ROCO_81834<tab><tab>C0553544<tab>C0034896       two tabs before a list, which may be empty
        semtypes.txt     ROCO_81834<tab><tab>T033<tab>Finding<tab>...    code and name in turn
        keywords.txt     ROCO_81834<tab><tab>gaze<tab>...
        dlinks.txt       ROCO_81834<tab>wget -r <.../PMC3498864.tar.gz> -P ...<tab>jovr-04-256f2.jpg
        licences.txt     ROCO_ID,PMC_ID,CC                               a CSV in spite of its name
        images/          PMC3498864_jovr-04-256f2.jpg                    as the publisher's fetch.py writes them

A sample's group is its article: the publisher's splits share thousands of articles, so `split=publisher` leaks. The
concepts were found in captions by a machine, so the source says "unknown" of the modality.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_prep.errors import BadRow, PrepError
from data_prep.readers.clutter import SYSTEM_FILE, is_clutter
from data_prep.readers.fields import check_utf8, plain, text_of
from data_prep.readers.guarded import MAX_LINE_BYTES, digest_file, digest_listing, regular_only
from data_prep.readers.image_files import read_shard_image
from data_prep.readers.tables.text_tables import TextTable
from data_prep.source import Dropped, Options, Source, Unit, chunks
from data_prep.vocabulary.licences import UNKNOWN, normalise
from medvlp.shards import Sample, make_key
from medvlp.shards.publication import Publication

FOLDERS = {"train": "train", "valid": "validation", "test": "test"}
KINDS = {"radiology": ("radiology",), "all": ("radiology", "non-radiology")}
"""options.kind → folders"""

TABLES = ("captions", "cuis", "keywords", "semtypes", "dlinks", "licences")

_ID = re.compile(r"ROCO_\d+")
_ARCHIVE = re.compile(r"\S*/(PMC\d+)\.tar\.gz")
_ARTICLE = re.compile(r"(PMC\d+)_.+")
_SEMTYPE = re.compile(r"T\d{3}")


@dataclass(frozen=True)
class Figure:
    """A row of captions.txt with what the other tables say of it."""

    id: str
    kind: str
    caption: str
    file: str
    """In images/: article and the publisher's name."""
    url: str
    """The article's archive; empty if dlinks.txt has no row."""
    licence: str
    lists: dict[str, Any]
    """cuis, keywords: lists; semtypes: code → name."""


@dataclass(frozen=True)
class RocoOptions(Options):
    """Options of the source roco."""

    kind: str = "radiology"
    """radiology, or all, which takes the figures that are no radiology too."""


class Roco(Source):
    """Reader of a ROCO v1 folder. Raises PrepError if it lacks any of its files."""

    name = "roco"
    description = "ROCO: figures of articles with captions, keywords and UMLS concepts"
    page = "https://github.com/razorx89/roco-dataset"
    files = "data/{train,validation,test}/{radiology,non-radiology}/ with lists and images/, as its fetch script writes them"
    publication = Publication(
        title="Radiology Objects in COntext (ROCO): A Multimodal Image Dataset",
        authors="Pelka O. et al.",
        venue="LABELS, MICCAI workshop",
        year=2018,
        url="https://doi.org/10.1007/978-3-030-01364-6_20",
    )
    option_type = RocoOptions
    choices: RocoOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        if self.choices.kind not in KINDS:
            raise PrepError(f"options.kind={self.choices.kind} is not one of {', '.join(KINDS)}")
        self.folder = Path(input) / "data" if (Path(input) / "data" / "train").is_dir() else Path(input)
        self._counts: Counter[str] = Counter()
        # A process reads many units of a split: the tables are parsed once for all of them.
        self._rows = lru_cache(maxsize=2)(
            lambda split: [row for folder in self._folders(split) for row in _figures(folder, self._counts)]
        )
        folders = [folder for split in FOLDERS for folder in self._folders(split)]
        expected = [folder / name for folder in folders for name in (*(f"{table}.txt" for table in TABLES), "images")]
        missing = [path.relative_to(self.folder).as_posix() for path in expected if not path.exists()]
        if not input or missing:
            further = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise PrepError(
                f"input={input or '(not given)'} is not a ROCO folder: it lacks {', '.join(missing[:5])}{further}; give the "
                "folder of the publisher's repository after its fetch.py has put images into <split>/<kind>/images/"
            )

    def _folders(self, split: str) -> list[Path]:
        return [self.folder / FOLDERS[split] / kind for kind in KINDS[self.choices.kind]]

    def options(self) -> dict[str, Any]:
        """The kinds of figures."""
        return {**super().options(), "kind": self.choices.kind}

    def fingerprint(self) -> dict[str, str]:
        """The tables by content, the images by names and sizes."""
        digests: dict[str, str] = {}
        for folder in (folder for split in FOLDERS for folder in self._folders(split)):
            base = folder.relative_to(self.folder).as_posix()
            digests |= {f"{base}/{table}.txt": digest_file(folder / f"{table}.txt") for table in TABLES}
            digests[f"{base}/images/"] = digest_listing(folder / "images")
        return digests

    def units(self) -> list[Unit]:
        """Captions in the publisher's order; then ids and images without a caption, which will be drops by name."""
        units = [unit for split in FOLDERS for unit in chunks(split, len(self._rows(split)), self.samples_per_shard)]
        self.input_counts = dict(self._counts)
        return units

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """Samples, or drops.

        bad_row, repeated_id, missing_caption, empty_caption, long_caption, not_utf8, no_image_name, no_caption_row; and
        from reading images: bad_path, missing_image, image_too_large, image_format, broken_image.
        """
        start, stop = unit.selection
        for row in self._rows(unit.split)[start:stop]:
            if isinstance(row, Dropped):
                yield row
                continue
            folder = self.folder / FOLDERS[unit.split] / row.kind / "images"
            try:
                picture = read_shard_image(folder, row.file)
            except BadRow as bad:
                yield Dropped(f"{row.id} ({row.file})", bad.reason, bad.detail)
                continue
            article = row.file.partition("_")[0]
            yield Sample(
                key=make_key(self.name, article, row.id),
                images={picture.extension: picture.data},
                texts={"caption": row.caption},
                labels={"kind": row.kind, **row.lists},
                metadata={
                    "source": self.name,
                    "licence": row.licence,
                    "group": article,
                    "group_kind": "article",
                    "article": article,
                    "figure_id": row.id,
                    "original_name": row.file,
                    "modality": "unknown",
                    "published_split": FOLDERS[unit.split],
                    **({"url": row.url} if row.url else {}),
                    **picture.metadata,
                },
            )


def _figures(folder: Path, counts: Counter[str]) -> list[Figure | Dropped]:
    kind = folder.name
    links = dict(_links(folder / "dlinks.txt"))
    licences = dict(_licences(folder / "licences.txt", counts))
    lists = {name: _lists(folder / f"{name}.txt", counts) for name in ("cuis", "keywords", "semtypes")}
    figures: list[Figure | Dropped] = []
    ids: set[str] = set()
    for number, id, text in _lines(folder / "captions.txt"):
        name = f"{kind}/captions.txt line {number}"
        try:
            if not _ID.fullmatch(id):
                raise BadRow("bad_row", f"it begins with {id[:40]!r}, expected an id such as ROCO_00001 and a tab")
            name = id
            if id in ids:
                raise BadRow("repeated_id", f"line {number} of {kind}/captions.txt: the id has a row already")
            ids.add(id)
            caption = text_of({"caption": text}, "caption")
            # fetch.py names images by dlinks.txt, so its word counts; the list of licences has the same names.
            list_file, licence = licences.get(id, ("", UNKNOWN))
            url, file = links.get(id, ("", list_file))
            if not _ARTICLE.fullmatch(check_utf8(file, "the image's name")):
                raise BadRow(
                    "no_image_name", f"neither dlinks.txt nor licences.txt of {kind}/ names its article's image"
                )
        except BadRow as bad:
            figures.append(Dropped(name, bad.reason, bad.detail))
            continue
        semtypes = _pairs(lists["semtypes"].get(id, []))
        lists_of_figure = {
            "cuis": lists["cuis"].get(id, []),
            "keywords": lists["keywords"].get(id, []),
            "semtypes": semtypes,
        }
        figures.append(Figure(id, kind, caption, file, url, licence, lists_of_figure))
    lost = sorted((links.keys() | licences.keys()) - ids)
    figures += [Dropped(id, "no_caption_row", f"{kind}/captions.txt has no row for it") for id in lost]
    files = {file for _, file in links.values()} | {file for id, (file, _) in licences.items() if id not in links}
    for file in sorted(os.listdir(folder / "images")):
        if is_clutter(file):
            figures.append(Dropped(file, *SYSTEM_FILE))
        elif file not in files:
            figures.append(Dropped(file, "no_caption_row", f"no row of {kind}/dlinks.txt names this image"))
    return figures


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line number, id, what follows the first tab). Bytes that are not UTF-8 come as lone surrogates."""
    with open(path, "rb", opener=regular_only) as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise PrepError(f"{path} line {number} has more than {MAX_LINE_BYTES} bytes; download the file again")
            if line.strip():
                id, _, text = line.decode("utf-8", "surrogateescape").partition("\t")
                yield number, id.strip(), text.strip()


def _lists(path: Path, counts: Counter[str]) -> dict[str, list[str]]:
    """id → the items of its list; items that are not UTF-8 are dropped and counted."""
    lists: dict[str, list[str]] = {}
    for _, id, text in _lines(path):
        items = [plain(item) for item in text.split("\t")]
        if broken := items.count(None):
            counts[f"items of {path.name} that are not UTF-8"] += broken
        lists.setdefault(id, []).extend(item for item in items if item)
    return lists


def _pairs(items: list[str]) -> dict[str, str]:
    """[T033, Finding, T023, ...] → {T033: Finding, ...}"""
    codes = [position for position, item in enumerate(items) if _SEMTYPE.fullmatch(item)]
    return {items[start]: " ".join(items[start + 1 : end]) for start, end in pairwise([*codes, len(items)])}


def _links(path: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """(id, (address of the article's archive, file in images/)). A line that names no archive is skipped."""
    for _, id, text in _lines(path):
        archive = _ARCHIVE.search(text)
        if archive and _ID.fullmatch(id):
            name = text.rpartition("\t")[2].strip()
            yield id, (plain(archive[0]) or "", f"{archive[1]}_{name}")


def _licences(path: Path, counts: Counter[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    """(id, (file in images/, licence)). Rows that cannot be read are counted: their figures' licences are unknown."""
    for _, _, row in TextTable(path, ["ROCO_ID", "PMC_ID", "CC"]).rows():
        if isinstance(row, BadRow):
            counts["rows of licences.txt that cannot be read"] += 1
        elif _ID.fullmatch(row["ROCO_ID"].strip()):
            yield row["ROCO_ID"].strip(), (row["PMC_ID"].strip(), normalise(row["CC"]))
