"""BIOMEDICA (Lozano, Sun et al., CVPR 2025): figures of PubMed Central in webdataset tars, with labels by clusters.

    {commercial,noncommercial,other}/*.tar      <batch>-<PMCID>-<position>-<image id>.{jpg,txt,json}, 10,000 in a tar

The text is the figure's caption; "None" and "No caption found" mean that there is none. The JSON says, among 27 fields:

    image_cluster_id, image_file_name      the figure's image, as the article names it
    image_context                          image → paragraphs that refer to it, with <xref> tags: `references`
    image_panel_type, image_panel_subtype, image_primary_label, image_secondary_label, image_label_id
                                           what the image's cluster was found to show; coarse, and wrong at times
    article_accession_id, article_title, article_journal, article_date (seconds since 1970), article_citation,
    article_license, article_mesh_terms, article_keywords, article_subject

The article's full text, abstract and references are not taken over. A unit is a tar, whatever samples_per_shard says.
The publisher encoded the JPEGs again; they are kept as they are. There is one split, train.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from data_prep.errors import BadRow, PrepError
from data_prep.readers.fields import Entry, count_ignored, plain, text_of
from data_prep.readers.image_files import shard_image
from data_prep.readers.webdataset import TarSample, TarSource
from data_prep.source import Options
from data_prep.vocabulary.licences import normalise
from medvlp.shards import Sample, make_key
from medvlp.shards.publication import Publication

NO_CAPTION = ("", "none", "nan", "no caption found")
MODALITIES = {
    "computerized tomography": "CT",
    "x-ray radiography": "X-ray",
    "magnetic resonance": "MRI",
    "functional magnetic resonance": "MRI",
    "ultrasound": "ultrasound",
    "angiography": "angiography",
    "mammography": "mammography",
    "optical coherence tomography": "OCT",
    "endoscopy": "endoscopy",
    "light microscopy": "microscopy",
    "fluorescence microscopy": "microscopy",
    "confocal microscopy": "microscopy",
    "electron microscopy": "microscopy",
}
"""Secondary label → modality; other labels name subjects (skin lesion, plot) and none."""

LABELS = {
    "panel_type": "image_panel_type",
    "panel_subtype": "image_panel_subtype",
    "primary_label": "image_primary_label",
    "secondary_label": "image_secondary_label",
    "cluster": "image_label_id",
    "mesh_terms": "article_mesh_terms",
    "keywords": "article_keywords",
    "subjects": "article_subject",
}
"""A sample's label → field of the JSON."""

_ARTICLE = re.compile(r"PMC\d+")
_TAGS = re.compile(r"</?(?:xref|p)(?:\s[^<>]*)?/?>")


@dataclass(frozen=True)
class BiomedicaOptions(Options):
    """Options of the source biomedica."""

    subsets: tuple[str, ...] = ()
    """Of the folders commercial, noncommercial and other; empty: all."""


class Biomedica(TarSource):
    """Reader of BIOMEDICA's tars, or of any folder of them. Raises PrepError if there are none."""

    name = "biomedica"
    description = "BIOMEDICA: figures of PubMed Central in webdataset tars"
    page = "https://huggingface.co/BIOMEDICA"
    files = "webdataset tars in commercial/, noncommercial/ and other/"
    publication = Publication(
        title=(
            "BIOMEDICA: An Open Biomedical Image-Caption Archive, Dataset, and Vision-Language Models Derived from "
            "Scientific Literature"
        ),
        authors="Lozano A. et al.",
        venue="CVPR",
        year=2025,
        url="https://arxiv.org/abs/2501.07171",
    )
    texts = ("txt", "json")
    option_type = BiomedicaOptions
    choices: BiomedicaOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        self.subsets = sorted(self.choices.subsets)
        tars = self.tars
        self.tars = [tar for tar in tars if not self.subsets or tar.partition("/")[0] in self.subsets]
        missing = [name for name in self.subsets if not any(tar.startswith(f"{name}/") for tar in tars)]
        if not self.tars or missing:
            place_text = f"{', '.join(missing)} of {input}" if missing else f"input={input or '(not given)'}"
            raise PrepError(
                f"{place_text} holds no .tar; give the folder that commercial/, noncommercial/ and other/ are in"
            )

    def options(self) -> dict[str, Any]:
        """The subsets that were asked for."""
        return {"subsets": self.subsets}

    def sample(self, tar_sample: TarSample, tar: str) -> Sample:
        """Raises BadRow: missing_image, missing_txt, missing_json, missing_caption, long_caption, not_utf8, bad_json,

        image_format, broken_image.
        """
        picture = shard_image(tar_sample.key, tar_sample.member("image"))
        caption = caption_of(tar_sample.member("txt"))
        entry = Entry(_object(tar_sample.member("json")))
        article = entry.plain("article_accession_id")
        if not isinstance(article, str) or not _ARTICLE.fullmatch(article):
            article = ""
        references = references_of(entry)
        labels = {label: value for label, name in LABELS.items() if (value := entry.plain(name)) not in (None, "")}
        sample = Sample(
            key=make_key(self.name, article, tar_sample.key),
            images={picture.extension: picture.data},
            texts={"caption": caption, **({"references": "\n".join(references)} if references else {})},
            labels={label: value for label, value in labels.items() if value not in ([], [""])},
            metadata={
                "source": self.name,
                "licence": normalise(str(entry.plain("article_license") or "")),
                "group": article or tar_sample.key,
                "group_kind": "article" if article else "image",
                "original_name": f"{tar_sample.key}.jpg",
                "modality": modality_of(entry.get("image_secondary_label")),
                "subset": tar.rpartition("/")[0] or "unknown",
                **_about(entry, article),
                **picture.metadata,
            },
        )
        count_ignored(self.counts, entry.ignored())
        return sample


def caption_of(data: bytes) -> str:
    """The text of a member. Raises BadRow: missing_caption, long_caption, not_utf8."""
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise BadRow("not_utf8", f"the caption is not UTF-8 (byte {error.start})") from None
    if text.lower() in NO_CAPTION:
        raise BadRow("missing_caption", f"the caption is {text or 'empty'}")
    return text_of({"caption": text}, "caption")


def references_of(entry: dict[str, Any]) -> list[str]:
    """The paragraphs that refer to the figure, without tags; an image may be named with or without its extension."""
    context = entry.get("image_context")
    by_image = [item for item in (context if isinstance(context, list) else [context]) if isinstance(item, dict)]
    names = [plain(entry.get(name)) for name in ("image_cluster_id", "image_file_name")]
    file_names = {name for full in names if isinstance(full, str) for name in (full, full.rpartition(".")[0]) if name}
    contexts = [item[name] for item in by_image for name in item if name in file_names]
    paragraphs = [text for item in contexts for text in (item if isinstance(item, list) else [item])]
    texts = [" ".join(_TAGS.sub("", text).split()) for text in map(plain, paragraphs) if isinstance(text, str)]
    return list(dict.fromkeys(text for text in texts if text))


def modality_of(labels: Any) -> str:
    """The modality that secondary labels name: "unknown" if none, and if several all of them, as in "CT+MRI"."""
    texts = plain(labels if isinstance(labels, list) else [labels])
    modalities = {MODALITIES.get(label.lower()) for label in texts if isinstance(label, str)}
    return "+".join(sorted(name for name in modalities if name)) or "unknown"


def year_of(date: Any) -> int | None:
    """The year of seconds since 1970, or of a date that begins with it; None where there is none."""
    text = str(date).strip()
    if re.fullmatch(r"(?:18|19|20)\d\d(?:\D.*)?", text):
        return int(text[:4])
    try:
        return datetime.fromtimestamp(float(text), UTC).year
    except (ValueError, OverflowError, OSError):
        return None


def _about(entry: Entry, article: str) -> dict[str, Any]:
    texts = {
        "article": article,
        "article_title": entry.plain("article_title"),
        "journal": entry.plain("article_journal"),
        "citation": entry.plain("article_citation"),
        "figure_id": entry.plain("image_cluster_id"),
    }
    metadata: dict[str, Any] = {name: text for name, text in texts.items() if isinstance(text, str) and text}
    year = year_of(entry.get("article_date"))
    return metadata | ({"year": year} if year else {})


def _object(data: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRow("bad_json", f"the JSON cannot be read: {error}") from None
    if not isinstance(entry, dict):
        raise BadRow("bad_json", f"the JSON is a {type(entry).__name__}, expected an object")
    return entry
