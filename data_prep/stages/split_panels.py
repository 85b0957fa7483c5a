"""Compound figures become one sample a panel, where the picture and the caption agree on how many panels there are."""

from __future__ import annotations

import copy
import hashlib
import io
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from data_prep.draft import Draft
from data_prep.panels.captions import Parts, Unclear, split_caption
from data_prep.panels.gutters import Box, find_panels
from data_prep.png import encode_png
from data_prep.vocabulary.licences import family_of, normalise
from medvlp.shards import Sample

if TYPE_CHECKING:
    from PIL import Image

STAGE = "split_panels"

WORKING_SIDE = 1024
"""Pixels: larger figures are reduced before gutters are looked for."""

JPEG_QUALITY = 95
"""Of panels cut from a JPEG, without chroma subsampling. See `_encode`."""


def split_panels(draft: Draft) -> Draft | list[Draft]:
    """A figure → one draft a panel, in the order of the labels; or the draft as it is, counted by reason.

    A figure is split only if its caption labels panels, it is clear which words belong to which label, and the picture
    falls into that many panels. Labels are given to panels in reading order. Samples with conversations, without
    caption, or with several images or none stay whole, as do samples that are panels already (metadata "panel").

    Counts: figures split, panels, and unsplit: unclear caption | counts differ | layout differs. A caption that labels
    no panels, as most do, is not counted; its picture is not looked at.

    A panel's sample: the key's last part is the label; `texts["caption"]` is what the caption says of it (the rule is in
    `data_prep.panels.captions`) and `texts["figure_caption"]` the whole; metadata gains figure_key, panel (from 1),
    panels (their number), panel_label, and panel_box [x0, y0, x1, y1] in pixels of the figure. All else is the figure's.
    """
    sample = draft.sample
    if sample.conversations or len(sample.images) != 1 or len(draft.pictures) != 1 or "panel" in sample.metadata:
        return draft
    if "ND" in family_of(normalise(str(sample.metadata.get("licence", "")))).split("-"):
        return _whole(draft, "licence without derivatives")
    try:
        parts = split_caption(sample.texts.get("caption", ""))
    except Unclear:
        return _whole(draft, "unclear caption")
    if parts is None:
        return draft
    (name, picture), *_ = draft.pictures.items()
    view = draft.view(name)
    boxes = _boxes(view, len(parts.texts))
    if boxes is None:
        return _whole(draft, "counts differ")
    if not _fits(boxes, parts.layout):
        return _whole(draft, "layout differs")
    draft.count(STAGE, "figures split")
    draft.count(STAGE, "panels", len(boxes))
    return [
        Draft(_panel(sample, name, picture, parts, number, box), counts=draft.counts)
        for number, box in enumerate(boxes)
    ]


def _whole(draft: Draft, reason: str) -> Draft:
    draft.count(STAGE, f"unsplit: {reason}")
    return draft


def _boxes(picture: Image.Image, count: int) -> list[Box] | None:
    gray = picture.convert("L")
    factor = -(-max(picture.size) // WORKING_SIDE)
    gray_HW = np.asarray(gray.reduce(factor) if factor > 1 else gray)
    boxes = find_panels(gray_HW, count)
    if boxes is None:
        return None
    width, height = picture.size
    return [(x0 * factor, y0 * factor, min(x1 * factor, width), min(y1 * factor, height)) for x0, y0, x1, y1 in boxes]


def _fits(boxes: list[Box], layout: str) -> bool:
    """Whether panels called left and right stand next to each other, and those called top and bottom above each other."""
    low, high = {"row": (0, 2), "column": (1, 3)}.get(layout, (0, 0))
    return all(first[high] <= second[low] for first, second in pairwise(boxes)) or layout == "any"


def _panel(sample: Sample, name: str, picture: Image.Image, parts: Parts, number: int, box: Box) -> Sample:
    label = list(parts.texts)[number]
    new_name, data = _encode(name, picture, box)
    return Sample(
        key=panel_key(sample.key, label),
        images={new_name: data},
        texts=sample.texts | {"caption": parts.texts[label], "figure_caption": sample.texts["caption"]},
        labels=copy.deepcopy(sample.labels),
        metadata=copy.deepcopy(sample.metadata)
        | {
            "figure_key": sample.key,
            "panel": number + 1,
            "panels": len(parts.texts),
            "panel_label": label,
            "panel_box": list(box),
        },
    )


def panel_key(figure_key: str, label: str) -> str:
    """The figure's key with the label, as a capital, for its last part: rocov2__7__0__0 → rocov2__7__0__A."""
    label = label.upper() if len(label) == 1 else label
    head, _, last = figure_key.rpartition("__")
    if head and (last == "0" or last.startswith("0-")):  # "0-<hash>": make_key had to change an earlier part
        return f"{head}__{label}{last[1:]}"
    digest = hashlib.sha256(f"{figure_key}\0{label}".encode()).hexdigest()[:12]
    return f"{figure_key[:137]}-{digest}"


def _encode(name: str, picture: Image.Image, box: Box) -> tuple[str, bytes]:
    """The panel's member name and bytes: JPEG from a JPEG, otherwise PNG, which loses nothing.

    JPEG at quality 95 without chroma subsampling: a second generation costs little there, and PNG would make a panel
    several times as large as it was in the publisher's file.
    """
    crop = picture.crop(box)
    buffer = io.BytesIO()
    stem, _, extension = name.rpartition(".")
    profile = picture.info.get("icc_profile")
    if extension in ("jpg", "jpeg"):
        crop.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, icc_profile=profile)
    else:
        return f"{stem}.png" if stem else "png", encode_png(crop)
    return (f"{stem}.{extension}" if stem else extension), buffer.getvalue()
