"""Folders whose names are labels: `<split>/<label>/...` or `<label>/...`, as torchvision and others read them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from data_prep.captions.captioned_files import CaptionedFile
from data_prep.errors import BadRow, PrepError
from data_prep.readers.image_tree import walk
from data_prep.source import Dropped
from data_prep.vocabulary.splits import SPLIT_NAMES


def labelled_rows(
    folder: Path, endings: tuple[str, ...], group: re.Pattern[str] | None, modality: str
) -> Iterator[tuple[str, CaptionedFile | Dropped]]:
    """(split, row) of every file, sorted by path.

    The first folder is the split where any of the first folders is named like one, else all is train; the next is the
    label, deeper ones mean nothing. Drops: hidden_file, linked_folder, not_an_image (another ending), outside_splits,
    no_label, empty_label, no_group (the pattern is not in the path), bad_path (nested too deeply).

    endings: of the files that are meant, lower case. group: a pattern with a named group `group`.
    """
    items = sorted(walk(folder), key=lambda item: (item.name if isinstance(item, Dropped) else item).split("/"))
    with_splits = any(e.name.lower() in SPLIT_NAMES and os.path.isdir(e.path) for e in os.scandir(folder))
    for item in items:
        path = item.name if isinstance(item, Dropped) else item
        first = path.split("/")[0] if with_splits else ""
        split = SPLIT_NAMES.get(first.lower(), "train")
        try:
            if isinstance(item, Dropped):
                yield split, item
            else:
                yield split, replace(_row(item, first, split, endings, group), modality=modality)
        except BadRow as bad:
            yield split, Dropped(path, bad.reason, bad.detail, labels=_label_of(path, first))


def _row(path: str, first: str, split: str, endings: tuple[str, ...], group: re.Pattern[str] | None) -> CaptionedFile:
    parts = path.split("/")
    if not path.lower().endswith(endings):
        raise BadRow("not_an_image", f"its ending is none of {', '.join(endings)}")
    if first and (len(parts) == 1 or first.lower() not in SPLIT_NAMES):
        raise BadRow(
            "outside_splits", f"other folders next to it are splits; expected <{'|'.join(SPLIT_NAMES)}>/<label>/"
        )
    folders = parts[1:-1] if first else parts[:-1]
    if not folders:
        raise BadRow(
            "no_label", f"it is in no folder for a label; expected {'<split>/' if first else ''}<label>/<file>"
        )
    if not folders[0].strip():
        raise BadRow("empty_label", f"the folder's name {folders[0]!r} is blank")
    match = group.search(path) if group else None
    if group and not (match and match["group"]):
        raise BadRow("no_group", f"options.group={group.pattern} is not in the path, so the patient is not known")
    return CaptionedFile(path, split, first, labels=(folders[0],), group=match["group"] if match else "")


def _label_of(path: str, first: str) -> dict[str, str]:
    folders = path.split("/")[1 if first else 0 : -1]
    return {"label_name": folders[0]} if folders else {}


def group_pattern(expression: str) -> re.Pattern[str] | None:
    """The pattern of `options.group`, None for "". Raises PrepError."""
    if not expression:
        return None
    try:
        pattern = re.compile(expression)
    except (re.error, TypeError) as error:
        raise PrepError(f"options.group={expression} is not a regular expression: {error}") from None
    if "group" not in pattern.groupindex:
        raise PrepError(
            f"options.group={expression} should say which part of a path names the patient, as (?P<group>...); "
            "for p10/s50/1.jpg that is (?P<group>p[0-9]+)/"
        )
    return pattern
