"""ROCOv2 (Rückert et al., Scientific Data 2024): radiology figures with captions and UMLS concepts.

    {train,valid,test}/<ID>.jpg
    {train,valid,test}_captions.csv            ID,Caption
    {train,valid,test}_concepts.csv            ID,CUIs    found by a machine, joined by ;
    {train,valid,test}_concepts_manual.csv     ID,CUIs    curated: modality, and for X-ray body region and direction

The publisher's splits are kept and the JPEGs are not touched. No article or patient id is published, so a sample's
group is its own ID: figures of one article cannot be recognised, and the publisher's splits have to be trusted there.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from data_prep.errors import BadRow, PrepError
from data_prep.readers.clutter import SYSTEM_FILE, is_clutter
from data_prep.readers.fields import check_utf8
from data_prep.readers.guarded import digest_file
from data_prep.readers.image_files import read_below
from data_prep.readers.tables.text_tables import TextTable
from data_prep.source import Dropped, Source, Unit, chunks
from data_prep.vocabulary.modalities import modality_of_concepts
from medvlp.shards import Sample, make_key
from medvlp.shards.publication import Publication
from medvlp.shards.vocabulary import SPLITS

COLUMNS = {"captions": ("ID", "Caption"), "concepts": ("ID", "CUIs"), "concepts_manual": ("ID", "CUIs")}
TABLES = tuple(COLUMNS)
IMAGES = ("jpg", "jpeg", "png")
"""Extensions, in any case, of files that somebody may take for a sample; the publisher's are all .jpg."""

_ID = re.compile(r"[A-Za-z0-9._-]+")


class Rocov2(Source):
    """Reader of a ROCOv2 folder. Raises PrepError if the folder lacks any of its files."""

    name = "rocov2"
    description = "ROCOv2: radiology figures, captions and UMLS concepts"
    files = "{train,valid,test}_{captions,concepts,concepts_manual}.csv, and the folders train/, valid/, test/ of JPEGs"
    publication = Publication(
        title="ROCOv2: Radiology Objects in COntext Version 2, an Updated Multimodal Image Dataset",
        authors="Rückert J. et al.",
        venue="Scientific Data",
        year=2024,
        url="https://doi.org/10.1038/s41597-024-03496-6",
    )
    licence = "CC-BY-NC-SA-4.0"

    def __init__(self, input: str, samples_per_shard: int = 1000) -> None:
        super().__init__(input, samples_per_shard)
        self.folder = Path(input)
        # A process reads many units of a split: the tables are parsed once for all of them.
        self._rows = lru_cache(maxsize=2)(lambda split: _caption_rows(self.folder, split))
        self._concepts = lru_cache(maxsize=2)(lambda table: _concepts(self.folder / table))
        expected = [f"{split}/" for split in SPLITS] + [f"{split}_{table}.csv" for split in SPLITS for table in TABLES]
        missing = [name for name in expected if not (self.folder / name).exists()]
        if not input or missing:
            raise PrepError(
                f"input={input or '(not given)'} is not a ROCOv2 folder: it lacks {', '.join(missing or expected)}; "
                "unpack the publisher's archives so that images are at <split>/<ID>.jpg next to the csv files"
            )

    def fingerprint(self) -> dict[str, str]:
        """The tables by content, the images of a split by names and sizes: hashing 80,000 files twice is too slow."""
        digests = {name: digest_file(self.folder / name) for s in SPLITS for name in (f"{s}_{t}.csv" for t in TABLES)}
        for split in SPLITS:
            with os.scandir(self.folder / split) as entries:
                listing = sorted(f"{entry.name}\t{_size(entry)}" for entry in entries)
            digests[f"{split}/"] = hashlib.sha256("\n".join(listing).encode("utf-8", "surrogateescape")).hexdigest()
        return digests

    def units(self) -> list[Unit]:
        """Caption rows in the publisher's order; then images without a caption row, which will be drops by name."""
        unread: Counter[str] = Counter()
        for name, columns in ((f"{split}_{table}.csv", COLUMNS[table]) for split in SPLITS for table in TABLES):
            unread.update(TextTable(self.folder / name, columns).unread(columns))
        self.input_counts = dict(unread)
        return [unit for split in SPLITS for unit in chunks(split, len(self._rows(split)), self.samples_per_shard)]

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """Samples, or drops: bad_row, not_utf8, bad_id, bad_path, missing_image, image_too_large, no_caption_row."""
        start, stop = unit.selection
        concepts = self._concepts(f"{unit.split}_concepts.csv")
        manual = self._concepts(f"{unit.split}_concepts_manual.csv")
        for row in self._rows(unit.split)[start:stop]:
            if isinstance(row, Dropped):
                yield row
                continue
            name, caption = row
            try:
                data = read_below(self.folder / unit.split, f"{name}.jpg")
            except BadRow as bad:
                yield Dropped(name, bad.reason, bad.detail)
                continue
            modality = modality_of_concepts(manual.get(name, []))
            yield Sample(
                key=make_key(self.name, name),
                images={"jpg": data},
                texts={"caption": caption},
                labels={
                    "modality": modality,
                    "concepts": concepts.get(name, []),
                    "concepts_manual": manual.get(name, []),
                },
                metadata={
                    "group": name,
                    "group_kind": "figure",
                    "licence": self.licence,
                    "source": self.name,
                    "original_name": f"{name}.jpg",
                    "modality": modality,
                },
            )


def _size(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat().st_size
    except OSError:  # a link to nothing, or in a circle: a drop when it is read
        return None


def _caption_rows(folder: Path, split: str) -> list[tuple[str, str] | Dropped]:
    rows: list[tuple[str, str] | Dropped] = []
    table = TextTable(folder / f"{split}_captions.csv", COLUMNS["captions"])
    for line, _, entry in table.rows():
        location = f"{table.path.name} line {line}"
        name = table.cell(entry, "ID")
        printable = name.encode("utf-8", "replace").decode()
        if not _ID.fullmatch(name):  # an ID becomes a path: no slashes
            reason = entry.reason if isinstance(entry, BadRow) else "bad_id"
            rows.append(
                Dropped(printable or location, reason, f"{location}: {getattr(entry, 'detail', 'not a file name')}")
            )
        elif isinstance(entry, BadRow):
            rows.append(Dropped(printable, entry.reason, f"{location}: {entry.detail}"))
        else:
            try:
                rows.append((name, check_utf8(entry["Caption"], "the caption")))
            except BadRow as bad:
                rows.append(Dropped(name, bad.reason, f"{location}: {bad.detail}"))
    ids = {row.name if isinstance(row, Dropped) else row[0] for row in rows}
    for file in sorted(os.listdir(folder / split)):
        name, _, extension = file.rpartition(".")
        if is_clutter(file):
            rows.append(Dropped(file, *SYSTEM_FILE))
        elif extension.lower() in IMAGES and name not in ids:
            rows.append(Dropped(file, "no_caption_row", f"{split}/{file} is not in {split}_captions.csv"))
    return rows


def _concepts(path: Path) -> dict[str, list[str]]:
    concepts: dict[str, list[str]] = {}
    for line, _, entry in TextTable(path, COLUMNS["concepts"]).rows():
        # Not a drop: the sample would go on without its concepts, and an evaluation by them would change.
        if isinstance(entry, BadRow):
            raise PrepError(f"{path} line {line}: {entry.detail}; or remove the line")
        name = entry["ID"]
        if name in concepts:
            raise PrepError(f"{path} line {line}: {name} has a row already; keep one of them")
        concepts[name] = [cui.strip() for cui in entry["CUIs"].split(";") if cui.strip()]
    return concepts
