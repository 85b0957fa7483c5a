"""Findings that a report states, as a careful reader sees them: mentions, negations, doubts, and what is no finding."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from medvlp.eval.text.corpus import corpus_metrics
from medvlp.eval.text.findings.rules import LONGEST, stated, states_of, states_of_all
from medvlp.eval.text.findings.terms import FINDINGS
from tests.conftest import REPOSITORY

P, U, A = "present", "uncertain", "absent"

READ = [
    # plain mentions
    ("Large left pleural effusion.", {"pleural effusion": P}),
    ("No effusion.Pneumothorax present.", {"pleural effusion": A, "pneumothorax": P}),
    ("Bibasilar atelectasis and cardiomegaly are seen.", {"atelectasis": P, "cardiomegaly": P}),
    ("The heart is mildly enlarged.", {"cardiomegaly": P}),
    ("Cardiac silhouette size remains enlarged.", {"cardiomegaly": P}),
    ("Enlargement of the cardiac silhouette.", {"cardiomegaly": P}),
    ("Pulmonary oedema with cephalization.", {"edema": P, "vascular congestion": P}),
    ("CT shows ground-glass opacities in both lungs", {"ground-glass opacity": P}),
    ("A 1.5 cm nodule in the right upper lobe.", {"nodule": P}),
    ("Cavitary lesion with tree-in-bud nodules, suggestive of tuberculosis.", {"cavity": P, "nodule": P, "tuberculosis": U}),
    ("Hiatal hernia. Healed rib fractures.", {"hiatal hernia": P, "fracture": P}),
    ("The mediastinum is widened.", {"mediastinal widening": P}),
    ("Endotracheal tube and PICC in place.", {"endotracheal tube": P, "central venous catheter": P}),
    ("Nasogastric tube below the diaphragm.", {"gastric tube": P}),
    ("Subcutaneous emphysema after chest tube removal.", {"subcutaneous emphysema": P, "chest tube": P}),
    ("Free air under the diaphragm.", {"pneumoperitoneum": P}),
    ("PULMONARY EMBOLISM in the left lower lobe artery", {"pulmonary embolism": P}),
    # negations in front
    ("No pneumothorax.", {"pneumothorax": A}),
    ("No pneumothorax, pleural effusion or consolidation.", {"pneumothorax": A, "pleural effusion": A, "consolidation": A}),
    ("There is no evidence of acute fracture.", {"fracture": A}),
    ("Lungs are free of infiltrates.", {"opacity": A}),
    ("Without focal consolidation or effusion.", {"consolidation": A, "pleural effusion": A}),
    ("Negative for pneumonia.", {"pneumonia": A}),
    ("Neither pneumothorax nor effusion.", {"pneumothorax": A, "pleural effusion": A}),
    ("The patient denies fracture.", {"fracture": A}),
    ("The heart is not enlarged.", {"cardiomegaly": A}),
    ("No lymphadenopathy and no masses.", {"lymphadenopathy": A, "mass": A}),
    # negations behind
    ("Pleural effusion and pneumothorax are not seen.", {"pleural effusion": A, "pneumothorax": A}),
    ("Pneumothorax: none.", {"pneumothorax": A}),
    ("Effusion - absent", {"pleural effusion": A}),
    ("The previously seen effusion has resolved.", {"pleural effusion": A}),
    ("Pulmonary embolism was ruled out.", {"pulmonary embolism": A}),
    ("Pneumothorax is no longer visible.", {"pneumothorax": A}),
    ("Pneumonia isn\u2019t seen.", {"pneumonia": A}),
    ("Pneumothorax is not seen, effusion persists.", {"pneumothorax": A, "pleural effusion": P}),
    ("The pneumonia has resolved, effusion persists.", {"pneumonia": A, "pleural effusion": P}),
    ("Lungs: no effusion.", {"pleural effusion": A}),
    # where a negation ends
    ("No pneumothorax, small left pleural effusion.", {"pneumothorax": A, "pleural effusion": P}),
    ("No effusion but mild cardiomegaly.", {"pleural effusion": A, "cardiomegaly": P}),
    ("No pneumothorax and a small effusion.", {"pneumothorax": A, "pleural effusion": P}),
    ("No consolidation, however there is atelectasis.", {"consolidation": A, "atelectasis": P}),
    ("No acute disease except for a granuloma.", {"calcified granuloma": P}),
    ("No consolidation, large effusion or mass.", {"consolidation": A, "pleural effusion": A, "mass": A}),
    ("No mass. Nodule in the left lobe.", {"mass": A, "nodule": P}),
    ("The effusion is unchanged without pneumothorax.", {"pleural effusion": P, "pneumothorax": A}),
    ("Small effusions are present with no consolidation", {"pleural effusion": P, "consolidation": A}),
    # words that resemble a negation
    ("No change in the pleural effusion.", {"pleural effusion": P}),
    ("No significant interval change in pulmonary edema.", {"edema": P}),
    ("Cardiomegaly is not significantly changed.", {"cardiomegaly": P}),
    ("CT without intravenous contrast enhancement shows a mass.", {"mass": P}),
    # doubt
    ("Possible pneumonia.", {"pneumonia": U}),
    ("Cannot exclude pneumonia.", {"pneumonia": U}),
    ("Pneumonia cannot be excluded.", {"pneumonia": U}),
    ("Mass not excluded", {"mass": U}),
    ("Findings may represent pulmonary edema.", {"edema": U}),
    ("Opacity, likely atelectasis.", {"opacity": P, "atelectasis": U}),
    ("Atelectasis or pneumonia at the base.", {"atelectasis": U, "pneumonia": U}),
    ("Atelectasis versus early pneumonia.", {"atelectasis": U, "pneumonia": U}),
    ("Suspicious for metastatic disease.", {"metastasis": U}),
    ("A small effusion is suspected.", {"pleural effusion": U}),
    ("Pneumonia is possible, effusion persists.", {"pneumonia": U, "pleural effusion": P}),
    # several mentions: the strongest counts
    ("No effusion on the right. Small effusion on the left.", {"pleural effusion": P}),
    ("Possible effusion. No effusion on the lateral view.", {"pleural effusion": U}),
    # what is no finding of this examination, or none at all
    ("Evaluate for pneumonia. Lungs are clear.", {}),
    ("r/o pneumothorax", {}),
    ("Knee effusion with soft tissue edema and mass effect.", {}),
    ("Fluid in the thoracic cavity. Fatty infiltration of the liver.", {}),
    ("Pericardial effusion.", {"pericardial effusion": P}),
    ("The lungs are clear.", {}),
    ("胸腔积液", {}),
    ("", {}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), READ)
def test_states(text, expected):
    assert states_of(text) == expected


@pytest.mark.parametrize("finding", FINDINGS)
def test_every_finding_is_read_by_its_own_name(finding):
    assert finding in states_of(f"There is {finding}.")
    assert states_of(f"No {finding}.")[finding] == A


def test_the_documents_say_how_many_there_are():
    assert f"{len(FINDINGS)} thoracic findings" in (REPOSITORY / "docs/evaluation.md").read_text("utf-8")


def test_references_are_read_together():
    assert states_of_all(["No effusion", "Small effusion; possible mass"]) == {"mass": U, "pleural effusion": P}
    assert stated({"mass": U, "nodule": P, "hernia": A}) == {"mass", "nodule"}


def test_a_text_without_sentences_is_read_in_parts():
    assert states_of("effusion, the and " * LONGEST) == {"pleural effusion": P}
    assert states_of("word " * LONGEST + "no effusion") == {"pleural effusion": A}


@pytest.mark.parametrize("average", ["micro", "macro"])
@pytest.mark.parametrize(("part", "peer"), [("precision", precision_score), ("recall", recall_score), ("f1", f1_score)])
def test_scores_are_scikit_learns(part, average, peer):
    generator = np.random.default_rng(3)
    text_NL, reference_NL = generator.random((2, 40, 6)) < np.array([0.05, 0.1, 0.3, 0.5, 0.9, 0.2])
    reference_NL[:, 5] = False  # only ever claimed
    text_NL[:, 2] = False  # never found
    metric = corpus_metrics(
        "findings", np.concatenate([text_NL & reference_NL, text_NL, reference_NL], axis=1), np.ones(40, bool)
    )[f"findings_{part}_{average}"]

    def expected(rows):
        reference, text = reference_NL[rows], text_NL[rows]
        labels = [c for c in range(6) if average == "micro" or reference[:, c].any()]
        return peer(reference, text, labels=labels, average=average, zero_division=0)

    assert metric(None) == pytest.approx(expected(np.arange(40)), abs=1e-15)
    weights_RN = generator.multinomial(40, [1 / 40] * 40, size=5)
    values = [expected(np.repeat(np.arange(40), weights_N)) for weights_N in weights_RN]
    assert metric(weights_RN.astype(np.float64)) == pytest.approx(values, abs=1e-15)
