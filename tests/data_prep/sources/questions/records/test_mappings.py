"""Every shipped mapping on a miniature of its layout: from files to samples that a shard takes."""

import re
from functools import cache
from pathlib import Path

import pytest

from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from data_prep.source import Dropped
from data_prep.sources import open_source, source_class
from data_prep.sources.questions.records.mapping_files import load_mapping
from medvlp.config import list_options
from medvlp.shards import ShardDataset, verify
from medvlp.shards.schema import from_members, to_members
from tests.data_prep.sources.questions.records.miniatures import CHEXPERT, HALT_OPTIONS, HORMONE, MINIATURES, SOLUTION

NAMES = sorted(list_options("configs/mappings"))
FINDINGS = dict.fromkeys(CHEXPERT.splitlines()[0].split(",")[5:])
B = {"answer_type": "multiple_choice", "answer_letter": "B"}
LETTERED = dict(zip("ABC", HALT_OPTIONS.values(), strict=True))

RSNA_BOX = [264 / 1024, 152 / 1024, 477 / 1024, 531 / 1024]
QUESTIONS = {
    "medqa": {"train": 1, "valid": 1, "test": ("Which lowers glucose?", "Insulin", {**B, "options": HORMONE})},
    "medqa_zh": {"test": ("哪一种激素降低血糖？", "胰岛素", {**B, "language": "zh"})},
    "medmcqa": {"train": 1, "valid": ("Which lowers glucose?", "Insulin", {**B, "options": HORMONE})},
    "medmcqa_release": {"train": 2, "valid": ("Which lowers glucose?", "Insulin", {**B, "subject": "Physiology"})},
    "pubmedqa": {"test": ("Aims.\nResults.\nDoes it work?", "maybe", {"answer_letter": "C", "rationale": "It did."})},
    "pubmedqa_release": {"test": ("Aims.\nResults.\nDoes it work?", "yes", {"answer_letter": "A"})},
    "mmlu_medical": {"test": ("Which lowers glucose?", "Insulin", {**B, "options": HORMONE, "subject": "anatomy"})},
    "medxpertqa_text": {"valid": 1, "test": ("What is shown?", "Choice 2", {"answer_letter": "C"})},
    "medxpertqa_mm": {"test": ("<image>\n<image>\nWhat is shown?", "Choice 2", {"answer_letter": "C"})},
    "worldmedqa_v": {"test": ("<image>\nO que é?", "Insulin", {**B, "options": HORMONE})},
    "exams_v": {
        "test": (re.compile("<image>\nAnswer the question"), "C", {"answer_letter": "C", "language": "Polish"})
    },
    "mmmu_health": {"valid": ("Compare <image> with <image>.", "The second", {**B, "subject": "Pharmacology"})},
    "cmexam": {"train": 1, "test": ("下列哪些是激素", "A, B", {"answer_letters": ["A", "B"], "subject": "生理学"})},
    "cmb_exam": {"valid": ("可能患", "A, C", {"answer_letters": ["A", "C"], "rationale": "略"})},
    "cmb_exam_test": {"test": ("可能患", "肺结核", {**B, "exam_class": "执业医师"})},
    "kormedmcqa": {"test": ("혈당을 낮추는 것은?", "Insulin", {**B, "options": {**HORMONE, "E": "Renin"}})},
    "igakuqa": {"test": ("正しいのはどれか。", "A, C", {"answer_letters": ["A", "C"], "text_only": True})},
    "afrimedqa": {"test": ("Which raise glucose?", "B, C", {"answer_letters": ["B", "C"], "tier": "expert"})},
    "empec": {"test": ("肺臟中進行氣體交換的主要結構稱做：", "肺泡（alveolus）", {"answer_letter": "A"})},
    "empec_en": {"test": ("The main structure for gas exchange is:", "Alveolus", {"answer_letter": "A"})},
    "medexqa": {
        "test": ("Which lowers glucose?", "Insulin", {**B, "options": HORMONE, "rationale_2": "It stores it."})
    },
    "medbullets": {"test": ("Which lowers glucose?", "Insulin", {**B, "options": {**HORMONE, "E": "Renin"}})},
    "jama": {"test": ("Which lowers glucose?", "Insulin", {**B, "subject": "Dermatology"})},
    "glianorex": {"test": ("What does the Glianorex do?", "Insulin", {**B, "language": "fr"})},
    "medcalc_bench": {
        "test": ("An 87-year-old man.\nWhat is the clearance?", "25.238", {"lower": 23.97, "upper": 26.49})
    },
    "medec": {"test": (re.compile("0 The heart"), "yes", {"answer_type": "closed", "error_sentence_id": "1"})},
    "probmed": {
        "test": (
            "<image>\nIs this a chest X-ray?",
            "yes",
            {"question_type": "modality_gt", "pair_id": "i1 modality", "category": "modality"},
        )
    },
    "mediconfusion": {
        "test": ("<image>\nWhat is seen?", "An aneurysm", {"answer_letter": "A", "pair_id": "10001", "language": "en"})
    },
    "r_rad": {
        "train": 1,
        "test": ("<image>\nIs the film normal?", "yes", {"answer_letter": "A", "rationale": SOLUTION}),
    },
    "r_slake": {"train": 1, "test": ("<image>\nIs the film normal?", "yes", {"answer_letter": "B", "language": "en"})},
    "med_halt_fct": {
        "test": ("Which lowers glucose?\nA student's answer: Cortisol", "Insulin", {**B, "options": LETTERED})
    },
    "med_halt_nota": {"test": ("Which lowers glucose?", "None of the above", {**B, "exam": "medmcqa"})},
    "med_halt_fake": {"test": ("Which Zorblax muscle is false?", "I do not know.", {"answer_letter": "D"})},
    "medqa_hf": {"train": 1, "valid": 1, "test": ("Which lowers glucose?", "Insulin", {**B, "options": HORMONE})},
    "rsna_boxes": {
        "train": (
            "<image>\nWhere are the areas of lung opacity in this chest X-ray?",
            "<box> <box>",
            {"boxes": [RSNA_BOX, [562 / 1024, *RSNA_BOX[1:2], 775 / 1024, RSNA_BOX[3]]]},
        )
    },
    "vindr_cxr": {
        "train": (
            "<image>\nWhere in this chest X-ray is this finding: Nodule/Mass?",
            "<box>",
            {"label": "Nodule/Mass"},
        ),
        "test": (
            "<image>\nWhere in this chest X-ray is this finding: Cardiomegaly?",
            "<box>",
            {"label": "Cardiomegaly"},
        ),
    },
    "ms_cxr": {
        "test": (
            "<image>\nWhere in this chest X-ray is what these words describe: Large right pneumothorax",
            "<box> <box>",
            {"boxes": [[0.1, 500 / 3000, 0.3, 0.5], [0.5, 500 / 3000, 0.7, 0.5]]},
        )
    },
    "padchest_gr": {
        "test": (
            "<image>\nWhere in this chest X-ray is what these words describe: Right pleural effusion.",
            "<box>",
            {"boxes": [[0.125, 0.5, 0.5, 1.0]]},
        )
    },
    "mimic_cxr_vqa": {"test": ("<image>\nList all findings.", "edema, nodule", {"answer_set": ["edema", "nodule"]})},
}
"""Mapping → split → its samples, or the first question, its answer and part of its metadata."""

IMAGES = {
    "iu_xray": {"problems": ["Cardiomegaly", "Edema"]},
    "mimic_cxr_sections": {},
    "medpix": {},
    "chexpert": {"findings": {**FINDINGS, "No Finding": 1, "Pneumothorax": 0, "Support Devices": 1}},
    "padchest": {"label_name": ["normal"]},
    "chestxray14": {"label_name": ["Cardiomegaly", "Emphysema"]},
    "ham10000": {"label_name": "benign keratosis"},
    "isic2019": {"label_name": "melanocytic nevus"},
    "scin": {"label_name": ["Eczema", "Psoriasis"], "label_name_weights": {"Eczema": 0.69, "Psoriasis": 0.31}},
    "image_classes": {"label_name": "adipose"},
    "pcam": {"label_name": "normal tissue"},
    "nct_crc": {"label_name": "ADI"},
    "lc25000": {"label_name": "lung n"},
    "rsna_pneumonia": {"pneumonia": "pneumonia", "label_name": "Lung Opacity"},
}
"""Mapping → the labels of its first sample."""


@pytest.fixture(scope="session")
def read(tmp_path_factory):
    """name → (its source, split → items) of a miniature."""

    @cache
    def read_miniature(name):
        folder = tmp_path_factory.mktemp(name)
        source = open_source("records", str(MINIATURES[name](folder)), options={"mapping": name})
        items = {}
        for unit in source.units():
            items.setdefault(unit.split, []).extend(source.read(unit))
        assert source.fingerprint() == source.fingerprint()
        return source, items

    return read_miniature


def test_every_mapping_has_a_miniature_and_says_where_its_layout_is_known_from():
    assert sorted(MINIATURES) == sorted({**QUESTIONS, **IMAGES}) == NAMES
    for name in NAMES:
        mapping = load_mapping(name)
        assert mapping.page.startswith("https://"), name
        assert re.fullmatch(r"20\d\d-\d\d", mapping.read_on), name
        assert MINIATURES[name].__doc__, name
        assert len(mapping.title) < 120
        origin = source_class("records").origin({"mapping": name})
        assert (origin.title, origin.page) == (mapping.title, mapping.page)
        assert origin.files


@pytest.mark.parametrize("name", NAMES)
def test_a_miniature_becomes_samples_that_a_shard_takes(name, read):
    _, items = read(name)
    samples = [item for split in items.values() for item in split]
    assert samples
    assert not [item for item in samples if isinstance(item, Dropped)]
    assert len({sample.key for sample in samples}) == len(samples)
    for sample in samples:
        assert from_members(sample.key, to_members(sample)) == sample
        assert sample.metadata["source"] == name
        assert not re.search(r"[\[\]{}]|\b(None|nan)\b[^.]", " ".join(sample.texts.values()))


@pytest.mark.parametrize("name", sorted(QUESTIONS))
def test_questions_as_the_benchmark_asks_them(name, read):
    _, items = read(name)
    assert sorted(items) == sorted(QUESTIONS[name])
    for split, expected in QUESTIONS[name].items():
        if isinstance(expected, int):
            assert len(items[split]) == expected
            continue
        conversation = items[split][0].conversations[0]
        question, answer, metadata = expected
        text = conversation.turns[0].text
        assert question.match(text) if isinstance(question, re.Pattern) else text == question
        assert conversation.turns[1].text == answer
        assert {key: conversation.metadata.get(key) for key in metadata} == metadata


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_labels_as_the_publisher_states_them(name, read):
    sample = next(iter(read(name)[1].values()))[0]
    assert sample.labels == IMAGES[name]
    assert sample.images


def test_what_goes_beyond_the_first_question(read):
    (mmmu,) = [item for item in read("mmmu_health")[1]["valid"] if len(item.images) == 1]
    assert [turn.text for turn in mmmu.conversations[0].turns] == ["How many in <image>?", "24"]
    assert mmmu.conversations[0].metadata["answers"] == ["24.0"]
    _, date = read("medcalc_bench")[1]["test"]
    assert (date.conversations[0].metadata["number_type"], date.conversations[0].turns[1].text) == (
        "date",
        "10/03/2023",
    )
    assert [c.metadata.get("answer_set") for c in read("mimic_cxr_vqa")[1]["test"][0].conversations] == [
        ["edema", "nodule"],
        [],
        None,
    ]
    source, items = read("iu_xray")
    assert source.input_counts == {"rows without a partner in indiana_projections.csv": 1}
    assert items["train"][0].texts["caption_1"] == "Large."
    case, single = read("medpix")[1]["train"][0], read("medpix")[1]["valid"][0]
    assert (list(case.images), list(single.images)) == (["0.jpg", "1.jpg", "2.jpg"], ["jpg"])
    assert (case.texts["caption"], case.texts["title"], "history" in case.texts) == (
        "Large ventricles.",
        "Shunt failure",
        False,
    )
    (valid,) = read("mimic_cxr_sections")[1]["valid"]
    assert (valid.metadata["group"], valid.texts) == ("10000032", {"caption": "No edema.", "impression": "No edema."})
    assert read("afrimedqa")[0].input_counts == {"rows of another kind (question_type)": 1}
    assert [item.labels["label_name"] for item in read("chestxray14")[1]["test"]] == [["No Finding"], ["Hernia"]]
    ill = read("padchest")[1]["train"][1]
    assert ill.texts["caption_2"] == "this chest X-ray shows kyphosis and a pulmonary nodule"
    assert (ill.metadata["group"], ill.metadata["group_kind"]) == ("3135", "patient")


@pytest.mark.parametrize(
    ("policy", "value"), [("keep", -1), ("ones", 1), ("zeros", 0), ("ignore", None)], ids=lambda text: str(text)
)
def test_policies_of_uncertain_findings(tmp_path, policy, value):
    folder = MINIATURES["chexpert"](tmp_path)
    source = open_source("records", str(folder), options={"mapping": "chexpert", "uncertain": policy})
    train, _ = source.units()
    _, sample = source.read(train)
    edema = {name for name, state in sample.labels["findings"].items() if state == value}
    assert {"Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion"} <= edema
    assert ("cardiomegaly" in sample.texts["caption"] or "enlarged heart" in sample.texts["caption"]) == (value == 1)


def test_from_files_to_shards_and_back(tmp_path):
    folder = MINIATURES["mmmu_health"](tmp_path / "in")
    result = prepare("records", str(folder), tmp_path / "out", options={"mapping": "mmmu_health"})
    assert result.ledger["source"]["name"] == "mmmu_health"
    assert result.ledger["source"]["publication"]["year"] == 2024
    dataset = ShardDataset(Path(tmp_path / "out" / "valid"))
    assert sorted(len(dataset.read(row).images) for row in range(2)) == [1, 2]
    verify(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_miniature_is_prepared_alike_by_two_processes(name, tmp_path):
    folder = MINIATURES[name](tmp_path / "in")
    for workers in (1, 2):
        options = {"mapping": name}
        prepare("records", str(folder), tmp_path / f"{workers}", workers=workers, options=options, samples_per_shard=1)
        verify(tmp_path / f"{workers}")
    manifests = [sorted((tmp_path / str(workers)).glob("*/manifest.json")) for workers in (1, 2)]
    assert [path.read_bytes() for path in manifests[0]] == [path.read_bytes() for path in manifests[1]]


def test_an_image_of_several_pairs_is_one_sample(read):
    items = read("mediconfusion")[1]["test"]
    asked = {
        (turns.metadata["pair_id"], turns.metadata["answer_letter"], len(item.images))
        for item in items
        for turns in item.conversations
    }
    assert asked == {("10001", "A", 1), ("10001", "B", 1), ("10002", "B", 1), ("10002", "A", 1)}
    assert sorted(len(item.conversations) for item in items) == [1, 1, 2]
    assert items[0].conversations[0].metadata["category"] == ["Cerebral", "Vascular"]


def test_all_questions_of_a_kind_about_an_image_belong_together(read):
    (probmed,) = read("probmed")[1]["test"]
    pairs = [conversation.metadata.get("pair_id") for conversation in probmed.conversations]
    assert pairs == ["i1 modality", "i1 modality", None, *["i1 entity"] * 4]
    assert probmed.conversations[2].metadata["category"] == "abnormality"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[im_1_correct, im_2_correct]", "[im_1_correct]", "table.unfold has lists of different lengths"),
        ("fields: {pair_id: set", "patterns: {pair_id: x}\nfields: {pair_id: set", "patterns.pair_id is 'x'"),
        ("fields: {pair_id: set", "patterns: {other: (x)}\nfields: {pair_id: set", "patterns.other is of no field"),
        ("[im_1_local, im_2_local]", "[im_1_local, im_3_local]", "needs im_3_local"),
    ],
)
def test_slips_in_a_mapping_of_pairs(tmp_path, old, new, message):
    text = Path("configs/mappings/mediconfusion.yaml").read_text()
    assert old in text
    (tmp_path / "mine.yaml").write_text(text.replace(old, new))
    folder = MINIATURES["mediconfusion"](tmp_path)
    with pytest.raises(PrepError, match=message):
        open_source("records", str(folder), options={"mapping": str(tmp_path / "mine.yaml")})
