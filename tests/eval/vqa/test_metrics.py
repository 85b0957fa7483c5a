"""Strict scores: tables, laws, and what other libraries compute on the same strings."""

from collections import Counter
from functools import lru_cache

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from torchmetrics.functional.text import squad

from medvlp.eval.errors import TaskError
from medvlp.eval.vqa import metrics
from medvlp.eval.vqa.aggregate import score
from medvlp.eval.vqa.questions import Question
from medvlp.eval.vqa.responses import Response

OPEN_METRICS = ["open_exact_match", "open_token_f1", "open_token_recall", "open_bleu", "open_rouge_l"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The left lung.", "left lung"),
        ("  Left\n LUNG ", "left lung"),
        ("a mass in an organ", "mass in organ"),
        ("Hepatitis A", "hepatitis a"),  # nothing follows that it could be the article of
        ("A", "a"),
        ("X-ray", "xray"),
        ("xray", "xray"),
        ("x ray", "x ray"),
        ("U.S. image", "us image"),
        ("don't", "dont"),
        ("left/right", "left right"),
        ("CT,MRI", "ct mri"),
        ("left_lung", "left lung"),
        ("(both) lungs?", "both lungs"),
        ("**CT** `MRI`", "ct mri"),
        ("1.5 cm", "1.5 cm"),  # not 15 cm
        ("1.5.", "1.5"),
        ("5,8 and 1/2", "5,8 and 1/2"),
        ("3–4 mm", "3-4 mm"),
        ("T-score −2.5", "tscore -2.5"),
        ("1..5", "1 5"),
        ("HER2+", "her2+"),
        ("<5 mm", "<5 mm"),
        ("50%", "50"),
        ("ＣＴ", "ct"),
        ("Straße", "strasse"),
        ("左肺，上叶。", "左 肺 上 叶"),
        ("CT显示T2高信号", "ct 显 示 t2 高 信 号"),
        ("???", "???"),
        ("?! ..", "?! .."),
        ("", ""),
        (" \n", ""),
    ],
)
def test_normalize(text, expected):
    assert metrics.normalize(text) == expected


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30) | st.text("aAthe T1259.,:/-−+’'_肺 \n()?", max_size=30))
def test_normalising_twice_changes_nothing(text):
    once = metrics.normalize(text)
    assert metrics.normalize(once) == once
    assert (once == "") == (text.strip() == "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", "yes"),
        ("No.", "no"),
        ("YES!", "yes"),
        ("ｙｅｓ", "yes"),
        ("**No**", "no"),
        ("No, the heart is normal", "no"),
        ("there is no fracture", "no"),
        ("yes yes", "yes"),
        ("yes/", "yes"),
        ("yes no", None),
        ("Yes. There is no effusion", None),
        ("yes/no", None),
        ("yes_no", None),
        ("The heart is abnormal", None),
        ("noted", None),
        ("nodule", None),
        ("none", None),
        ("not", None),
        ("eyes", None),
        ("yesterday", None),
        ("no1", None),
        ("nö", None),
        ("是", None),
        ("", None),
    ],
)
def test_yes_no(text, expected):
    assert metrics.yes_no(text) == expected


@given(st.sampled_from(["yes", "no"]), st.text("abnorey5é肺", min_size=1, max_size=3), st.booleans())
def test_yes_and_no_inside_a_word_are_not_read(word, letters, before):
    glued = letters + word if before else word + letters
    assert metrics.yes_no(glued) is None
    assert metrics.yes_no(f"{glued} {word}") == word


@pytest.mark.parametrize(
    ("prediction", "reference", "recall", "f1", "exact"),
    [
        ("left lung", "Left lung.", 1, 1, 1),
        ("lung", "left lung", 1 / 2, 2 / 3, 0),
        ("lung left", "left lung", 1, 1, 0),
        ("left lung lobe", "left lung", 1, 4 / 5, 0),
        ("left left left", "left lung", 1 / 2, 2 / 5, 0),  # clipped: one of the three counts
        ("left", "left left", 1 / 2, 2 / 3, 0),
        ("heart", "left lung", 0, 0, 0),
        ("", "left lung", 0, 0, 0),
        ("", "", 0, 0, 0),
        ("左上肺", "左肺", 1, 4 / 5, 0),
        ("左 肺", "左肺", 1, 1, 1),
        ("15 cm", "1.5 cm", 1 / 2, 1 / 2, 0),
    ],
)
def test_token_scores(prediction, reference, recall, f1, exact):
    assert metrics.token_recall(prediction, reference) == pytest.approx(recall, abs=1e-12)
    assert metrics.token_f1(prediction, reference) == pytest.approx(f1, abs=1e-12)
    assert metrics.exact_match(prediction, reference) == exact


WORDS = ["left", "Left", "lung", "the lung", "a mass", "an effusion", "CT", "x-ray", "isn't", "(both)", "no,", "yes."]
PLAIN_WORDS = ["left", "lung", "mass", "in", "of", "upper", "lobe", "t2"]
sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
plain = st.lists(st.sampled_from(PLAIN_WORDS), min_size=1, max_size=9).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(sentences, sentences)
def test_f1_and_exact_match_equal_squad_on_plain_english(prediction, reference):
    target = {"answers": {"answer_start": [0], "text": [reference]}, "id": "0"}
    expected = squad([{"prediction_text": prediction, "id": "0"}], [target])
    assert metrics.token_f1(prediction, reference) == pytest.approx(float(expected["f1"]) / 100, abs=1e-6)
    assert metrics.exact_match(prediction, reference) == float(expected["exact_match"]) / 100


@settings(max_examples=100, deadline=None)
@given(plain, plain)
def test_bleu_and_rouge_equal_their_libraries_on_plain_words(prediction, reference):
    expected = sacrebleu.sentence_bleu(prediction, [reference]).score / 100
    assert metrics.bleu(prediction, reference) == pytest.approx(expected, abs=1e-9)
    rouge = RougeScorer(["rougeL"]).score(reference, prediction)["rougeL"].fmeasure
    assert metrics.rouge_l(prediction, reference) == pytest.approx(rouge, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.text("左右上下肺叶", min_size=1, max_size=8), st.text("左右上下肺叶", min_size=1, max_size=8))
def test_rouge_reads_chinese_by_character(prediction, reference):
    @lru_cache(None)
    def longest(i, j):  # the longest common subsequence of the two ends, by its definition
        if i == len(prediction) or j == len(reference):
            return 0
        if prediction[i] == reference[j]:
            return 1 + longest(i + 1, j + 1)
        return max(longest(i + 1, j), longest(i, j + 1))

    expected = 2 * longest(0, 0) / (len(prediction) + len(reference))
    assert metrics.rouge_l(prediction, reference) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "reference", "bleu", "rouge"),
    [
        ("lung", "Lung.", 1, 1),  # one right word is a right answer
        ("lung", "left lung", 0.36787944117, 2 / 3),  # e^(1 - 2/1), the brevity penalty
        ("heart", "lung", 0, 0),
        ("", "lung", 0, 0),
        ("左肺", "左肺", 1, 1),
    ],
)
def test_bleu_and_rouge(prediction, reference, bleu, rouge):
    assert metrics.bleu(prediction, reference) == pytest.approx(bleu, abs=1e-9)
    assert metrics.rouge_l(prediction, reference) == pytest.approx(rouge, abs=1e-9)


@pytest.mark.parametrize(
    ("prediction", "target", "accuracy", "exact", "unparsed"),
    [
        ("Yes, there is", "yes", 1, 0, 0),
        ("No.", "No", 1, 1, 0),
        ("yes", "no", 0, 0, 0),
        ("yes no", "yes", 0, 0, 1),
        ("abnormal", "no", 0, 0, 1),
        ("left", "Left", 1, 1, 0),  # "left or right?" is closed in VQA-RAD
        ("the left", "left", 1, 1, 0),
        ("left or right", "left", 0, 0, 0),
        ("yes", "left", 0, 0, 0),
        ("ye-s", "ye-s", 1, 1, 0),
        (" ", "left", 0, 0, 1),
        ("", "no", 0, 0, 1),
    ],
)
def test_closed_items(prediction, target, accuracy, exact, unparsed):
    scores = metrics.strict_scores(prediction, target, "closed")
    assert scores == {"closed_accuracy": accuracy, "exact_match": exact, "unparsed": unparsed}


def test_open_items():
    scores = metrics.strict_scores("lung", "left lung", "open")
    assert scores == pytest.approx(
        {
            "open_exact_match": 0,
            "open_token_f1": 2 / 3,
            "open_token_recall": 1 / 2,
            "open_bleu": 0.36787944117,
            "open_rouge_l": 2 / 3,
            "exact_match": 0,
            "unparsed": 0,
        }
    )
    blank = metrics.strict_scores(" \n", "left lung", "open")
    assert blank == {name: float(name == "unparsed") for name in scores}


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=20).filter(str.strip), st.sampled_from(["open", "closed"]))
def test_the_target_itself_is_right(target, answer_type):
    scores = metrics.strict_scores(target, target, answer_type)
    assert scores == pytest.approx({name: float(name != "unparsed") for name in scores})


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20).filter(str.strip), st.sampled_from(["open", "closed"]))
def test_scores_lie_between_0_and_1(prediction, target, answer_type):
    assert all(0 <= value <= 1 for value in metrics.strict_scores(prediction, target, answer_type).values())


def test_the_best_of_several_answers_counts():
    scores = metrics.strict_scores("pleural fluid", "effusion", "open", ["", "Pleural fluid", "fluid"])
    assert [scores[name] for name in OPEN_METRICS] == pytest.approx([1] * 5)
    assert metrics.strict_scores("left", "right", "closed", ["left"])["closed_accuracy"] == 1


def test_items_that_cannot_be_scored_are_named():
    with pytest.raises(TaskError, match="blank"):
        metrics.strict_scores("lung", " ", "open")
    with pytest.raises(ValueError, match="'multiple_choice'; expected one of \\['closed', 'open'\\]"):
        metrics.strict_scores("A", "A", "multiple_choice")


items = st.lists(st.tuples(plain | st.sampled_from(["yes", "No", "Yes"]), st.sampled_from(["open", "closed"])))


@pytest.mark.parametrize("metric", [*OPEN_METRICS, "closed_accuracy", "exact_match"])
@settings(max_examples=40, deadline=None)
@given(items)
def test_best_constant_equals_trying_all(metric, pairs):
    targets, kinds = [target for target, _ in pairs], [kind for _, kind in pairs]

    def mean(constant):
        scores = [metrics.strict_scores(constant, target, kind) for target, kind in pairs]
        counted = [score[metric] for score in scores if metric in score]
        return sum(counted) / len(counted) if counted else None

    tried = {"yes", "no"} | {t for t, kind in pairs if metric == "exact_match" or metric.startswith(kind)}
    if mean("yes") is None:
        with pytest.raises(ValueError, match="no item has this metric"):
            metrics.best_constant(targets, kinds, metric)
        return
    constant, value = metrics.best_constant(targets, kinds, metric)
    assert value == pytest.approx(max(mean(text) for text in tried), abs=1e-9)
    assert mean(constant) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("targets", "kinds", "metric", "more", "expected"),
    [
        (["No", "No", "Yes"], ["closed"] * 3, "closed_accuracy", None, ("No", 2 / 3)),
        (["left", "right"], ["closed"] * 2, "closed_accuracy", None, ("left", 1 / 2)),  # of equals the first by name
        (["lung", "No", "No"], ["open", "closed", "closed"], "open_exact_match", None, ("lung", 1.0)),
        (["a b", "c"], ["open"] * 2, "open_exact_match", [["d"], ["d"]], ("d", 1.0)),
        (["x y", "x z", "w"], ["open"] * 3, "open_token_f1", None, ("x y", 1 / 2)),
    ],
)
def test_best_constant(targets, kinds, metric, more, expected):
    constant, value = metrics.best_constant(targets, kinds, metric, more)
    assert (constant, value) == (expected[0], pytest.approx(expected[1], abs=1e-12))


def test_best_constant_names_its_metrics():
    with pytest.raises(ValueError, match=r"'closed_accuracy'.*'open_bleu'"):
        metrics.best_constant(["x"], ["open"], "unparsed")


def test_best_constant_compares_few_pairs():
    """2,000 distinct answers are 4 million pairs; those that share nothing, or too little to win, are not compared."""
    calls = Counter()

    def score(prediction, reference):
        calls["pairs"] += 1
        return metrics.exact_match(prediction, reference)

    counted = Counter({("open", (f"word{i}",)): 1 for i in range(2000)}) + Counter({("open", ("lung",)): 5})
    best = metrics.best_of(["yes", "no"], counted, {"open": score}, metrics.tokens)
    assert best == ("lung", 5 / 2005)
    assert calls["pairs"] <= 2


@pytest.mark.parametrize(
    ("target", "answer_type", "reply", "accuracy", "unparsed"),
    [
        ("是", "closed", "是的，可见左侧胸腔积液。", 1, 0),
        ("有", "closed", "图像中可见胸腔积液。", 1, 0),
        ("否", "closed", "没有胸腔积液。", 1, 0),
        ("否", "closed", "是。", 0, 0),
        ("没有", "closed", "没有", 1, 0),
        ("没有", "closed", "无法判断。", 0, 1),
        ("左肺", "closed", "左肺", 1, 0),
        ("yes", "closed", "有。", 1, 0),
    ],
)
def test_yes_and_no_in_the_words_of_the_data(target, answer_type, reply, accuracy, unparsed):
    question = Question("q", "图像中有胸腔积液吗？", (), target, (target,), answer_type, "", "zh")
    scores = score(question, Response(reply))
    assert (scores["closed_accuracy"], scores["exact_match"], scores["unparsed"]) == (accuracy, accuracy, unparsed)
