"""A miniature of each shipped mapping's layout: a row or two, with the keys that the source named next to it has."""

import base64
import csv
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.data_prep.folders import jpeg

Write = Callable[[Path], Path]
"""Writes a miniature into a folder, and returns what is the input."""

MINIATURES: dict[str, Write] = {}
"""Mapping → its miniature."""


def miniature(name: str) -> Callable[[Write], Write]:
    """Register the miniature of a mapping."""

    def register(write: Write) -> Write:
        MINIATURES[name] = write
        return write

    return register


def write_lines(path: Path, *entries: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def write_csv(path: Path, *rows: dict, delimiter: str = ",", header: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        if header:
            writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, *rows: dict, features: dict | None = None, group: int = 1) -> None:
    """features: what `datasets` writes about columns into the schema."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(rows))
    if features:
        metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        table = table.replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=group)


def write_images(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(number))


def embedded(number: int) -> dict:
    return {"bytes": jpeg(number), "path": f"{number}.jpg"}


HORMONE = {"A": "Cortisol", "B": "Insulin", "C": "Glucagon", "D": "Thyroxine"}


@miniature("medqa")
def _medqa(folder):
    """stanford-crfm/helm, med_qa_scenario; jind11/MedQA, README."""
    row = {"question": "Which lowers glucose?", "answer": "Insulin", "options": HORMONE}
    row |= {"meta_info": "step1", "answer_idx": "B"}
    for split in ("train", "dev", "test"):
        write_lines(folder / f"{split}.jsonl", row)
    write_lines(folder / "4_options" / "phrases_no_exclude_test.jsonl", row)  # not of this input
    return folder


@miniature("medqa_zh")
def _medqa_zh(folder):
    """jind11/MedQA, README: the same files for Mainland and Taiwan."""
    row = {"question": "哪一种激素降低血糖？", "answer": "胰岛素", "meta_info": "x", "answer_idx": "B"}
    write_lines(folder / "test.jsonl", {**row, "options": {"A": "皮质醇", "B": "胰岛素"}})
    return folder


MCQ = {"question": "Which lowers glucose?", "opa": "Cortisol", "opb": "Insulin", "opc": "Glucagon", "opd": "Thyroxine"}


@miniature("medmcqa")
def _medmcqa(folder):
    """EleutherAI/lm-evaluation-harness, medmcqa; opencompass, medmcqa.py: cop from 0."""
    row = {"id": "e9ad", **MCQ, "cop": 1, "choice_type": "single", "exp": "Ans. is 'b'"}
    row |= {"subject_name": "Physiology", "topic_name": None}
    for split in ("train", "validation", "test"):
        write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", row)
    return folder


@miniature("medmcqa_release")
def _medmcqa_release(folder):
    """stanford-crfm/helm, med_mcqa_scenario: JSON lines in .json, cop from 1."""
    row = {"id": "e9ad", **MCQ, "cop": 2, "choice_type": "single", "exp": None, "subject_name": "Physiology"}
    write_lines(folder / "train.json", row, {**row, "id": "e9ae"})
    write_lines(folder / "dev.json", {**row, "id": "e9af"})
    return folder


@miniature("pubmedqa")
def _pubmedqa(folder):
    """qiaojin/PubMedQA, card: context is a struct of lists."""
    context = {"contexts": ["Aims.", "Results."], "labels": ["AIMS", "RESULTS"], "meshes": ["Humans"]}
    row = {"pubid": 21645374, "question": "Does it work?", "context": context, "long_answer": "It did."}
    write_parquet(folder / "pqa_labeled" / "train-00000-of-00001.parquet", {**row, "final_decision": "maybe"})
    return folder


@miniature("pubmedqa_release")
def _pubmedqa_release(folder):
    """stanford-crfm/helm, pubmed_qa_scenario: one object, PMID → entry."""
    entry = {"QUESTION": "Does it work?", "CONTEXTS": ["Aims.", "Results."], "LABELS": ["AIMS", "RESULTS"]}
    write_json(folder / "ori_pqal.json", {"21645374": {**entry, "final_decision": "yes", "LONG_ANSWER": "It did."}})
    return folder


@miniature("mmlu_medical")
def _mmlu(folder):
    """EleutherAI/lm-evaluation-harness, mmlu/default: a config a subject, answer is a ClassLabel."""
    row = {"question": "Which lowers glucose?", "subject": "anatomy", "choices": list(HORMONE.values()), "answer": 1}
    for subject in ("anatomy", "medical_genetics", "astronomy"):
        write_parquet(folder / subject / "test-00000-of-00001.parquet", {**row, "subject": subject})
    return folder


def _medxpertqa(kind: str, options: int) -> dict:
    texts = {chr(65 + n): f"Choice {n}" for n in range(options)}
    question = "What is shown?\nAnswer Choices: " + " ".join(f"({name}) {text}" for name, text in texts.items())
    row = {"id": f"{kind}-1", "question": question, "options": texts, "label": "C", "medical_task": "Diagnosis"}
    return {**row, "body_system": "Skeletal", "question_type": "Reasoning"}


@miniature("medxpertqa_text")
def _medxpertqa_text(folder):
    """TsinghuaC3I/MedXpertQA, card: the question's text ends with its choices."""
    write_lines(folder / "Text" / "dev.jsonl", _medxpertqa("Text", 10))
    write_lines(folder / "Text" / "test.jsonl", _medxpertqa("Text", 10))
    return folder


@miniature("medxpertqa_mm")
def _medxpertqa_mm(folder):
    """TsinghuaC3I/MedXpertQA, card: images are names in images.zip."""
    row = {**_medxpertqa("MM", 5), "images": ["MM-1-a.jpeg", "MM-1-b.jpeg"]}
    write_lines(folder / "MM" / "test.jsonl", row)
    write_images(folder / "images", "MM-1-a.jpeg", "MM-1-b.jpeg")
    return folder


@miniature("worldmedqa_v")
def _worldmedqa(folder):
    """WorldMedQA/VLMEvalKit, image_mcq.py: the image as base64, correct_option a letter."""
    image = base64.b64encode(jpeg(1)).decode()
    row = {"index": 1, "image": image, "question": "O que é?", **HORMONE, "correct_option": "B"}
    write_csv(folder / "brazil_local_processed.tsv", row, delimiter="\t")
    return folder


@miniature("exams_v")
def _exams_v(folder):
    """stanford-crfm/helm, exams_v_scenario: question and options are in the image."""
    row = {"image": embedded(1), "sample_id": "s1", "type": "text", "subject": "Biology", "grade": 12}
    row |= {"language": "Polish", "answer_key": "C", "subject_grouped": "Natural Science"}
    write_parquet(folder / "data" / "test-00000-of-00001.parquet", row)
    return folder


@miniature("mmmu_health")
def _mmmu(folder):
    """EleutherAI/lm-evaluation-harness, mmmu; MMMU/MMMU, card: options as Python writes a list."""
    blank = {f"image_{number}": None for number in range(3, 8)}
    row = {"id": "validation_Pharmacy_1", "question": "Compare <image 1> with <image 2>.", "explanation": ""}
    row |= {"options": "['The first', 'The second']", "image_1": embedded(1), "image_2": embedded(2), **blank}
    row |= {"answer": "B", "question_type": "multiple-choice", "subfield": "Pharmacology", "topic_difficulty": "Easy"}
    opened = {**row, "id": "validation_Pharmacy_2", "options": "[]", "answer": "['24', '24.0']", "image_2": None}
    opened |= {"question": "How many in <image 1>?", "question_type": "open"}
    write_parquet(folder / "Pharmacy" / "validation-00000-of-00001.parquet", row, opened)
    return folder


@miniature("cmexam")
def _cmexam(folder):
    """williamliujl/CMExam, data: options in one cell, letters run together."""
    row = {"Question": "下列哪些是激素", "Options": "A 胰岛素\nB 皮质醇\nC 葡萄糖", "Answer": "AB", "Explanation": "略"}
    write_csv(folder / "data" / "train.csv", {**row, "Answer": "A"})
    labels = {"Disease Group": "内分泌", "Clinical Department": "内科", "Medical Discipline": "生理学"}
    write_csv(folder / "data" / "test_with_annotations.csv", {**row, **labels, "Difficulty level": 2})
    return folder


CMB = {"exam_type": "医师考试", "exam_class": "执业医师", "exam_subject": "口腔执业医师", "question": "可能患"}
CMB |= {"question_type": "多项选择题", "option": {"A": "肺炎", "B": "肺结核", "C": "肺癌", "D": "", "E": None}}


@miniature("cmb_exam")
def _cmb(folder):
    """FreedomIntelligence/CMB, README; opencompass, cmb.py: unused options are empty."""
    write_json(folder / "CMB-Exam" / "CMB-val" / "CMB-val-merge.json", [{**CMB, "answer": "AC", "explanation": "略"}])
    return folder


@miniature("cmb_exam_test")
def _cmb_test(folder):
    """FreedomIntelligence/CMB, README: questions without answers, answers by id."""
    write_json(folder / "CMB-Exam" / "CMB-test" / "CMB-test-choice-question-merge.json", [{"id": 7, **CMB}])
    write_json(folder / "CMB-test-choice-answer.json", [{"id": 7, "answer": "B"}])
    return folder


@miniature("kormedmcqa")
def _kormedmcqa(folder):
    """EleutherAI/lm-evaluation-harness, kormedmcqa: answer counts from 1."""
    row = {"subject": "doctor", "year": 2022, "period": 1, "q_number": 3, "question": "혈당을 낮추는 것은?", **HORMONE}
    write_parquet(folder / "doctor" / "test-00000-of-00001.parquet", {**row, "E": "Renin", "answer": 2, "cot": ""})
    return folder


@miniature("igakuqa")
def _igakuqa(folder):
    """jungokasai/IgakuQA, scripts/utils/tools.py and scripts/generation/chatgpt.py."""
    row = {"problem_id": "116A1", "problem_text": "正しいのはどれか。", "choices": ["血糖", "血圧", "体温"]}
    number = {"problem_id": "116A2", "problem_text": "計算せよ。", "choices": [], "text_only": True, "answer": ["25"]}
    row |= {"text_only": True, "answer": ["a", "c"]}
    write_lines(folder / "data" / "2022" / "116-A.jsonl", row, number)
    write_lines(folder / "data" / "2022" / "116-A_metadata.jsonl", {"problem_id": "116A1"})
    return folder


@miniature("afrimedqa")
def _afrimedqa(folder):
    """intron-innovation/AfriMed-QA, README and src/utils/prepare_data.py: options by option1…, N/A for none."""
    options = {"option1": "Insulin", "option2": "Cortisol", "option3": "Glucagon", "option4": "N/A"}
    row = {"sample_id": "s1", "question_type": "mcq", "question": "Which raise glucose?", "tier": "expert"}
    row |= {"answer_options": json.dumps(options), "correct_answer": "option2,option3", "answer_rationale": "x"}
    row |= {"specialty": "Endocrinology", "country": "NG", "gender": "Female", "split": "test"}
    write_csv(folder / "afrimedqa.csv", row, {**row, "sample_id": "s2", "question_type": "saq", "answer_options": ""})
    return folder


@miniature("empec")
def _empec(folder):
    """zhehengluoK/eval_empec, README: options in the question, in Chinese and English."""
    text = "肺臟中進行氣體交換的主要結構稱做：\n    A.肺泡（alveolus）\n    B.氣管（trachea）"
    english = "The main structure for gas exchange is:\n    A. Alveolus\n    B. Trachea"
    row = {"subject": "解剖學", "subject_en": "Anatomy", "profession": "職能治療師", "profession_en": "Therapist"}
    write_lines(folder / "test.jsonl", {**row, "question": text, "question_en": english, "answer": "A"})
    return folder


@miniature("empec_en")
def _empec_en(folder):
    """As empec."""
    return _empec(folder)


@miniature("medexqa")
def _medexqa(folder):
    """knowlab/MedExQA, README: no header, question, A to D, two explanations, answer."""
    row = {"question": "Which lowers glucose?", **HORMONE, "1": "Insulin does.", "2": "It stores it.", "answer": "B"}
    write_csv(folder / "test" / "biomedical_engineer_test.tsv", row, delimiter="\t", header=False)
    return folder


@miniature("medbullets")
def _medbullets(folder):
    """stanford-crfm/helm, medbullets_scenario: medbullets_op5.csv."""
    row = {"question": MCQ["question"], **{name: MCQ[name] for name in ("opa", "opb", "opc", "opd")}, "ope": "Renin"}
    write_csv(folder / "medbullets_op5.csv", {**row, "answer_idx": "B", "answer": "Insulin", "explanation": "It does."})
    return folder


@miniature("jama")
def _jama(folder):
    """HanjieChen/ChallengeClinicalQA, jama_scraper.py."""
    row = {"link": "https://jamanetwork.com/1", **MCQ, "diagnosis": "x", "answer_idx": "B", "answer": "Insulin"}
    write_csv(folder / "jama_raw.csv", {**row, "explanation": "It does.", "field": "Dermatology"})
    return folder


@miniature("glianorex")
def _glianorex(folder):
    """EleutherAI/lm-evaluation-harness, glianorex: options a struct, language en or fr."""
    row = {"question": "What does the Glianorex do?", "options": HORMONE, "answer_idx": "B", "language": "fr"}
    write_parquet(folder / "data" / "test-00000-of-00001.parquet", row)
    return folder


@miniature("medcalc_bench")
def _medcalc(folder):
    """ncbi-nlp/MedCalc-Bench, README."""
    row = {"Row Number": 1, "Calculator ID": 2, "Calculator Name": "Creatinine Clearance", "Category": "lab test"}
    row |= {"Output Type": "decimal", "Note ID": "p1", "Note Type": "Extracted", "Patient Note": "An 87-year-old man."}
    row |= {"Question": "What is the clearance?", "Relevant Entities": "{}", "Ground Truth Answer": "25.238"}
    row |= {"Lower Limit": "23.97", "Upper Limit": "26.49", "Ground Truth Explanation": "By the formula."}
    date = {**row, "Row Number": 3, "Output Type": "date", "Ground Truth Answer": "10/03/2023"}
    write_csv(folder / "test_data.csv", row, date | {"Lower Limit": "10/03/2023", "Upper Limit": "10/03/2023"})
    return folder


@miniature("medec")
def _medec(folder):
    """stanford-crfm/helm, medec_scenario."""
    row = {"Text ID": "ms-1", "Sentences": "0 The heart is large.\n1 Give insulin.", "Error Flag": 1}
    row |= {"Error Sentence ID": 1, "Corrected Sentence": "1 Give furosemide."}
    fine = row | {"Text ID": "ms-2", "Error Flag": 0, "Error Sentence ID": -1, "Corrected Sentence": "NA"}
    write_csv(folder / "MEDEC-MS" / "MEDEC-MS-TestSet-with-GroundTruth-and-ErrorType.csv", row, fine)
    return folder


@miniature("probmed")
def _probmed(folder):
    """eric-ai-lab/ProbMed, eval/inference and eval/calculate_score.py."""
    row = {"id": "i1", "image": "chest/1.jpg", "image_type": "chest_x-ray", "qa_type": "modality_gt"}
    row |= {"question": "Is this a chest X-ray?", "answer": "yes"}
    negative = {**row, "qa_type": "modality_hallu", "question": "Is this a brain MRI?", "answer": "no"}
    entities = [
        {**row, "qa_type": f"entity_{kind}_{n}", "question": f"Is finding {n} seen?", "answer": answer}
        for n in range(2)
        for kind, answer in (("gt", "yes"), ("hallu", "no"))
    ]
    abnormality = {**row, "qa_type": "abnormality", "question": "Is there an abnormality?"}
    write_json(folder / "test" / "test.json", [row, negative, abnormality, *entities])
    write_images(folder / "test", "chest/1.jpg")
    return folder


@miniature("mediconfusion")
def _mediconfusion(folder):
    """MShahabSepehri/MediConfusion, data/dataset.json and utils/answering.py."""
    entry = {"im_1": "train/radiology/images/ROCO_1.jpg", "im_2": "test/radiology/images/ROCO_2.jpg"}
    entry |= {"im_1_local": 20192, "im_2_local": 20053, "cap_1": "An aneurysm.", "cap_2": "No aneurysm."}
    entry |= {"category_1": ["Cerebral", "Vascular"], "category_2": ["Cerebral"], "DINO_sim": 0.67}
    entry |= {"question": "What is seen?", "option_A": "An aneurysm", "option_B": "No aneurysm"}
    entry |= {"im_1_correct": "A", "im_2_correct": "B", "AI_question": "What?"}
    other = {**entry, "im_2_local": 20001, "question": "Is it ruptured?", "im_1_correct": "B", "im_2_correct": "A"}
    write_json(folder / "data" / "dataset.json", {"10001": entry, "10002": other})
    write_images(folder / "data" / "images", "20192.jpg", "20053.jpg", "20001.jpg")
    return folder


SOLUTION = "There is no free air below the diaphragm, which makes the film normal."


@miniature("r_rad")
def _r_rad(folder):
    """nishatmahi/Medthink-Code, dataset.py and gemini.py; HongWonSeok/HONG_MedThink, train.sh and data_check.ipynb."""
    closed = {"question": "Is the film normal?", "choices": ["yes", "no"], "answer": 0, "solution": SOLUTION}
    opened = {
        "question": "Which organ is seen?",
        "choices": ["liver"],
        "answer": 0,
        "solution": "It lies on the right.",
    }
    for split in ("trainset", "testset"):
        write_json(folder / "closed-end" / f"{split}.json", {"7": {**closed, "image": "synpic24220.jpg"}})
        write_json(folder / "open-end" / f"{split}.json", {"7": {**opened, "image": "synpic24220.jpg"}})
    write_images(folder / "images", "synpic24220.jpg")
    return folder


@miniature("r_slake")
def _r_slake(folder):
    """nishatmahi/Medthink-Code, dataset.py, gemini.py and experiments_bangla.sh."""
    closed = {"img_id": 102, "img_name": "xmlab102/source.jpg", "question": "Is the film normal?"}
    closed |= {"choices": ["no", "yes"], "answer": 1, "solution": SOLUTION}
    for split in ("train", "test"):
        write_json(folder / "closed-end" / f"{split}.json", {"11934": closed})
        write_json(folder / "open-end" / f"{split}.json", {"11935": {**closed, "choices": ["Liver"], "answer": 0}})
    write_images(folder / "imgs", "xmlab102/source.jpg")
    return folder


HALT_OPTIONS = {"0": "Glucagon", "1": "Insulin", "2": "Cortisol"}
HALT = {"id": "h1", "subject_name": "Physiology", "topic_name": "", "split_type": "val", "dataset": "medmcqa"}


@miniature("med_halt_fct")
def _med_halt_fct(folder):
    """medhalt/medhalt, prompts/reasoning_FCT/shots.json; openlifescienceai/Med-HALT as med-lm-envs reads it."""
    row = {**HALT, "question": "Which lowers glucose?", "options": str({**HALT_OPTIONS, "correct answer": "Cortisol"})}
    write_csv(folder / "reasoning_FCT" / "reasoning_FCT.csv", row | {"correct_index": 1, "correct_answer": "Insulin"})
    return folder


@miniature("med_halt_nota")
def _med_halt_nota(folder):
    """The same."""
    row = {**HALT, "question": "Which lowers glucose?", "options": str({**HALT_OPTIONS, "1": "None of the above"})}
    write_csv(folder / "reasoning_nota.csv", row | {"correct_index": 1, "correct_answer": "None of the above"})
    return folder


@miniature("med_halt_fake")
def _med_halt_fake(folder):
    """medhalt/medhalt, datasets/reasoning_fake.csv."""
    row = {**HALT, "len": 9, "year": "", "exam_name": "", "question": "Which Zorblax muscle is false?"}
    write_csv(folder / "reasoning_fake.csv", row | {"options": str({**HALT_OPTIONS, "3": "I do not know."})})
    return folder


@miniature("medqa_hf")
def _medqa_hf(folder):
    """GBaker/MedQA-USMLE-4-options-hf; BittermanLab/RABBITS, src/run_replacement.py."""
    row = {"id": "test-00000", "sent1": "Which lowers glucose?", "sent2": "", "label": 1}
    row |= {f"ending{n}": text for n, text in enumerate(HORMONE.values())}
    for name in ("train", "dev", "test"):
        write_lines(folder / f"{name}.json", row)
    return folder


@miniature("mimic_cxr_vqa")
def _mimic_cxr_vqa(folder):
    """baeseongsu/mimic-cxr-vqa, README."""
    row = {"split": "test", "idx": 1, "image_id": "34c8", "question": "List all findings.", "content_type": "attribute"}
    row |= {
        "semantic_type": "query",
        "template": "List",
        "template_arguments": {"object": {}},
        "subject_id": "10000032",
    }
    row |= {"study_id": "50414267", "image_path": "p10/p10000032/s50414267/34c8.jpg"}
    entries = [["edema", "nodule"], [], "yes"]
    write_json(folder / "dataset" / "test.json", [{**row, "answer": answer} for answer in entries])
    write_images(folder / "files", row["image_path"])
    return folder


@miniature("iu_xray")
def _iu_xray(folder):
    """Kaggle's raddar/chest-xrays-indiana-university: indiana_reports.csv, indiana_projections.csv."""
    report = {"uid": 1, "MeSH": "Cardiomegaly/mild", "Problems": "Cardiomegaly;Edema", "image": "Xray Chest PA"}
    report |= {"indication": "Pain", "comparison": "None.", "findings": "The heart is large.", "impression": "Large."}
    write_csv(folder / "indiana_reports.csv", report, {**report, "uid": 2})
    images = [("1_IM-1.dcm.png", "Frontal"), ("1_IM-2.dcm.png", "Lateral")]
    rows = [{"uid": 1, "filename": name, "projection": projection} for name, projection in images]
    write_csv(folder / "indiana_projections.csv", *rows)
    write_images(folder / "images" / "images_normalized", *(name for name, _ in images))
    return folder


@miniature("medpix")
def _medpix(folder):
    """CHILab1/MedPix-2.0: splitted_dataset/data_*.jsonl, images/*.png named without their ending."""
    case = {
        "Title": "Shunt failure",
        "Case Diagnosis": "Shunt failure.",
        "Findings": "Large ventricles.",
        "History": "N/A",
    }
    entry = {"U_id": "MPX1", "TAC": ["MPX1_s1", "MPX1_s2"], "MRI": ["MPX1_s3"], "Case": case}
    entry |= {"Topic": {"Category": "Neuro", "Disease Discussion": "Shunts fail."}}
    rows = [entry, {**entry, "U_id": "MPX2", "TAC": [], "MRI": ["MPX2_s1"]}]
    for split, row in (("train", rows[0]), ("dev", rows[1]), ("test", {**rows[1], "U_id": "MPX3", "MRI": ["MPX3_s1"]})):
        write_lines(folder / "splitted_dataset" / f"data_{split}.jsonl", row)
    write_images(
        folder / "images", *(f"{name}.png" for name in ("MPX1_s1", "MPX1_s2", "MPX1_s3", "MPX2_s1", "MPX3_s1"))
    )
    return folder


@miniature("mimic_cxr_sections")
def _mimic_sections(folder):
    """MIT-LCP/mimic-cxr, txt: mimic_cxr_sectioned.csv; MIMIC-CXR-JPG: mimic-cxr-2.0.0-split.csv, files/pXX/…"""
    row = {"dicom_id": "02aa", "study_id": 50414267, "subject_id": 10000032, "split": "validate"}
    test = {**row, "dicom_id": "02ab", "study_id": 50414268, "split": "test"}
    write_csv(folder / "mimic-cxr-2.0.0-split.csv", row, test)
    sections = {"study": "s50414267", "impression": "No edema.", "findings": "", "last_paragraph": "", "comparison": ""}
    write_csv(folder / "mimic_cxr_sectioned.csv", sections, {**sections, "study": "s50414268", "findings": "Edema."})
    write_images(folder / "files" / "p10" / "p10000032", "s50414267/02aa.jpg", "s50414268/02ab.jpg")
    return folder


CHEXPERT = """Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,\
Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,\
Support Devices
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0
CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,AP,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,
"""


@miniature("chexpert")
def _chexpert(folder):
    """mlmed/torchxrayvision: the first rows of the train.csv that it carries."""
    (folder / "CheXpert-v1.0-small").mkdir(parents=True)
    (folder / "CheXpert-v1.0-small" / "train.csv").write_text(CHEXPERT)
    valid = CHEXPERT.replace("small/train/", "small/valid/").replace(",,,-1.0,1.0,,-1.0", ",,,1.0,1.0,,1.0")
    valid = valid.replace("AP,1.0,,,,", "AP,1.0,0.0,0.0,,")  # valid states every finding
    (folder / "CheXpert-v1.0-small" / "valid.csv").write_text(valid)
    write_images(folder, *(line.split(",")[0] for text in (CHEXPERT, valid) for line in text.splitlines()[1:]))
    return folder


@miniature("padchest")
def _padchest(folder):
    """mlmed/torchxrayvision: the header and the forms of cells of the table that it carries."""
    row = {"": 0, "ImageID": "2053_k6ga29.png", "ImageDir": 0, "StudyID": "2053", "PatientID": "8398"}
    row |= {"PatientSex_DICOM": "F", "Projection": "PA", "Report": "sin hallazg .", "MethodLabel": "Physician"}
    row |= {"Labels": "['normal']", "Localizations": "[]", "LabelsLocalizationsBySentence": "[['normal'], ['normal']]"}
    ill = {**row, "": 1, "ImageID": "1358_fzis7d.png", "PatientID": "3135", "Labels": "['kyphosis', 'nodule']"}
    write_csv(folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", row, ill)
    write_images(folder / "images", row["ImageID"], ill["ImageID"])
    return folder


@miniature("chestxray14")
def _chestxray14(folder):
    """mlmed/torchxrayvision: Data_Entry_2017_v2020.csv; NIHCC's box: train_val_list.txt, test_list.txt."""
    row = {"Image Index": "00000001_000.png", "Finding Labels": "Cardiomegaly|Emphysema", "Follow-up #": 0}
    row |= {"Patient ID": 1, "Patient Age": 57, "Patient Gender": "M", "View Position": "PA"}
    normal = {**row, "Image Index": "00000002_000.png", "Finding Labels": "No Finding", "Patient ID": 2}
    third = {**row, "Image Index": "00000003_000.png", "Finding Labels": "Hernia", "Patient ID": 3}
    write_csv(folder / "Data_Entry_2017_v2020.csv", row, normal, third)
    (folder / "train_val_list.txt").write_text("00000001_000.png\n")
    (folder / "test_list.txt").write_text("00000002_000.png\n00000003_000.png\n")
    write_images(folder, *(f"images_00{number}/images/0000000{number}_000.png" for number in (1, 2, 3)))
    return folder


@miniature("ham10000")
def _ham10000(folder):
    """Kaggle's kmader/skin-cancer-mnist-ham10000: HAM10000_metadata.csv, images in two parts."""
    row = {"lesion_id": "HAM_1", "image_id": "ISIC_0027419", "dx": "bkl", "dx_type": "histo", "age": 80.0}
    row |= {"sex": "male", "localization": "scalp"}
    write_csv(folder / "HAM10000_metadata.csv", row, {**row, "image_id": "ISIC_0025030", "dx": "mel", "age": ""})
    write_images(folder, "HAM10000_images_part_1/ISIC_0027419.jpg", "HAM10000_images_part_2/ISIC_0025030.jpg")
    return folder


@miniature("isic2019")
def _isic2019(folder):
    """challenge.isic-archive.com, 2019: one-hot ground truth, metadata next to it."""
    classes = ["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"]
    row = {"image": "ISIC_0000000", **dict.fromkeys(classes, "0.0"), "NV": "1.0"}
    write_csv(folder / "ISIC_2019_Training_GroundTruth.csv", row)
    other = {**dict.fromkeys(classes, "0.0"), "UNK": "1.0"}
    tests = [{**row, "image": "ISIC_0034321"}, {"image": "ISIC_0034322", **other}]
    write_csv(folder / "ISIC_2019_Test_GroundTruth.csv", *tests)
    metadata = {"image": "ISIC_0000000", "age_approx": "55", "anatom_site_general": "anterior torso"}
    write_csv(folder / "ISIC_2019_Training_Metadata.csv", {**metadata, "lesion_id": "BCN_1", "sex": "female"})
    write_csv(
        folder / "ISIC_2019_Test_Metadata.csv", *({**metadata, "image": row["image"], "sex": ""} for row in tests)
    )
    write_images(folder / "ISIC_2019_Training_Input", "ISIC_0000000.jpg")
    write_images(folder / "ISIC_2019_Test_Input", *(f"{row['image']}.jpg" for row in tests))
    return folder


@miniature("scin")
def _scin(folder):
    """google-research-datasets/scin, dataset_schema.md."""
    case = {"case_id": "-1", "source": "SCIN", "release": "1.0.0", "year": 2023, "age_group": "AGE_30_TO_39"}
    case |= {"sex_at_birth": "FEMALE", "fitzpatrick_skin_type": "FST3", "image_1_path": "dataset/images/1.png"}
    case |= {"image_2_path": "dataset/images/2.png", "image_3_path": ""}
    second = {**case, "case_id": "-2", "image_1_path": "dataset/images/3.png", "image_2_path": ""}
    write_csv(folder / "dataset" / "scin_cases.csv", case, second)
    label = {"case_id": "-1", "weighted_skin_condition_label": "{'Psoriasis': 0.31, 'Eczema': 0.69}"}
    label |= {"dermatologist_skin_condition_on_label_name": "['Eczema', 'Psoriasis']"}
    write_csv(
        folder / "dataset" / "scin_labels.csv",
        label,
        {**label, "case_id": "-2", "weighted_skin_condition_label": "{'Urticaria': 1.0}"},
    )
    write_images(folder / "dataset" / "images", "1.png", "2.png", "3.png")
    return folder


@miniature("image_classes")
def _image_classes(folder):
    """huggingface.co/docs/datasets/image_dataset: image and label, a ClassLabel with names in the schema."""
    features = {"image": {"_type": "Image"}, "label": {"names": ["adipose", "mucus"], "_type": "ClassLabel"}}
    rows = [{"image": embedded(number), "label": number} for number in (0, 1)]
    write_parquet(folder / "data" / "train-00000-of-00001.parquet", *rows, features=features)
    return folder


def class_labels(*names: str) -> dict:
    return {"names": list(names), "_type": "ClassLabel"}


@miniature("pcam")
def _pcam(folder):
    """1aurent/PatchCamelyon, card: image, and label, a truth value."""
    rows = [{"image": embedded(number), "label": bool(number)} for number in (0, 1)]
    for split in ("train", "valid", "test"):
        write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", *rows)
    return folder


@miniature("nct_crc")
def _nct_crc(folder):
    """1aurent/NCT-CRC-HE, card: splits NCT_CRC_HE_100K, NCT_CRC_HE_100K_NONORM and CRC_VAL_HE_7K."""
    names = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")
    features = {"image": {"_type": "Image"}, "label": class_labels(*names)}
    for first, split in enumerate(("NCT_CRC_HE_100K", "NCT_CRC_HE_100K_NONORM", "CRC_VAL_HE_7K")):
        rows = [{"image": embedded(10 * first + number), "label": number} for number in (0, 8)]
        write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", *rows, features=features)
    return folder


@miniature("lc25000")
def _lc25000(folder):
    """1aurent/LC25000, card: organ (lung, colon) and label (benign, adenocarcinomas, squamous carcinomas)."""
    labels = class_labels("benign", "adenocarcinomas", "squamous carcinomas")
    features = {"image": {"_type": "Image"}, "organ": class_labels("lung", "colon"), "label": labels}
    pairs = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    rows = [{"image": embedded(n), "organ": organ, "label": label} for n, (organ, label) in enumerate(pairs)]
    write_parquet(folder / "data" / "train-00000-of-00001.parquet", *rows, features=features)
    return folder


@miniature("rsna_boxes")
def _rsna_boxes(folder):
    """Kaggle's rsna-pneumonia-detection-challenge: a row a box in stage_2_train_labels.csv, of 1024 x 1024 px."""
    return _rsna(folder)


@miniature("vindr_cxr")
def _vindr_cxr(folder):
    """PhysioNet's vindr-cxr 1.0.0: a row a box and reader in annotations_train.csv; no rad_id in annotations_test.csv."""
    sides = ("x_min", "y_min", "x_max", "y_max")

    def row(image, finding, box=("",) * 4, **reader):
        return {"image_id": image, **reader, "class_name": finding, **dict(zip(sides, box, strict=True))}

    write_csv(
        folder / "annotations" / "annotations_train.csv",
        row("0005e8e3", "Nodule/Mass", (2.0, 2.0, 10.0, 10.0), rad_id="R8"),
        row("0005e8e3", "Nodule/Mass", (2.0, 2.0, 10.0, 8.0), rad_id="R9"),
        row("0005e8e3", "ILD", (0.0, 0.0, 5.0, 5.0), rad_id="R10"),
    )
    write_csv(folder / "annotations" / "annotations_test.csv", row("002a34c5", "Cardiomegaly", (4.0, 8.0, 12.0, 16.0)))
    write_images(folder / "train", "0005e8e3.png")
    write_images(folder / "test", "002a34c5.png")
    return folder


@miniature("ms_cxr")
def _ms_cxr(folder):
    """PhysioNet's ms-cxr 1.1.0: a row a box of a phrase; paths of mimic-cxr-jpg."""
    path = "files/p10/p10000032/s53189527/2a2277a9-b0ded155.jpg"
    phrase = {"category_name": "Pneumothorax", "label_text": "Large right pneumothorax", "path": path}
    box = {"x": 250, "y": 500, "w": 500, "h": 1000, "image_width": 2500, "image_height": 3000}
    row = {"dicom_id": "2a2277a9-b0ded155", **phrase, **box, "split": "test"}
    write_csv(folder / "MS_CXR_Local_Alignment_v1.1.0.csv", row, {**row, "x": 1250})
    write_images((folder / path).parent, "2a2277a9-b0ded155.jpg")
    return folder


@miniature("padchest_gr")
def _padchest_gr(folder):
    """BIMCV's PadChest-GR of 2024-08-19: studies with findings, a sentence each; shares of the image, corners."""
    boxed = {"sentence_en": "Right pleural effusion.", "sentence_es": "Derrame pleural derecho.", "abnormal": True,
             "boxes": [[0.125, 0.5, 0.5, 1.0]], "extra_boxes": [], "labels": ["pleural effusion"],
             "locations": ["right"], "progression": None}  # fmt: skip
    normal = {"sentence_en": "Normal heart.", "sentence_es": "Corazón normal.", "abnormal": False}
    study = {"StudyID": "1", "ImageID": "1_wig.png", "PreviousStudyID": None, "PreviousImageID": None}
    write_json(folder / "grounded_reports_20240819.json", [{**study, "findings": [boxed, normal]}])
    row = {"StudyID": "1", "PatientID": "p1", "split": "test"}
    write_csv(folder / "master_table.csv", row, row)
    write_images(folder / "Padchest_GR_files", "1_wig.png")
    return folder


@miniature("rsna_pneumonia")
def _rsna(folder):
    """Kaggle's rsna-pneumonia-detection-challenge: a row a box in both tables; mlmed/torchxrayvision: images as JPEG."""
    ill, fine = "0004cfab", "003d8fa0"
    classes = [{"patientId": ill, "class": "Lung Opacity"}] * 2 + [{"patientId": fine, "class": "Normal"}]
    write_csv(folder / "stage_2_detailed_class_info.csv", *classes)
    box = {"patientId": ill, "x": 264.0, "y": 152.0, "width": 213.0, "height": 379.0, "Target": 1}
    none = {**dict.fromkeys(box, ""), "patientId": fine, "Target": 0}
    write_csv(folder / "stage_2_train_labels.csv", box, {**box, "x": 562.0}, none)
    write_images(folder / "stage_2_train_images_jpg", f"{ill}.jpg", f"{fine}.jpg")
    return folder
