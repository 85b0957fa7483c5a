"""PMC-OA (Lin et al., PMC-CLIP, 2023): panels of figures of PubMed Central with captions.

    pmc_oa.jsonl        image, caption, alignment_type, alignment_score   panels with the part of the caption about them
    pmc_oa_beta.jsonl   image, caption                                    panels with the whole figure's caption
    train.jsonl, valid.jsonl, test.jsonl                                  the first release, split by the publisher
    images/caption_T060_filtered_top4_sep_v0_subfigures/PMC212319_Fig3_4.jpg     article, figure, panel

Where a folder holds several releases, `options.release` names one: pmc_oa, pmc_oa_beta or splits. A release without
splits is all train. The images may stand in the long-named folder, in `images/`, or in the first inside the second; the
publisher's archive has more of them than the tables name, and those are left alone. Captions of an image that several
rows name are `caption`, `caption_1`, ...

No licences are published. `options.licences=<oa_file_list.csv>`, the list of PubMed Central with the columns Accession ID
and License, gives each article's, and, where the list has the columns, its citation and whether it is retracted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.errors import BadRow, PrepError
from data_prep.readers.fields import plain, text_of
from data_prep.readers.guarded import digest_file
from data_prep.readers.image_files import ShardImage
from data_prep.readers.tables.indexed_tables import ImageRows, ImageTableSource, JsonLines, TableRow
from data_prep.readers.tables.text_tables import TextTable
from data_prep.source import Options
from data_prep.vocabulary.licences import normalise
from medvlp.shards import Sample, make_key
from medvlp.shards.publication import Publication

RELEASES = {
    "pmc_oa": {"pmc_oa.jsonl": "train"},
    "pmc_oa_beta": {"pmc_oa_beta.jsonl": "train"},
    "splits": {"test.jsonl": "test", "valid.jsonl": "valid", "train.jsonl": "train"},
}
"""release → table → split. Of an image in two tables the first decides: test images stay out of train."""

LONG_FOLDER = "caption_T060_filtered_top4_sep_v0_subfigures"
IMAGE_FOLDERS = (f"images/{LONG_FOLDER}", LONG_FOLDER, "images")

_NAME = re.compile(r"(?P<article>PMC\d+)_(?P<figure>.+?)(?:_(?P<panel>\d+))?\.jpg")
_ACCESSION = ("Accession ID", "AccessionID")
_CITATION = ("Article Citation", "Citation")


@dataclass(frozen=True)
class PmcOaOptions(Options):
    """Options of the source pmc_oa."""

    release: str = ""
    """pmc_oa, pmc_oa_beta or splits, where the folder holds several."""
    licences: str = ""
    """Path of PubMed Central's list of files, oa_file_list.csv."""


class PmcOa(ImageTableSource):
    """Reader of a PMC-OA folder. Raises PrepError if it lacks a table or the images."""

    name = "pmc_oa"
    description = "PMC-OA (PMC-CLIP's release): figures or subfigures with captions"
    page = "https://huggingface.co/datasets/axiong/pmc_oa"
    files = "pmc_oa.jsonl (or pmc_oa_beta.jsonl), and the folder of images"
    publication = Publication(
        title="PMC-CLIP: Contrastive Language-Image Pre-training using Biomedical Documents",
        authors="Lin W. et al.",
        venue="MICCAI",
        year=2023,
        url="https://arxiv.org/abs/2303.07240",
    )
    licence = "unknown"

    option_type = PmcOaOptions
    choices: PmcOaOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        self.release = self.choices.release or self._only_release()
        if self.release not in RELEASES:
            raise PrepError(f"options.release={self.release} is not one of {', '.join(RELEASES)}")
        missing = [name for name in RELEASES[self.release] if not (self.folder / name).is_file()]
        folders = [self.folder / name for name in IMAGE_FOLDERS if (self.folder / name).is_dir()]
        if not input or missing or not folders:
            missing += [] if folders else ["images/"]
            raise PrepError(
                f"input={input or '(not given)'} is not a PMC-OA folder of release {self.release}: it lacks "
                f"{', '.join(missing)}; unpack images.zip next to the publisher's .jsonl"
            )
        self.tables = [JsonLines(self.folder / name) for name in RELEASES[self.release]]
        self.table_splits = list(RELEASES[self.release].values())
        self.images = folders[0]
        self.licences = Path(self.choices.licences) if self.choices.licences else None
        self._articles: dict[str, dict[str, Any]] = {}
        if self.licences and not self.licences.is_file():
            raise PrepError(f"options.licences={self.licences} is not a file; give PubMed Central's oa_file_list.csv")

    def _only_release(self) -> str:
        names = [name for name, tables in RELEASES.items() if any((self.folder / table).is_file() for table in tables)]
        if len(names) > 1:
            raise PrepError(
                f"{self.folder} holds the releases {', '.join(names)}; say which with options.release={names[0]}"
            )
        return names[0] if names else "pmc_oa"

    def options(self) -> dict[str, Any]:
        """The release, and whether licences are looked up; the list itself is in the fingerprint."""
        return {**super().options(), "release": self.release, "licences": self.licences is not None}

    def fingerprint(self) -> dict[str, str]:
        """The list of licences, by content, too."""
        return super().fingerprint() | ({"licences": digest_file(self.licences)} if self.licences else {})

    def image_of(self, entry: dict[str, Any]) -> str:
        """Raises BadRow: missing_image, empty_image, bad_image, not_utf8."""
        return text_of(entry, "image")

    def split_of(self, table: int, entry: dict[str, Any]) -> str:
        """The table's."""
        return self.table_splits[table]

    def check(self, entry: dict[str, Any]) -> None:
        """Raises BadRow: missing_caption, empty_caption, bad_caption, long_caption, not_utf8."""
        text_of(entry, "caption")

    def unit_facts(self, images: list[ImageRows]) -> dict[str, Any]:
        """Article → what the list of licences says of it; the list has millions of rows, a unit needs a few hundred."""
        if self.licences is None:
            return {}
        articles = {match["article"] for rows in images if (match := _NAME.fullmatch(rows.image))}
        return {article: self._articles[article] for article in sorted(articles & self._articles.keys())}

    def gather(self) -> list[ImageRows]:
        """As of all tables; then the list of licences is read, for the articles that occur."""
        images = super().gather()
        articles = {match["article"] for rows in images if (match := _NAME.fullmatch(rows.image))}
        counts: Counter[str] = Counter()
        self._articles = dict(read_licences(self.licences, articles, counts)) if self.licences else {}
        self.input_counts |= counts
        return images

    def sample(self, rows: list[TableRow], picture: ShardImage, unit_facts: dict[str, Any]) -> Sample:
        """The group is the article where the name tells it, else the image."""
        image = self.image_of(rows[0].entry)
        captions = list(dict.fromkeys(text_of(row.entry, "caption") for row in rows))
        name = _NAME.fullmatch(image)
        article = name["article"] if name else ""
        metadata: dict[str, Any] = {
            "source": self.name,
            "licence": self.licence,
            "group": article or image,
            "group_kind": "article" if article else "image",
            "original_name": image,
            "modality": "unknown",
            **({"article": article, "figure_id": name["figure"]} if name else {}),
            **({"panel": int(name["panel"])} if name and name["panel"] else {}),  # no further to be split
            **unit_facts.get(article, {}),
            **({"published_split": self.table_splits[rows[0].table]} if self.release == "splits" else {}),
            **picture.metadata,
        }
        # A panel's number can be 0, so a figure that was not cut is no panel 0.
        parts = (article, name["figure"], name["panel"] or "whole") if name else ("", image)
        alignment = {field: rows[0].entry.plain(field) for field in ("alignment_type", "alignment_score")}
        return Sample(
            key=make_key(self.name, *parts),
            images={picture.extension: picture.data},
            texts={f"caption_{number}" if number else "caption": text for number, text in enumerate(captions)},
            labels={field: value for field, value in alignment.items() if value not in (None, "")},
            metadata=metadata,
        )


def read_licences(path: Path, articles: set[str], counts: Counter[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(article, {licence, citation, retracted}) of PubMed Central's list, for some articles.

    counts: gets how many rows of the list cannot be read.

    Raises PrepError if it is another table.
    """
    for _, _, entry in TextTable(path, ["License"]).rows():
        if isinstance(entry, BadRow):
            counts[f"rows of {path.name} that cannot be read"] += 1
            continue
        accession = next((entry[column] for column in _ACCESSION if column in entry), None)
        if accession is None:
            raise PrepError(f"{path} has the columns {', '.join(entry)}; it lacks {_ACCESSION[0]}")
        if accession not in articles:
            continue
        citation = plain(next((entry[column] for column in _CITATION if column in entry), ""))
        retracted = next((entry[column] for column in entry if column.startswith("Retracted")), None)
        yield (
            accession,
            {
                "licence": normalise(entry["License"]),
                **({"citation": citation} if citation else {}),
                **({"retracted": retracted.strip().lower() in ("yes", "true", "1")} if retracted is not None else {}),
            },
        )
