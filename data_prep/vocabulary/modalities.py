"""Modalities: the names that samples carry, and how UMLS concepts and DICOM's defined terms name them."""

from __future__ import annotations

from data_prep.vocabulary.caption_modality import FINDINGS, NAMES

UNKNOWN = "unknown"

CONCEPT_MODALITIES = {
    "C0040405": "CT",
    "C1306645": "X-ray",
    "C0024485": "MRI",
    "C0041618": "ultrasound",
    "C0002978": "angiography",
    "C0032743": "PET",
}
"""Curated concept (CUI) → modality."""

DICOM_MODALITIES = {
    **{
        "CT": "CT",
        "MR": "MRI",
        "CR": "X-ray",
        "DX": "X-ray",
        "RG": "X-ray",
        "RF": "X-ray",
        "IO": "X-ray",
        "PX": "X-ray",
    },
    **{
        "DR": "X-ray",
        "MG": "mammography",
        "US": "ultrasound",
        "IVUS": "ultrasound",
        "XA": "angiography",
        "DSA": "angiography",
    },
    **{"PT": "PET", "NM": "SPECT", "OP": "fundus", "OPT": "OCT", "IVOCT": "OCT", "OCT": "OCT", "ES": "endoscopy"},
    **{"SM": "microscopy", "GM": "microscopy", "DMS": "dermoscopy", "XC": "photograph", "ECG": "ECG", "EEG": "EEG"},
}
"""Defined terms of Modality (0008,0060), PS3.3 C.7.3.1.1.1 → modality."""


MODALITY_NAMES = {
    name.casefold(): name
    for name in (*DICOM_MODALITIES.values(), *CONCEPT_MODALITIES.values(), *NAMES, *FINDINGS, "pathology")
}
"""Names by which rules call a modality, by their folded case."""


def modality_of_concepts(cuis: list[str]) -> str:
    """The modality that the curated concepts name: "unknown" if none, and if several all of them, as in "CT+PET".

    A combined figure belongs to no single class, and an evaluation by class should be able to leave it out.
    """
    modalities = {CONCEPT_MODALITIES[cui] for cui in cuis if cui in CONCEPT_MODALITIES}
    return "+".join(sorted(modalities)) or "unknown"
