"""Captions taken apart: a table of styles, laws, and real captions read by hand."""

import json
import time
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.panels.captions import MAX_LENGTH, Unclear, split_caption
from data_prep.panels.labels import find_mentions
from data_prep.vocabulary.text import tidy
from tests.data_prep.panels.compound import STYLES, compose_caption

CAPTIONS = [
    # labels before their text
    (
        "Knee. (A) Frontal view. (B) Lateral view. MRI, magnetic resonance imaging.",
        {
            "A": "Knee. Frontal view. MRI, magnetic resonance imaging.",
            "B": "Knee. Lateral view. MRI, magnetic resonance imaging.",
        },
    ),
    ("CT shows: (a) a cyst; (b) a stone.", {"a": "CT shows: a cyst.", "b": "CT shows: a stone."}),
    ("Scans at (a) day 1, (b) day 9.", {"a": "Scans at day 1.", "b": "Scans at day 9."}),
    ("A) Before. B) After. The stent is patent.", {"A": "Before.", "B": "After. The stent is patent."}),
    ("Lung. a, Axial CT. b, Coronal CT.", {"a": "Lung. Axial CT.", "b": "Lung. Coronal CT."}),
    ("Lung. a Axial CT. b Coronal CT.", {"a": "Lung. Axial CT.", "b": "Lung. Coronal CT."}),
    ("Films: a Day one. b Day two.", {"a": "Films: Day one.", "b": "Films: Day two."}),
    ("A, B: T1 images. C: T2 image.", {"A": "T1 images.", "B": "T1 images.", "C": "T2 image."}),
    ("A–C. Slices. D. Model.", {"A": "Slices.", "B": "Slices.", "C": "Slices.", "D": "Model."}),
    ("Panel A: liver. Panel B: spleen.", {"A": "liver.", "B": "spleen."}),
    ("Comparison of (a) teeth and (b) bone.", {"a": "Comparison of teeth.", "b": "Comparison of bone."}),
    # labels after their text
    (
        "Cancer. Oblique (A) and craniocaudal (B) views show a mass.",
        {"A": "Cancer. Oblique views show a mass.", "B": "Cancer. craniocaudal views show a mass."},
    ),
    (
        "CT with coronal (a) and sagittal (b) views.",
        {"a": "CT with coronal views.", "b": "CT with sagittal views."},
    ),
    (
        "Cancer: an early stage (A) and a late stage (B).",
        {"A": "Cancer: an early stage.", "B": "Cancer: a late stage."},
    ),
    ("The tumour (a, b) and its margin (c).", {"a": "The tumour.", "b": "The tumour.", "c": "its margin."}),
    (
        "It was large (a). It became small (b). He went home.",
        {"a": "It was large.", "b": "It became small. He went home."},
    ),
    ("(A, B) Spine before (A) and after (B) fixation.", {"A": "Spine before fixation.", "B": "Spine after fixation."}),
    # a mention that points at a panel of which was spoken
    (
        "(A) A mass. (B) The mass in (A) enlarged. The arrow in (A) is a vessel.",
        {"A": "A mass. The arrow in (A) is a vessel.", "B": "The mass in (A) enlarged."},
    ),
    # letters of structures beside letters of panels
    ("(A) Left lung (L). (B) Right lung (R).", {"A": "Left lung (L).", "B": "Right lung (R)."}),
    # words of place
    ("Top: CT. Bottom: MRI.", {"top": "CT.", "bottom": "MRI."}),
    ("Colour (top) and spectral (bottom) Doppler.", {"top": "Colour Doppler.", "bottom": "spectral Doppler."}),
    ("Frontal (left panel) and oblique (right panel) views.", {"left": "Frontal views.", "right": "oblique views."}),
]


@pytest.mark.parametrize(("caption", "expected"), CAPTIONS)
def test_what_a_caption_says_of_each_panel(caption, expected):
    parts = split_caption(caption)
    assert parts is not None
    assert parts.texts == expected
    assert list(parts.texts) == list(expected)


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "Chest radiograph.",
        "Cochlea (C) and vestibulum (V) appear normal.",
        "(A) Alone.",
        "Liver (A) and kidney (B) and spleen (D).",  # C is missing: not all labels were understood
        "A 60-year-old man. B symptoms were absent.",
        "Vitamin a and b levels.",
        "Normal hip (right) and slipped epiphysis (left).",  # sides of the body, not of the picture
        "Tear-drop sign (left breast).",
        "Angle (α) and (β).",
        "Distance A-B in the plane.",
        "Anteroposterior (a-p) radiograph.",
        "All slices (A–D) show the mass.",
    ],
)
def test_captions_that_label_no_panels(caption):
    assert split_caption(caption) is None


@pytest.mark.parametrize(
    "caption",
    [
        "An aneurysm (a) compressing the artery (b).",
        "CT (A) showing a mass and MRI (B) showing more.",
        "(A) (B)",
        "(A) The liver. (B).",
        "(A) x-ray. (B) scan. " + "Long. " * 2000,
    ],
)
def test_nothing_is_guessed(caption):
    with pytest.raises(Unclear):
        split_caption(caption)


@pytest.mark.parametrize(
    ("caption", "layout"),
    [
        ("(A) x-ray. (B) scan.", "any"),
        ("Top: x-ray. Bottom: scan.", "column"),
        ("X-ray (left image) and scan (right image).", "row"),
    ],
)
def test_layout_that_words_of_place_ask_for(caption, layout):
    parts = split_caption(caption)
    assert parts is not None
    assert parts.layout == layout


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        ("(a–c) x (d)", "abcd"),
        ("(a-b, c) x (d)", "abcd"),
        ("(A and B) x, (C to E) y", "ABCDE"),
        ("[a, b & c] x [d]", "abcd"),
        ("(panels A, B) x (panel C)", "ABC"),
        ("(Fig. A), (Fig. B)", "AB"),
    ],
)
def test_labels_as_they_are_written(written, labels):
    labelling = find_mentions(written)
    assert labelling is not None
    assert "".join(labelling.labels) == labels


WORDS = st.sampled_from(["Axial CT", "Frontal radiograph of the chest", "T2-weighted MRI", "Doppler sonogram"])


@given(st.lists(WORDS, min_size=2, max_size=9), st.sampled_from(STYLES), st.integers(0, 99))
def test_every_style_is_read_back(captions, style, seed):
    labels = [chr(ord("a" if "a" in style else "A") + number) for number in range(len(captions))]
    caption, texts = compose_caption(captions, labels, style, Random(seed))
    parts = split_caption(caption)
    assert parts is not None
    assert parts.texts == dict(zip(labels, texts, strict=True))


@given(
    st.lists(st.sampled_from(["(A)", "b)", "C.", "a:", "(a-", "in", "and", ";", ". ", "Top:", "x", "(", "É"])).map(
        " ".join
    )
)
def test_any_text_is_taken_apart_or_refused(text):
    try:
        parts = split_caption(text)
    except Unclear:
        return
    assert parts is None or (len(parts.texts) >= 2 and all(parts.texts.values()))


# Figures of ROCO: label → the words with which the panel's caption ends, read from the captions by hand.
ROCO = {
    "ROCO_00386": {"a": "nylon-12 300 nm rod.", "b": "nylon-12 65 nm rod."},
    "ROCO_14633": {"A": "unilateral external fixator.", "B": "early fracture union.", "C": "fracture consolidation."},
    "ROCO_16340": {"a": "Buccal view.", "b": "Lingual view."},
    "ROCO_26517": {"A": "retro-areolar abscess (arrows).", "B": "retro-areolar abscess (arrows)."},
    "ROCO_29131": {"A": "CL.", "B": "C2–7 SVA.", "C": "T1S.", "D": "TIA.", "E": "NT."},
    "ROCO_36178": {"a": "caudate nucleus.", "b": "cortical ribboning."},
    "ROCO_41863": {"a": "nephrographic phase.", "b": "(‘Fundeni’ Archives)."},
    "ROCO_55499": {"A": "archnoid cyst.", "B": "adjacent structures."},
    "ROCO_67624": {"a": "was 14.93 mm.", "b": "was 15.31 mm."},
    "ROCO_70990": {"A": "5 locations before bacterial inoculation.", "B": "5 locations after bacterial inoculation."},
    "ROCO_74650": {"a": "internal carotid artery.", "b": "filling of its branches."},
    "ROCO_31517": {"top": "at the tricuspid annulus.", "bottom": "TAPSE is measured."},
    "ROCO_83723": {
        "A": "1966 (Authors' personal archive).",
        "B": "1988 (Authors' personal archive).",
        "C": "archive).",
    },
    "ROCO_86814": {"A": "dorsal views.", "B": "ventral views.", "C": "medial views.", "D": "lateral views."},
    "ROCO_83139": {"A": "502382).", "B": "18514).", "C": "17085).", "D": "490566).", "E": "M-391)."},
    "ROCO_84093": {"a": "at: Preoperative period.", "b": "at: 1-month follow-up.", "c": "3-month follow-up."}
    | {"d": "6-month follow-up.", "e": "correction of the deformity."},
    "ROCO_84017": {
        "A": "surface is identified.",
        "B": "(white arrow).",
        "C": "surface is identified.",
        "D": "(white arrow).",
    },
    "ROCO_84296": {"A": "preoperative x-ray.", "B": "immediate postoperative x-ray."}
    | {"C": "bitewing and periapical radiographies.", "D": "bitewing and periapical radiographies."},
    "ROCO_55419": {"A": "day 7. Left tibia.", "B": "day 7. Right tibia."},
    "ROCO_53402": {"A": "Scale bar: 100 μm.", "B": "Scale bar: 100 μm.", "C": "Scale bar: 100 μm."},
    "ROCO_82651": {"A": "CTA, computed tomography-angiography.", "B": "CTA, computed tomography-angiography."},
}


HOSTILE = ["(A) x. (B) y. ", "a, ", "A) x B) y ", "(", "and ", "(A) and, ", "(A-", ". "]


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_does_not_explode(piece):
    start = time.process_time()
    with suppress(Unclear):
        split_caption((piece * MAX_LENGTH)[:MAX_LENGTH])
    assert time.process_time() - start < 1  # measured: below 0.1


def test_real_captions(test_data):
    table = test_data / "roco_v1" / "captions_cc_by.jsonl"
    if not table.is_file():
        pytest.skip(f"needs {table}")
    rows = (json.loads(line) for line in table.read_text("utf-8").splitlines())
    captions = {row["id"]: tidy(row["caption"]) for row in rows if row["id"] in ROCO}
    labelling = {}
    for name, expected in ROCO.items():
        parts = split_caption(captions[name])
        texts = parts.texts if parts else {}
        labelling[name] = {label: text[-len(expected.get(label, "")) :] for label, text in texts.items()}
    assert labelling == ROCO
