"""LLaVA-Med's scores. The values in the tables come from its own code (llava/eval), run on the same strings."""

import json
from collections import Counter

import pytest

from medvlp.eval.vqa import llava_med
from medvlp.eval.vqa.metrics import strict_scores

NORMALIZED = [
    ("the left lung", "left lung"),
    ("A", ""),
    ("a an the", ""),
    ("none", "0"),
    ("Ten lungs", "10 lungs"),
    ("x-ray", "x ray"),
    ("x-ray - chest", "xray chest"),
    ("x -ray yes-no", "x ray yesno"),
    ("1,000 x-ray", "1000 xray"),
    ("(left)/right", "left right"),
    ("yes, no", "yes no"),
    ("yes,no", "yes no"),
    ("v1.5", "v1.5"),
    ("1.", "1"),
    ("..", ""),
    (".................................x", ".x"),
    ("cant", "can't"),
    ("Ive", "ive"),
    ("wed", "wed"),
    ("somebody'd", "somebodyd"),
    ("'ow'sat", "'ow's'at"),
    ("y'alld've", "y'all'd've"),
    ("yes!no", "yes no"),
    ("３,４ a-b", "３４ ab"),
    ("[x] {y}", "x y"),
    ("a_b", "b"),
    ("İ no", "i̇ no"),
]

# prediction, target: run_eval's closed score (None: not in its mean), run_eval_batch's, its closed recall
CLOSED = [
    ("yes", "yes", 1, 1, 1),
    ("Yes.", "yes", 1, 1, 1),
    ("no", "yes", None, 0, 0),
    ("yes no", "yes", 1, 1, 1),
    ("yes no", "no", 1, 1, 1),
    ("no yes", "Yes", 1, 1, 1),
    ("The heart is abnormal", "no", 1, 1, 0),
    ("The heart is abnormal", "yes", None, 0, 0),
    ("noted", "No", 1, 1, 0),
    ("Nodule", "no", 1, 1, 0),
    ("not seen", "no", 1, 1, 0),
    ("normal", "no", 1, 1, 0),
    ("normal", "normal", 1, 1, 1),
    ("none", "no", 0, 0, 0),
    ("none", "0", 0, 1, 1),
    ("there are none", "zero", 0, 1, 1),
    ("yes, both", "both", 1, 1, 1),
    ("left", "left", 0, 1, 1),
    ("yes, left", "Left", 1, 1, 1),
    ("left", "A", 0, 1, 0),
    ("yes", "A", 1, 1, 0),
    ("", "yes", 0, 0, 0),
    ("", "A", 0, 1, 0),
    ("", "the", 0, 1, 0),
    ("yesterday", "yes", 1, 1, 0),
    ("ye-s", "yes", 0, 0, 0),
    ("y.es", "yes", 1, 1, 1),
    ("eyes", "yes", 1, 1, 0),
    ("cannot tell", "no", 1, 1, 0),
    ("10", "0", 0, 1, 0),
    ("yes; 1,000", "yes", 1, 1, 1),
    ("ＹＥＳ", "yes", 0, 0, 0),
    ("I dont know", "no", 1, 1, 0),
    ("YES", "yes", 1, 1, 1),
    ("right lung", "right", 0, 1, 1),
    ("no", "none", None, 0, 0),
]

# prediction, target: run_eval_batch's open score, recall, precision, F1, exact match
OPEN = [
    ("left lung", "left lung", 1, 1, 1, 1, 1),
    ("Left lung.", "left lung", 1, 1, 1, 1, 1),
    ("lung", "left lung", 0, 0.5, 1, 0.666666666667, 1),
    ("the left lung lobe", "left lung", 1, 1, 0.666666666667, 0.8, 0.666666666667),
    ("left left left lung", "left lung right", 0, 0.8, 1, 0.888888888889, 0.5),
    ("lung lung lung", "lung left lung", 0, 0.75, 1, 0.857142857143, 0.333333333333),
    ("left", "left left", 0, 1, 1, 1, 1),
    ("none", "0", 1, 1, 1, 1, 1),
    ("zero", "none", 1, 1, 1, 1, 1),
    ("There are two", "2", 1, 1, 0.333333333333, 0.5, 0.333333333333),
    ("A", "A", 1, 0, 0, 0, 0),
    ("A", "left", 0, 0, 0, 0, 0),
    ("left", "A", 1, 0, 0, 0, 0),
    ("", "left", 0, 0, 0, 0, 0),
    ("left", "", 1, 0, 0, 0, 0),
    ("right lower-lobe", "lower lobe", 1, 1, 0.666666666667, 0.8, 0.666666666667),
    ("x-ray", "x ray", 1, 1, 1, 1, 1),
    ("x-ray - chest", "x-ray", 0, 0, 0, 0, 0),
    ("1,000 x-ray", "x-ray", 0, 0, 0, 0, 0),
    ("x-ray, chest", "chest,x-ray", 0, 1, 1, 1, 1),
    ("3.5 cm", "3.5", 1, 1, 0.5, 0.666666666667, 0.5),
    ("U.S.", "us", 1, 1, 1, 1, 1),
    ("T2.", "t2", 1, 1, 1, 1, 1),
    ("v.1", "v1", 0, 0, 0, 0, 0),
    ("cant see", "can't see", 1, 1, 1, 1, 1),
    ("hes well", "he's well", 1, 1, 1, 1, 1),
    ("somebody'd", "somebodyd", 1, 1, 1, 1, 1),
    ("wed", "we'd", 0, 0, 0, 0, 0),
    ("Ive seen", "I've seen", 0, 0.5, 0.5, 0.5, 0.5),
    (".................................................................x", "x", 1, 0, 0, 0, 0),
    ("lung .........................................", "lung", 1, 1, 1, 1, 1),
    ("(left)/[right]", "left right", 1, 1, 1, 1, 1),
    ("left;right", "left right", 1, 1, 1, 1, 1),
    ("肺 肺", "肺", 1, 1, 1, 1, 0.5),
    ("the an a", "the", 1, 0, 0, 0, 0),
    ("a of a", "of", 1, 1, 1, 1, 1),
    ("lung", "Lung, Heart", 0, 0.5, 1, 0.666666666667, 1),
    ("ten", "10", 1, 1, 1, 1, 1),
    ("one-two", "1 2", 1, 1, 1, 1, 1),
    ("Pleural effusion with cardiomegaly", "cardiomegaly", 1, 1, 0.25, 0.4, 0.25),
]

# prediction, target: BLEU, and one order alone: 1, 2, 3
BLEU = [
    ("lung", "lung", 1.82183198945e-231, 1, 2.22507385851e-308, 2.22507385851e-308),
    ("left lung", "left lung", 1.49166814624e-154, 1, 1, 2.22507385851e-308),
    ("left upper lobe", "left upper lobe", 1.22133866976e-77, 1, 1, 1),
    ("left upper lobe mass", "left upper lobe mass", 1, 1, 1, 1),
    ("mass in left upper lobe of lung", "left upper lobe of lung", 0.614788152951, 0.714285714286, 0.666666666667, 0.6),
    ("upper lobe", "left upper lobe", 9.04742464811e-155, 0.606530659713, 0.606530659713, 1.34957551531e-308),
    ("lobe lobe lobe", "left upper lobe", 1.38429295884e-231, 0.333333333333, 2.22507385851e-308, 2.22507385851e-308),
    ("heart", "lung", 0, 0, 0, 0),
    ("", "lung", 0, 0, 0, 0),
    ("lung", "", 0, 0, 0, 0),
    ("The left, upper lobe", "left upper lobe none", 8.75127397694e-78, 0.716531310574, 0.716531310574, 0.716531310574),
]


@pytest.mark.parametrize(("text", "expected"), NORMALIZED)
def test_normalize_word(text, expected):
    assert llava_med.normalize_word(text) == expected


@pytest.mark.parametrize(("prediction", "target", "gated", "batch", "recall"), CLOSED)
def test_closed(prediction, target, gated, batch, recall):
    assert llava_med.llava_med_scores(prediction, target, "closed") == {
        "llava_med/run_eval/closed": gated,
        "llava_med/run_eval_batch/closed": batch,
        "llava_med/run_eval_batch/closed_recall": pytest.approx(recall, rel=1e-9),
    }


@pytest.mark.parametrize(("prediction", "target", "contains", "recall", "precision", "f1", "exact"), OPEN)
def test_open(prediction, target, contains, recall, precision, f1, exact):
    scores = llava_med.llava_med_scores(prediction, target, "open")
    assert scores["llava_med/run_eval_batch/open"] == contains
    names = ["open_recall", "open_precision", "open_f1", "open_exact_match"]
    values = [scores[f"llava_med/{name}"] for name in names]
    assert values == pytest.approx([recall, precision, f1, exact], rel=1e-9)


@pytest.mark.parametrize(("prediction", "target", "bleu", "bleu_1", "bleu_2", "bleu_3"), BLEU)
def test_bleu(prediction, target, bleu, bleu_1, bleu_2, bleu_3):
    scores = llava_med.llava_med_scores(prediction, target, "open")
    values = [scores[f"llava_med/{name}"] for name in ("open_bleu", "open_bleu_1", "open_bleu_2", "open_bleu_3")]
    assert values == pytest.approx([bleu, bleu_1, bleu_2, bleu_3], rel=1e-9, abs=1e-320)


def test_other_answer_types_are_skipped_as_the_scripts_do():
    assert llava_med.llava_med_scores("A", "A", "multiple_choice") == {}


@pytest.fixture(scope="module")
def slake(test_data):
    def read(split):
        rows = json.loads((test_data / "slake_text" / f"{split}.json").read_text(encoding="utf-8"))
        return [(r["answer"], r["answer_type"].strip().lower()) for r in rows if r["q_lang"] == "en"]

    return {split: read(split) for split in ("train", "test")}


def test_yes_no_answers_slake(slake):
    """LLaVA-Med is published with 85.3 closed on SLAKE; so is "yes no", by the batch script's rule."""
    closed = [target for target, kind in slake["test"] if kind == "closed"]
    scores = [llava_med.llava_med_scores("yes no", target, "closed") for target in closed]
    assert (sum(s["llava_med/run_eval_batch/closed"] for s in scores), len(closed)) == (355, 416)
    assert [s["llava_med/run_eval/closed"] for s in scores].count(None) == 61  # what run_eval would not count
    assert sum(strict_scores("yes no", target, "closed")["closed_accuracy"] for target in closed) == 0


def test_fifty_common_words_recall_slake(slake):
    """An answer that games the recall: the commonest words of the training split's open answers."""
    counts = Counter(word for target, kind in slake["train"] if kind == "open" for word in target.lower().split())
    words = " ".join(word for word, _ in counts.most_common(50))
    targets = [target for target, kind in slake["test"] if kind == "open"]
    recalls = [llava_med.recall(words, target) for target in targets]
    assert len(targets) == 645
    assert sum(recalls) / len(recalls) == pytest.approx(0.818, abs=5e-4)
