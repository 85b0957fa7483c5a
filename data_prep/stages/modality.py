"""Modality of a sample: its publisher's, else by curated concepts, the DICOM header, or its caption."""

from __future__ import annotations

from data_prep.draft import Draft
from data_prep.vocabulary.caption_modality import modality_from_caption
from data_prep.vocabulary.modalities import DICOM_MODALITIES, MODALITY_NAMES, UNKNOWN, modality_of_concepts


def modality(draft: Draft, closed: bool = False) -> Draft:
    """Fill metadata "modality" where it is absent or "unknown"; several are joined: "CT+PET". Labels stay the publisher's.

    The first that names one decides: curated concepts (labels "concepts_manual"), metadata "dicom_modality", the caption,
    concepts found by a machine (labels "concepts" or "cuis"). metadata "modality_from" says which; "unknown" is a value.

    closed: of a name that is not made of `MODALITY_NAMES` ones nothing stays, in metadata and in a label "modality", since a
    table's column can hold anything, such as a person's name; it becomes "unknown" before the rules look.
    """
    sample = draft.sample
    name, rule = str(sample.metadata.get("modality") or UNKNOWN), "publisher"
    if closed:
        name = _known(draft, name)
        if isinstance(sample.labels.get("modality"), str):
            sample.labels["modality"] = _known(draft, sample.labels["modality"])
    if name == UNKNOWN:
        name, rule = _by_rules(draft)
        if name != UNKNOWN:
            sample.metadata["modality_from"] = rule
    sample.metadata["modality"] = name
    draft.count("modality", f"by {rule}" if name != UNKNOWN else UNKNOWN)
    return draft


def _known(draft: Draft, name: str) -> str:
    """The name as rules spell it, "unknown" if they do not know all of it."""
    parts = [MODALITY_NAMES.get(part.casefold()) for part in name.split("+")]
    if None not in parts:
        return "+".join(part for part in parts if part)
    draft.count("modality", "not a known name", int(name != UNKNOWN))
    return UNKNOWN


def _by_rules(draft: Draft) -> tuple[str, str]:
    labels = draft.sample.labels
    by_hand = modality_of_concepts(_codes(labels.get("concepts_manual")))
    if by_hand != UNKNOWN:
        return by_hand, "curated concept"
    terms = str(draft.sample.metadata.get("dicom_modality") or "").upper().split("+")
    by_header = {DICOM_MODALITIES[term] for term in terms if term in DICOM_MODALITIES}
    if by_header:
        return "+".join(sorted(by_header)), "dicom"
    by_caption, words = modality_from_caption(draft.sample.texts.get("caption", ""))
    if by_caption != UNKNOWN:
        return by_caption, f"caption {words}"
    return modality_of_concepts(_codes(labels.get("concepts")) + _codes(labels.get("cuis"))), "machine concept"


def _codes(value: object) -> list[str]:
    return [str(code) for code in value] if isinstance(value, list) else []
