"""UniMed (Khattak et al., UniMed-CLIP, 2024): the webdataset tars that its preparation scripts write.

    <part>/dataset-000001.tar      000000.{jpg,txt}, 1,000 in a tar; a part is e.g. chexpert_webdataset

UniMed is assembled by its users: each of its parts (CheXpert, MIMIC-CXR, OpenI, ChestX-ray8, RadImageNet, three of
retina, ROCOv2, PMC-OA, Quilt-1M, two of LLaVA-Med) is a folder of tars. Keys are counters that start again in each
part, so a sample's key holds part and tar. Images may be PNG under the name .jpg.

A text may hold several captions, each followed by a marker word of its part, and placeholders for what is missing:

    A chest X-ray.._chexpert_An X-ray of ..._chexpert_
    Template 1._mimiccxr_..._mimiccxr__mimiccxr_the report, or noreportpresent

They become `caption`, `caption_1`, ... in the publisher's order, but MIMIC-CXR's report, which stands last and which
UniMed-CLIP trains on where there is one, comes first. `caption_from` says what `caption` is: report, original (the
source's own words), or template. The scripts leave out ids of patients and articles: a sample's group is itself, so
splits of this source cannot be kept apart by patient. Licences are those of the parts, which the tars do not say.
"""

from __future__ import annotations

from data_prep.errors import BadRow, PrepError
from data_prep.readers.fields import text_of
from data_prep.readers.image_files import shard_image
from data_prep.readers.webdataset import TarSample, TarSource
from medvlp.shards import Sample, make_key
from medvlp.shards.publication import Publication

MARKERS = {
    "_radimagenet_": "template",
    "_chexpert_": "template",
    "_openi_": "original",
    "_chestxray8_": "template",
    "_all_retina_merged_": "template",
    "_dr_": "template",
    "_medicat_": "original",
    "_mimiccxr_": "report",
}
"""Marker word → what the first caption is, in the order in which UniMed-CLIP looks for them."""

REPORT_LAST = "_mimiccxr_"
PLACEHOLDERS = ("noreportpresent", "nothingpresent")
MODALITIES = {
    "chexpert": "X-ray",
    "mimic": "X-ray",
    "openi": "X-ray",
    "chest_xray8": "X-ray",
    "chestxray8": "X-ray",
    "retina": "fundus",
    "quilt": "pathology",
}
"""Word in the name of a part → modality; the other parts mix several."""


class UniMed(TarSource):
    """Reader of a folder of parts, or of one part. Raises PrepError if there are no tars."""

    name = "unimed"
    description = "UniMed: the tars that its scripts write, several captions an image"
    page = "https://github.com/mbzuai-oryx/UniMed-CLIP"
    files = "a folder of webdataset tars for each of its parts, as its scripts write them"
    publication = Publication(
        title="UniMed-CLIP: Towards a Unified Image-Text Pretraining Paradigm for Diverse Medical Imaging Modalities",
        authors="Khattak M. U. et al.",
        venue="arXiv",
        year=2024,
        url="https://arxiv.org/abs/2412.10372",
    )
    licence = "unknown"
    texts = ("txt",)

    def __init__(self, input: str, samples_per_shard: int = 1000) -> None:
        super().__init__(input, samples_per_shard)
        if not self.tars:
            raise PrepError(
                f"input={input or '(not given)'} holds no .tar; give the folder that UniMed's scripts wrote their "
                "..._webdataset/ folders into"
            )

    def sample(self, tar_sample: TarSample, tar: str) -> Sample:
        """Raises BadRow: missing_image, missing_txt, empty_caption, long_caption, not_utf8, image_format, broken_image."""
        picture = shard_image(tar_sample.key, tar_sample.member("image"))
        captions, origin = captions_of(_text(tar_sample.member("txt")))
        part = tar.rpartition("/")[0] or self.folder.resolve().name
        tar_name = tar.rpartition("/")[2].removesuffix(".tar")
        return Sample(
            key=make_key(self.name, part, tar_name, tar_sample.key),
            images={picture.extension: picture.data},
            texts={f"caption_{number}" if number else "caption": text for number, text in enumerate(captions)},
            metadata={
                "source": self.name,
                "licence": self.licence,
                "group": f"{part}/{tar_name}/{tar_sample.key}",
                "group_kind": "image",
                "original_name": f"{part}/{tar_name}/{tar_sample.key}",
                "modality": next((name for word, name in MODALITIES.items() if word in part.lower()), "unknown"),
                "subset": part,
                "caption_from": origin,
                **picture.metadata,
            },
        )


def captions_of(text: str) -> tuple[list[str], str]:
    """(captions without placeholders and repetitions, what the first is). Raises BadRow: empty_caption, long_caption."""
    marker = next((marker for marker in MARKERS if marker in text), None)
    parts = [part.strip() for part in (text.split(marker) if marker else [text])]
    if marker == REPORT_LAST:
        parts.insert(0, parts.pop())
    origin = "original" if marker is None else MARKERS[marker] if says_something(parts[0]) else "template"
    captions = list(dict.fromkeys(part for part in parts if says_something(part)))
    if not captions:
        raise BadRow("empty_caption", "the text holds no caption")
    return [text_of({"caption": caption}, "caption") for caption in captions], origin


def says_something(text: str) -> bool:
    """Neither a placeholder nor the full stop that the scripts put behind an empty caption."""
    return text not in PLACEHOLDERS and any(character.isalnum() for character in text)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRow("not_utf8", f"the text is not UTF-8 (byte {error.start})") from None
