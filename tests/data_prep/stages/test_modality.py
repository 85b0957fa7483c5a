import csv
import json
import time
from collections import Counter

import pytest

from data_prep.draft import Draft
from data_prep.stages.modality import modality
from data_prep.vocabulary.caption_modality import FINDINGS, NAMES, modality_from_caption
from data_prep.vocabulary.modalities import DICOM_MODALITIES, modality_of_concepts
from medvlp.shards import Sample


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Axial CT of the chest", ("CT", "name")),
        ("Contrast-enhanced computed tomography of the abdomen", ("CT", "name")),
        ("Computerised tomography", ("CT", "name")),
        ("CECT showing the target sign", ("CT", "name")),
        ("CBCT of the mandible", ("CT", "name")),
        ("CT angiography of the aorta", ("CT", "name")),
        ("MR angiography of the circle of Willis", ("MRI", "name")),
        ("Sagittal T2-weighted image", ("MRI", "name")),
        ("MRCP showing a stone", ("MRI", "name")),
        ("Cardiac magnetic resonance", ("MRI", "name")),
        ("Chest X-ray on admission", ("X-ray", "name")),
        ("The patient's abdominal X‐ray", ("X-ray", "name")),  # U+2010
        ("Periapical radiograph", ("X-ray", "name")),
        ("Barium enema", ("X-ray", "name")),
        ("Transvaginal US scan", ("ultrasound", "name")),
        ("Endoscopic ultrasound of a stone", ("ultrasound", "name")),
        ("Echocardiogram with vegetation", ("ultrasound", "name")),
        ("Digital subtraction angiography", ("angiography", "name")),
        ("Coronary angiogram", ("angiography", "name")),
        ("ERCP image of a leak", ("angiography", "name")),
        ("18F-FDG PET/CT with uptake", ("CT+PET", "name")),
        ("SPECT-CT of the knee", ("CT+SPECT", "name")),
        ("PET/MRI of the brain", ("MRI+PET", "name")),
        ("FDG PET with uptake", ("PET", "name")),
        ("Bone scan with uptake in both tibias", ("SPECT", "name")),
        ("Mammogram of the left breast", ("mammography", "name")),
        ("Colonoscopy of a polyp", ("endoscopy", "name")),
        ("Color fundus photograph", ("fundus", "name")),
        ("Spectral-domain optical coherence tomography", ("OCT", "name")),
        ("OCT 3 months later", ("OCT", "name")),
        ("Hematoxylin and eosin, original magnification × 200", ("microscopy", "name")),
        ("Histopathology of the mass", ("microscopy", "name")),
        ("Dermoscopy of a naevus", ("dermoscopy", "name")),
        ("12-lead ECG", ("ECG", "name")),
        ("Kaplan-Meier curves of survival", ("graph", "name")),
        ("Clinical photograph of the hand", ("photograph", "finding")),
        ("Photograph of the X-ray of the skull", ("X-ray", "name")),
        ("CT shows a mass, later seen on MRI", ("CT", "name")),
        ("Hypodense lesion of the liver", ("CT", "finding")),
        ("Hyperintense lesion in the pons", ("MRI", "finding")),
        ("Anechoic cyst", ("ultrasound", "finding")),
        ("Apical four-chamber view", ("ultrasound", "finding")),
        # what looks like a name and is none
        ("X-ray diffraction of the powder", ("unknown", "none")),
        ("Map of the USA by the US Navy", ("unknown", "none")),
        ("The direct effect in October", ("unknown", "none")),
        ("Let us in", ("unknown", "none")),
        ("A competent petrous act", ("unknown", "none")),
        ("Fracture of the femur", ("unknown", "none")),
        ("", ("unknown", "none")),
    ],
)
def test_captions(caption, expected):
    assert modality_from_caption(caption) == expected


@pytest.mark.parametrize(
    ("sample", "expected", "rule"),
    [
        (Sample("k", metadata={"modality": "endoscopy"}, texts={"caption": "CT"}), "endoscopy", "by publisher"),
        (Sample("k", labels={"concepts_manual": ["C0040405"]}, texts={"caption": "MRI"}), "CT", "by curated concept"),
        (Sample("k", labels={"concepts_manual": ["C0040405", "C0032743"]}), "CT+PET", "by curated concept"),
        (
            Sample("k", metadata={"dicom_modality": "MR", "modality": "unknown"}, texts={"caption": "CT"}),
            "MRI",
            "by dicom",
        ),
        (Sample("k", metadata={"dicom_modality": "PT+CT"}), "CT+PET", "by dicom"),
        (Sample("k", metadata={"dicom_modality": "OT"}, texts={"caption": "Chest X-ray"}), "X-ray", "by caption name"),
        (Sample("k", texts={"caption": "Anechoic cyst"}), "ultrasound", "by caption finding"),
        (Sample("k", labels={"cuis": ["C0024485"]}, texts={"caption": "A cyst"}), "MRI", "by machine concept"),
        (Sample("k", labels={"concepts": "C0024485"}), "unknown", "unknown"),
        (Sample("k"), "unknown", "unknown"),
    ],
)
def test_what_decides(sample, expected, rule):
    draft = modality(Draft(sample))
    assert sample.metadata["modality"] == expected
    assert "modality" not in sample.labels
    assert draft.counts == {("modality", rule): 1}
    filled = rule not in ("by publisher", "unknown")
    assert sample.metadata.get("modality_from") == (rule.removeprefix("by ") if filled else None)


@pytest.mark.parametrize(
    ("given", "caption", "expected", "unknown"),
    [
        ("CT", "MRI", "CT", 0),
        ("CT+PET", "MRI", "CT+PET", 0),
        ("x-ray+Ultrasound", "MRI", "X-ray+ultrasound", 0),
        ("mammography", "", "mammography", 0),
        ("graph", "", "graph", 0),
        ("unknown", "Axial MRI", "MRI", 0),
        ("", "Axial MRI", "MRI", 0),
        ("CT Cornelius", "Axial MRI", "MRI", 1),
        ("CT Cornelius", "A cyst", "unknown", 1),
        ("CT+Cornelius", "A cyst", "unknown", 1),
        ("CT+", "A cyst", "unknown", 1),
        ("Cornelius", "", "unknown", 1),
        (["CT"], "", "unknown", 1),
    ],
)
def test_a_closed_list_of_names(given, caption, expected, unknown):
    sample = Sample("k", metadata={"modality": given}, texts={"caption": caption})
    draft = modality(Draft(sample), closed=True)
    assert sample.metadata["modality"] == expected
    assert draft.counts["modality", "not a known name"] == unknown
    assert not any("Cornelius" in subject for _, subject in draft.counts)
    assert "Cornelius" not in str(sample.metadata)


@pytest.mark.parametrize(
    ("label", "expected", "unknown"),
    [("ct", "CT", 0), ("Cornelius", "unknown", 1), ("unknown", "unknown", 0), (3, 3, 0)],
)
def test_a_label_from_a_closed_list(label, expected, unknown):
    sample = Sample("k", metadata={"modality": "CT"}, labels={"modality": label})
    draft = modality(Draft(sample), closed=True)
    assert sample.labels == {"modality": expected}
    assert draft.counts == {("modality", "by publisher"): 1} | (
        {("modality", "not a known name"): 1} if unknown else {}
    )


def test_without_a_closed_list_a_publishers_names_stay():
    sample = Sample(
        "k", metadata={"modality": "CT Cornelius"}, labels={"modality": "Cornelius"}, texts={"caption": "MRI"}
    )
    draft = modality(Draft(sample))
    assert (sample.metadata, sample.labels) == ({"modality": "CT Cornelius"}, {"modality": "Cornelius"})
    assert draft.counts == {("modality", "by publisher"): 1}


def test_headers_name_modalities_that_captions_know():
    assert set(DICOM_MODALITIES.values()) <= set(NAMES) | set(FINDINGS)


def confusion(folder, splits):
    """(curated modalities, those by the caption) of every sample; a mammogram is a curated X-ray."""
    for split in splits:
        with open(folder / f"{split}_concepts_manual.csv", newline="", encoding="utf-8-sig") as file:
            curated = {row["ID"]: modality_of_concepts(row["CUIs"].split(";")) for row in csv.DictReader(file)}
        with open(folder / f"{split}_captions.csv", newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                predicted = modality_from_caption(row["Caption"])[0].replace("mammography", "X-ray")
                yield set(curated[row["ID"]].split("+")), set(predicted.split("+"))


# Below what was found by at most a sample or two, as floors: precision, recall. On train the rules were developed.
FLOORS = {
    ("train",): {
        **{"CT": (0.92, 0.87), "MRI": (0.97, 0.76), "X-ray": (0.94, 0.82), "ultrasound": (0.93, 0.86)},
        **{"angiography": (0.9, 0.62)},
    },
    ("valid", "test"): {
        **{"CT": (0.94, 0.87), "MRI": (0.97, 0.8), "X-ray": (0.94, 0.66), "ultrasound": (0.97, 0.69)},
        **{"angiography": (0.97, 0.77)},
    },
}


@pytest.mark.parametrize("splits", FLOORS, ids="+".join)
def test_captions_against_curated_concepts(test_data, splits):
    pairs = list(confusion(test_data / "rocov2", splits))
    for name, (least_precision, least_recall) in FLOORS[splits].items():
        both = sum(name in curated and name in predicted for curated, predicted in pairs)
        precision = both / sum(name in predicted for _, predicted in pairs)
        recall = both / sum(name in curated for curated, _ in pairs)
        print(f"{'+'.join(splits)} {name}: precision {precision:.3f}, recall {recall:.3f}")
        assert precision >= least_precision
        assert recall >= least_recall
    assert sum("unknown" in predicted for _, predicted in pairs) / len(pairs) <= 0.2


def test_figures_that_are_no_radiology_are_not_called_so_often(test_data):
    lines = (test_data / "roco_v1" / "captions_cc_by.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    kinds = {kind: Counter(modality_from_caption(r["caption"])[0] for r in rows if r["kind"] == kind) for kind in
             ("radiology", "non-radiology")}  # fmt: skip
    radiology = {"CT", "MRI", "X-ray", "ultrasound", "angiography", "PET", "CT+PET"}
    shares = {kind: sum(predicted[name] for name in radiology) / predicted.total() for kind, predicted in kinds.items()}
    print(shares)
    assert shares["radiology"] >= 0.75
    assert shares["non-radiology"] <= 0.15


def test_long_captions_take_no_longer_than_their_length():
    for piece in ("a", "A ", "CT ", "sono", "angio", "x-ray ", "18F-", "99mTc ", "T1 ", "US "):
        started = time.process_time()
        modality_from_caption(piece * (20_000 // len(piece)))
        assert time.process_time() - started < 3, piece
