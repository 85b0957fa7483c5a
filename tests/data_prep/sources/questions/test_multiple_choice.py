"""PMC-VQA and OmniMedVQA."""

import csv
import json

import pytest

from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from data_prep.source import Dropped
from data_prep.sources import open_source
from data_prep.sources.questions.pmc_vqa import without_letter
from medvlp.shards import verify
from tests.data_prep.folders import jpeg

V1 = ["Figure_path", "Question", "Answer", "Choice A", "Choice B", "Choice C", "Choice D", "Answer_label"]
CHOICES = [" A:Diffuse uptake", " B:Focal uptake", " C:No uptake", "D: Cannot be told"]
UPTAKE = ["PMC1064097_F1.jpg", "What is the uptake pattern?", "Focal uptake", *CHOICES, "B"]
V2 = ["index", "Figure_path", "Caption", "Question", "Choice A", "Choice B", "Choice C", "Choice D", "Answer", "split"]
PANEL = ["17", "PMC8253797_Fig4_11.jpg", "A caption, with a comma", "What is shown?", *CHOICES, "D", "train"]


def write_pmc(folder, tables, images):
    folder.mkdir(exist_ok=True)
    for name, rows in tables.items():
        with open(folder / name, "w", newline="") as file:
            csv.writer(file).writerows(rows)
    for number, name in enumerate(images):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(jpeg(number))
    return folder


def items_of(source, folder, flag=""):
    reader = open_source(source, str(folder), flag=flag)
    return {split: [i for u in reader.units() if u.split == split for i in reader.read(u)] for split in reader.splits}


def test_pmc_vqa(tmp_path):
    other = ["PMC1064097_F1.jpg", "Which side?", "A: left", " A: left", " B: right", " C: both", " D: none", "A"]
    clean = ["single.jpg", *UPTAKE[1:]]
    tables = {"train.csv": [V1, UPTAKE, other], "test.csv": [V1, UPTAKE], "test_clean.csv": [V1, clean]}
    folder = write_pmc(tmp_path / "in", tables, ["images/PMC1064097_F1.jpg", "images/single.jpg"])
    items = items_of("pmc_vqa", folder)
    (sample,) = items["train"]
    first, second = sample.conversations
    assert [turn.text for turn in first.turns] == ["<image>\nWhat is the uptake pattern?", "Focal uptake"]
    assert first.metadata == {
        "answer_type": "multiple_choice",
        "options": {"A": "Diffuse uptake", "B": "Focal uptake", "C": "No uptake", "D": "Cannot be told"},
        "answer_letter": "B",
        "language": "en",
    }
    assert (first.id, second.id, second.turns[1].text) == ("0", "1", "left")
    assert sample.key == "pmc_vqa__PMC1064097_F1__train__0"
    assert sample.metadata == {
        "group": "PMC1064097",
        "group_kind": "article",
        "image_id": "PMC1064097_F1",
        "licence": "unknown",
        "original_name": "PMC1064097_F1.jpg",
        "source": "pmc_vqa",
    }
    (cleaned,) = items_of("pmc_vqa", folder, flag="clean")["test"]
    assert (cleaned.metadata["group"], cleaned.metadata["group_kind"]) == ("single", "image")
    assert open_source("pmc_vqa", str(folder), flag="clean").options() == {"samples_per_shard": 1000, "flag": "clean"}
    prepare("pmc_vqa", str(folder), tmp_path / "out")
    assert verify(tmp_path / "out") == []


def test_version_2_of_pmc_vqa(tmp_path):
    folder = write_pmc(
        tmp_path / "in", {"train_2.csv": [V2, PANEL], "test_2.csv": [V2]}, ["images_2/PMC8253797_Fig4_11.jpg"]
    )
    (sample,) = items_of("pmc_vqa", folder, flag="2")["train"]
    (conversation,) = sample.conversations
    assert (conversation.id, conversation.metadata["answer_letter"]) == ("17", "D")
    assert conversation.turns[1].text == "Cannot be told"
    assert sample.metadata["group"] == "PMC8253797"


def test_rows_of_pmc_vqa_that_cannot_become_samples(tmp_path):
    rows = [
        V1,
        UPTAKE,
        [*UPTAKE[:2], "Diffuse uptake", *CHOICES, "B"],
        [*UPTAKE[:-1], "E"],
        [*UPTAKE[:-1], ""],
        UPTAKE[:-1],
        ["../train.csv", *UPTAKE[1:]],
        ["absent.jpg", *UPTAKE[1:]],
    ]
    folder = write_pmc(tmp_path / "in", {"train.csv": rows, "test.csv": [V1]}, ["images/PMC1064097_F1.jpg"])
    items = items_of("pmc_vqa", folder)["train"]
    assert [(i.name.partition(" (")[0], i.reason) for i in items if isinstance(i, Dropped)] == [
        ("train.csv line 3", "answer_mismatch"),
        ("train.csv line 4", "answer_mismatch"),
        ("train.csv line 5", "empty_answer_label"),
        ("train.csv line 6", "bad_row"),
        ("train.csv line 7", "bad_path"),
        ("train.csv line 8", "missing_image"),
    ]
    assert items[1].detail.startswith("the answer B 'Diffuse uptake' is none of {'A': 'Diffuse uptake'")


@pytest.mark.parametrize(
    ("choice", "letter", "text"),
    [
        (" A:Diffuse uptake", "A", "Diffuse uptake"),
        ("B: both", "B", "both"),
        ("No uptake", "C", "No uptake"),
        (" A:Diffuse", "B", "A:Diffuse"),
        ("D:", "D", ""),
        ("A:A: twice", "A", "A: twice"),
    ],
)
def test_letters_of_choices(choice, letter, text):
    assert without_letter(choice, letter) == text


def test_folders_that_are_not_pmc_vqa(tmp_path):
    folder = write_pmc(tmp_path / "in", {"train.csv": [V1], "test.csv": [V1[:-1]]}, ["images/a.jpg"])
    with pytest.raises(PrepError, match=r"test\.csv has the columns .*; it lacks Answer_label"):
        open_source("pmc_vqa", str(folder)).units()
    with pytest.raises(PrepError, match=r"it lacks train_2\.csv, test_2\.csv, images_2;"):
        open_source("pmc_vqa", str(folder), flag="2")
    with pytest.raises(PrepError, match=r"options\.version=3 is not a version of PMC-VQA"):
        open_source("pmc_vqa", str(folder), flag="3")


ACRIMA = {
    "dataset": "ACRIMA",
    "question_id": "ACRIMA_0000",
    "question_type": "Disease Diagnosis",
    "question": "What does the image show?",
    "gt_answer": "Glaucoma",
    "image_path": "Images/ACRIMA/Im002_ACRIMA.png",
    "option_A": "Cataract",
    "option_B": "Glaucoma",
    "modality_type": "Fundus Photography",
}


def write_omni(folder, **files):
    (folder / "QA_information" / "Open-access").mkdir(parents=True)
    (folder / "Images" / "ACRIMA").mkdir(parents=True)
    (folder / "Images" / "ACRIMA" / "Im002_ACRIMA.png").write_bytes(jpeg(2))
    for name, rows in files.items():
        (folder / "QA_information" / "Open-access" / f"{name}.json").write_text(json.dumps(rows))
    return folder


def test_omnimedvqa(tmp_path):
    """A question about the same image in another file joins the sample; the image's format is what it is."""
    other = {**ACRIMA, "question_id": "B_1", "dataset": "B", "gt_answer": "cataract", "option_D": "None"}
    odd = {name: value for name, value in other.items() if name != "modality_type"} | {
        "modality": "CT",
        "question_id": "C_1",
    }
    folder = write_omni(tmp_path / "in", B=[other, odd], ACRIMA=[ACRIMA])
    items = items_of("omnimedvqa", folder)
    assert list(items) == ["test"]
    (sample,) = items["test"]
    assert sample.images == {"jpg": jpeg(2)}  # though it is called .png
    assert [c.id for c in sample.conversations] == ["ACRIMA_0000", "B_1", "C_1"]
    assert sample.conversations[0].metadata == {
        "answer_type": "multiple_choice",
        "options": {"A": "Cataract", "B": "Glaucoma"},
        "answer_letter": "B",
        "question_type": "Disease Diagnosis",
        "language": "en",
    }
    assert sample.conversations[1].metadata["options"] == {"A": "Cataract", "B": "Glaucoma", "D": "None"}
    assert sample.conversations[1].turns[1].text == "Cataract"
    assert sample.metadata == {
        "collection": "ACRIMA",
        "group": "ACRIMA/Im002_ACRIMA",
        "group_kind": "image",
        "image_id": "ACRIMA/Im002_ACRIMA",
        "licence": "unknown",
        "modality": "Fundus Photography",
        "original_name": "Images/ACRIMA/Im002_ACRIMA.png",
        "source": "omnimedvqa",
    }
    prepare("omnimedvqa", str(folder), tmp_path / "out")
    assert verify(tmp_path / "out") == []


def test_entries_of_omnimedvqa_that_cannot_become_samples(tmp_path):
    rows = [
        {**ACRIMA, "gt_answer": "Myopia"},
        {name: value for name, value in ACRIMA.items() if not name.startswith("option")},
        {**ACRIMA, "image_path": "/etc/passwd"},
        {name: value for name, value in ACRIMA.items() if name != "modality_type"},
    ]
    items = items_of("omnimedvqa", write_omni(tmp_path / "in", ACRIMA=rows))["test"]
    assert [(item.name, item.reason) for item in items] == [
        ("ACRIMA.json entry 1 (question_id ACRIMA_0000)", "answer_mismatch"),
        ("ACRIMA.json entry 2 (question_id ACRIMA_0000)", "answer_mismatch"),
        ("ACRIMA.json entry 3 (question_id ACRIMA_0000)", "bad_path"),
        ("ACRIMA.json entry 4 (question_id ACRIMA_0000)", "missing_modality"),
    ]


def test_a_folder_that_is_not_omnimedvqa(tmp_path):
    with pytest.raises(PrepError, match=r"it has no QA_information/Open-access/\*\.json"):
        open_source("omnimedvqa", str(tmp_path))
