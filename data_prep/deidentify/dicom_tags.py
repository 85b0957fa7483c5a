"""A DICOM data set without what identifies a person: the basic profile of PS3.15 Annex E, with patient characteristics.

Which attributes identify is read from table E.1-1 as dicom-anonymizer keeps it (edition 2026c). Three things differ from
a DICOM file that is to stay one. Nothing has to remain valid, because no data set is ever written: what the profile would
empty or replace by a dummy is removed too. Sequences are followed to the bottom, so that a name three levels down goes as
well. UIDs are replaced by keyed ones, the same in every process. Sex and age stay ("Retain Patient Characteristics
Option"); sample metadata takes them, and the few other attributes of `described`, only in the standard's defined terms.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

from data_prep.deidentify.dicom_terms import BODY_PARTS, LATERALITIES, MODALITIES, SEXES, VIEWS

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

EDITION = "dicomfields_2026c"
"""Of table E.1-1, as dicom-anonymizer names it."""

CHARACTERISTICS = frozenset(((0x0010, 0x0040), (0x0010, 0x1010)))
"""PatientSex, PatientAge."""

FILE_META = frozenset((0x00020000, 0x00020001, 0x00020002, 0x00020003, 0x00020010))
"""Length, version, class, instance and transfer syntax. The table leaves out the rest of group 0002, where machines and
people have names too (Source Application Entity Title)."""

OLDEST = 89
"""Years; above, HIPAA's safe harbour (45 CFR 164.514) wants one group."""

_AGE = re.compile(r"(\d{3})([DWMY])")


def remove_identity(dataset: Dataset, key: bytes) -> dict[str, int]:
    """Take out of the data set, in place, all that the profile names; call it before anything is shown of the data set.

    Returns how much went, at all depths: tags (attributes of table E.1-1, curves, and values that cannot be read),
    private_tags, overlays (groups 60xx, whole), uids (replaced). Never what it was.
    """
    removals: Counter[str] = Counter(tags=0, private_tags=0, overlays=0, uids=0)
    _clean(dataset, key, removals)
    if (meta := getattr(dataset, "file_meta", None)) is not None:
        for tag in [tag for tag in meta.keys() if tag not in FILE_META]:  # noqa: SIM118 - iterating gives elements
            del meta[tag]
            removals["tags"] += 1
        _clean(meta, key, removals)
    # Bytes before "DICM" can hold anything.
    if getattr(dataset, "preamble", None):
        dataset.preamble = b"\0" * 128
    return dict(removals)


def _clean(dataset: Dataset, key: bytes, removals: Counter[str]) -> None:
    overlays = set()
    for tag in list(dataset.keys()):
        if tag.is_private:
            del dataset[tag]
            removals["private_tags"] += 1
        elif 0x6000 <= tag.group <= 0x60FF:
            del dataset[tag]
            overlays.add(tag.group)
        elif (action := _action(tag)) == "remove" or not _readable(dataset, tag):
            del dataset[tag]
            removals["tags"] += 1
        elif dataset[tag].VR == "SQ":
            for item in dataset[tag].value or ():
                _clean(item, key, removals)
        elif action == "replace":
            value = dataset[tag].value
            uids = [value] if isinstance(value, str) else list(value or ())
            dataset[tag].value = [keyed_uid(key, uid) for uid in uids]
            removals["uids"] += len(uids)
    removals["overlays"] += len(overlays)


def _readable(dataset: Dataset, tag: BaseTag) -> bool:
    try:
        return dataset[tag] is not None
    except Exception:  # whatever a value makes of the parser: pydicom reads values on first use
        return False


def _action(tag: BaseTag) -> str:
    """remove, replace (a UID), or keep."""
    group_element = (tag.group, tag.element)
    if group_element in CHARACTERISTICS:
        return "keep"
    table, masked = _profile()
    if group_element in table:
        return table[group_element]
    hit = any(tag.group & groups == group & groups and tag.element & elements == element & elements
              for group, element, groups, elements in masked)  # fmt: skip
    return "remove" if hit else "keep"


@lru_cache(maxsize=1)
def _profile() -> tuple[dict[tuple[int, int], str], tuple[tuple[int, int, int, int], ...]]:
    """(tag → remove | replace, (group, element, mask of each) of repeating groups, which are all removed)."""
    from dicomanonymizer.simpledicomanonymizer import initialize_actions, replace_UID

    actions = initialize_actions(EDITION)
    table = {tag: "replace" if action is replace_UID else "remove" for tag, action in actions.items() if len(tag) == 2}
    return table, tuple(tag for tag in actions if len(tag) == 4)


def keyed_uid(key: bytes, uid: str) -> str:
    """A UID in place of a UID, under the root for UUIDs (PS3.5 B.2): the key decides, and equal ones stay equal."""
    digest = hmac.new(key, b"uid:" + str(uid).encode("utf-8", "surrogateescape"), hashlib.sha256).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def described(dataset: Dataset) -> dict[str, str]:
    """What sample metadata may say of an image: defined terms only, since any field of any file can hold a name.

    dicom_modality, body_part, view, laterality, patient_sex, patient_age ("45", "0" below one year, "90+").
    """
    terms = {
        "dicom_modality": ("Modality", MODALITIES),
        "body_part": ("BodyPartExamined", BODY_PARTS),
        "view": ("ViewPosition", VIEWS),
        "patient_sex": ("PatientSex", SEXES),
    }
    terms_of_image = {name: _term(dataset, keyword, allowed) for name, (keyword, allowed) in terms.items()}
    terms_of_image["laterality"] = _term(dataset, "ImageLaterality", LATERALITIES) or _term(
        dataset, "Laterality", LATERALITIES
    )
    terms_of_image["patient_age"] = _age(str(dataset.get("PatientAge") or ""))
    return {name: value for name, value in terms_of_image.items() if value}


def _term(dataset: Dataset, keyword: str, allowed: frozenset[str]) -> str:
    value = str(dataset.get(keyword) or "").strip().upper()
    return value if value in allowed else ""


def _age(text: str) -> str:
    match = _AGE.fullmatch(text.strip())
    if not match:
        return ""
    years = int(match[1]) // {"Y": 1, "M": 12, "W": 52, "D": 365}[match[2]]
    return f"{OLDEST + 1}+" if years > OLDEST else str(years)
