"""Words that errors are made of: sides, severities, units, organs, findings, and what must not be touched."""

from __future__ import annotations

import re

NEGATIONS = re.compile(
    r"\b(?:no|not|non|without|nor|neither|never|none|negative|absent|absence|free\s+of|denies|denied|lack|lacks|resolved|excluded?"
    r"|exclude|rule[sd]?\s+out)\b|n't\b",
    re.IGNORECASE,
)
DOUBTS = re.compile(
    r"\b(?:may|might|could|can|possibl[ey]|probabl[ey]|likely|suspect\w*|suggest\w*|question\w*|versus|vs|or|unless|if|whether"
    r"|cannot|differential|consider\w*|maybe|perhaps|uncertain|unclear|equivocal|recommend\w*)\b",
    re.IGNORECASE,
)
NORMAL = re.compile(
    r"\b(?:normal|normally|unremarkable|clear|intact|patent|symmetric\w*|preserved|well|within\s+normal|stable|unchanged|healthy)\b",
    re.IGNORECASE,
)
"""Sentences about what is normal, absent or in doubt: with another side, size or organ they may be as true as before."""

SIDES = {"left": "right", "right": "left"}
SIDE = re.compile(r"\b(?P<word>left|right)(?=\b(?!-hand|-to-|\w)|-sided\b)", re.IGNORECASE)
SIDE_OF_A_NAME = re.compile(
    r"\s+(?:ventric\w+|atri\w+|heart|cardiac|main\s+(?:coronary|stem)|coronary|bundle|anterior\s+descending|circumflex|marginal"
    r"|axis|angles?|away|now|after|before|behind|unchanged|untreated|alone|in\s+(?:place|situ)|to\s+right|to\s+left|over|with\b|the\b"
    r"|a\b|an\b|his\b|her\b|gastric|crus|lateral\s+decubitus|anterior\s+oblique|posterior\s+oblique|lymphatic|internal\s+mammary)",
    re.IGNORECASE,
)
"""Behind the word: a part that has the side in its name ("left ventricle" has a partner of another kind), or no side at all."""
NO_SIDE_BEFORE = re.compile(
    r"(?:\b(?:all|was|were|been|being|be|is|are|has|have|had|he|she|who|patient|they|reader'?s?|viewer'?s?|image)|\d)\s+$",
    re.IGNORECASE,
)
SIDES_TOGETHER = re.compile(r"\b(?:bilateral\w*|both|each\s+side|either\s+side|midline)\b", re.IGNORECASE)

SEVERITIES = {
    "mild": "severe",
    "severe": "mild",
    "mildly": "severely",
    "severely": "mildly",
    "slight": "marked",
    "marked": "slight",
    "slightly": "markedly",
    "markedly": "slightly",
    "minimal": "extensive",
    "extensive": "minimal",
    "small": "large",
    "large": "small",
    "tiny": "large",
    "minor": "major",
    "major": "minor",
    "increased": "decreased",
    "decreased": "increased",
    "increasing": "decreasing",
    "decreasing": "increasing",
    "acute": "chronic",
    "chronic": "acute",
    "dilated": "narrowed",
    "narrowed": "dilated",
    "improved": "worsened",
    "worsened": "improved",
    "benign": "malignant",
    "malignant": "benign",
    "hypodense": "hyperdense",
    "hyperdense": "hypodense",
    "hypointense": "hyperintense",
    "hyperintense": "hypointense",
}
SEVERITY = re.compile(rf"(?<![\w-])(?P<word>{'|'.join(SEVERITIES)})(?![\w-])", re.IGNORECASE)
SEVERITY_OF_A_NAME = re.compile(
    r"\s+(?:bowel|intestin\w+|cell|cells|airways?|vessels?|duct|saphenous|obstructive|kidney\s+disease|myeloid|lymph\w+"
    r"|off|by|with|out|as|bore|calib\w+|respiratory|on\s+chronic|fissure|papilla|trochanter|salivary|depressive|granulomatous)\b",
    re.IGNORECASE,
)

UNITS = {"mm": "cm", "cm": "mm", "mg": "g", "g": "mg", "mcg": "mg", "ml": "l", "mL": "L"}
NUMBER = re.compile(
    r"(?<![\w./,–-])(?P<number>\d{1,4}(?:\.\d{1,2})?)(?P<gap>\s?)(?P<unit>mm|cm|mcg|mg|g|ml|mL|cc|mmHg|bpm|%)(?![\w/²³^*]|\s*[x×/])"
)
ORGANS = {
    "liver": "spleen",
    "spleen": "liver",
    "hepatic": "splenic",
    "splenic": "hepatic",
    "renal": "pancreatic",
    "pancreatic": "renal",
    "pancreas": "stomach",
    "stomach": "pancreas",
    "femur": "tibia",
    "tibia": "femur",
    "femoral": "tibial",
    "tibial": "femoral",
    "radius": "ulna",
    "ulna": "radius",
    "frontal": "occipital",
    "occipital": "frontal",
    "parietal": "temporal",
    "temporal": "parietal",
    "cerebellum": "brainstem",
    "brainstem": "cerebellum",
    "mandible": "maxilla",
    "maxilla": "mandible",
    "mandibular": "maxillary",
    "maxillary": "mandibular",
    "upper lobe": "lower lobe",
    "lower lobe": "upper lobe",
    "aortic": "pulmonary",
    "mitral": "tricuspid",
    "tricuspid": "mitral",
}
ORGAN = re.compile(rf"(?<![\w-])(?P<word>{'|'.join(sorted(ORGANS, key=len, reverse=True))})(?![\w-])", re.IGNORECASE)
ORGAN_OF_A_NAME = re.compile(
    r"\s+(?:flexure|view|projection|plane|radiograph|head|neck\s+length|sinus\w*|resolution|evolution|course|pattern|arter\w+|vein\w*"
    r"|portal|failure|cell|stenosis|dissection|valve\s+replacement)\b",
    re.IGNORECASE,
)
"""Behind the word: views, times and vessels, of which the partner is none, or is another thing altogether."""

CHEST = re.compile(
    r"\b(?:lungs?|chest|thora\w+|pleura\w*|pulmonary|hemithorax|cardiac|mediastin\w+|lobes?)\b", re.IGNORECASE
)
CHEST_FINDINGS = (
    ("a pneumothorax", r"pneumothora"),
    ("a pleural effusion", r"effusion"),
    ("a rib fracture", r"fracture"),
    ("a pulmonary nodule", r"nodul|mass|tumou?r|lesion|metasta"),
    ("a hiatal hernia", r"hernia"),
    ("a pericardial effusion", r"effusion|pericardi"),
    ("cardiomegaly", r"cardiomegal|enlarge|heart|cardiac"),
    ("emphysema", r"emphysem|copd|hyperinflat|hyperlucen"),
)
"""A finding that is put in, and the words that a text about it has already; of such texts it is not put in."""
