"""The 2D sets of MedMNIST v2: what they show and what their labels mean (Yang et al., Scientific Data 2023).

Label names are the publisher's. The phrases continue "a <subject> showing ...".
"""

from __future__ import annotations

from dataclasses import dataclass

_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right"),
    *("liver", "lung-left", "lung-right", "pancreas", "spleen"),
)


@dataclass(frozen=True)
class Flavour:
    """One MedMNIST set."""

    subject: str
    """What an image is, as a caption would call it."""
    modality: str
    labels: tuple[str, ...]
    """Names by label number; for a multi-label set, by column."""
    phrases: tuple[str, ...] = ()
    """How a caption says each label, where its name would not read well."""
    no_finding: str = ""
    """Multi-label sets: how a caption says that no label applies."""
    licence: str = "CC-BY-4.0"

    def phrase(self, label: int) -> str:
        """The label in a caption's words."""
        return (self.phrases or self.labels)[label]


def _organs(plane: str) -> Flavour:
    phrases = tuple(
        f"the {side} {organ}" if side else f"the {organ}" for organ, _, side in (o.partition("-") for o in _ORGANS)
    )
    return Flavour(f"{plane} abdominal CT crop", "CT", _ORGANS, phrases)


FLAVOURS = {
    "pathmnist": Flavour(
        "H&E-stained colorectal histology patch",
        "pathology",
        (
            *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa"),
            *("cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
        ),
    ),
    "chestmnist": Flavour(
        "frontal chest X-ray",
        "X-ray",
        (
            *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia"),
            *("pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
        ),
        (
            *("atelectasis", "cardiomegaly", "effusion", "infiltration", "a mass", "a nodule", "pneumonia"),
            *("pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural thickening", "a hernia"),
        ),
        no_finding="none of the fourteen labelled findings",
    ),
    "dermamnist": Flavour(
        "dermatoscopic image",
        "dermatoscopy",
        (
            *("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma"),
            *("benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"),
        ),
        licence="CC-BY-NC-4.0",  # HAM10000, its origin, is
    ),
    "octmnist": Flavour(
        "retinal OCT image",
        "OCT",
        ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
        ("choroidal neovascularization", "diabetic macular edema", "drusen", "a normal retina"),
    ),
    "pneumoniamnist": Flavour(
        "pediatric chest X-ray", "X-ray", ("normal", "pneumonia"), ("normal lungs, without pneumonia", "pneumonia")
    ),
    "retinamnist": Flavour(
        "retinal fundus photograph",
        "fundus",
        ("0", "1", "2", "3", "4"),
        tuple(f"diabetic retinopathy of grade {grade} on a scale from 0 to 4" for grade in range(5)),
    ),
    "breastmnist": Flavour(
        "breast ultrasound image",
        "ultrasound",
        ("malignant", "normal, benign"),
        ("a malignant tumor", "normal tissue or a benign finding"),
    ),
    "bloodmnist": Flavour(
        "microscopic image of a blood cell",
        "microscopy",
        (
            *("basophil", "eosinophil", "erythroblast"),
            "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
            *("lymphocyte", "monocyte", "neutrophil", "platelet"),
        ),
        (
            *("a basophil", "an eosinophil", "an erythroblast"),
            "an immature granulocyte (myelocyte, metamyelocyte or promyelocyte)",
            *("a lymphocyte", "a monocyte", "a neutrophil", "a platelet"),
        ),
    ),
    "tissuemnist": Flavour(
        "microscopic image of a human kidney cortex cell",
        "microscopy",
        (
            *("Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells"),
            *("Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments"),
            "Thick Ascending Limb",
        ),
        (
            *("collecting duct or connecting tubule", "distal convoluted tubule", "a glomerular endothelial cell"),
            *("an interstitial endothelial cell", "a leukocyte", "a podocyte", "a proximal tubule segment"),
            "the thick ascending limb",
        ),
    ),
    "organamnist": _organs("axial"),
    "organcmnist": _organs("coronal"),
    "organsmnist": _organs("sagittal"),
}

TEMPLATES = (
    "{subject} showing {finding}",
    "{finding} on a {subject}",
    "a {subject}; finding: {finding}",
    "this {subject} shows {finding}",
)
