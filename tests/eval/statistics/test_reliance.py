"""Visual reliance by hand: toy models that look at images, that do not, and that only say so."""

import math
import re

import pytest

from medvlp.eval.statistics.reliance import (
    CLAIMS,
    CLAIMS_HALLUCINATED,
    HVRR,
    RELIANCE,
    RETENTION,
    SENSITIVITY,
    VRS,
    claims_to_see,
    final_answer,
    reliance_columns,
    reliance_sentences,
    retention_of,
)


@pytest.mark.parametrize(
    "text",
    [
        "The chest X-ray shows an enlarged heart.",
        "A mass is visible in the left lobe.",
        "There is no fracture.",
        "I can see consolidation",
        "The liver appears normal",
        "I cannot see the label, but the scan demonstrates oedema.",
    ],
)
def test_statements_of_findings_are_claims(text):
    assert claims_to_see(text)


@pytest.mark.parametrize(
    "text",
    ["yes", "No.", "pneumonia", "right lung", "I cannot see the image.", "There is no image.", "", "an axial view"],
)
def test_short_answers_and_refusals_are_none(text):
    assert not claims_to_see(text)


def test_answers_are_compared_by_what_they_come_to():
    closed = {"answer_type": "closed", "target": "Yes"}
    assert final_answer(closed, "Yes, it is.") == final_answer(closed, "I think yes") == "yes"
    assert final_answer(closed, "maybe") == "maybe"
    assert final_answer({"answer_type": "closed", "target": "left"}, "The Left.") == "left"
    chosen = {"answer_type": "multiple_choice", "target": "CT", "options": {"A": "CT", "B": "MRI"}}
    assert final_answer(chosen, "(A)") == final_answer(chosen, "CT") == "A"
    assert final_answer(chosen, "who knows") == "who knows"


def record(target, prediction, shuffled, blank, **changes):
    scores = {"closed_accuracy": float(prediction == target)}
    control_scores = {
        "shuffled_images": {"closed_accuracy": float(shuffled == target)},
        "blank_image": {"closed_accuracy": float(blank == target)},
    }
    stated = {"target": target, "prediction": prediction, "answer_type": "closed", "language": "en", "images": 1}
    controls = {"shuffled_images": shuffled, "blank_image": blank}
    return {**stated, "scores": scores, "control_scores": control_scores, "controls": controls, **changes}


def test_columns_by_hand():
    records = [
        record("yes", "yes", "no", "no", reasoning="The scan shows a mass."),  # looks, and says so
        record("yes", "yes", "yes", "yes", reasoning="A mass is visible."),  # says so only
        record("no", "yes", "yes", "no"),
        record("no", "yes", "no", "no", images=0),  # about no image
        record("si", "si", "no", "si", language="es"),  # claims are read in English only
    ]
    columns = reliance_columns(records)
    assert columns == {
        VRS: [1.0, 0.0, 0.0, None, 1.0],
        SENSITIVITY: [1.0, 0.0, 0.0, None, 1.0],
        CLAIMS: [1.0, 1.0, 0.0, None, None],
        HVRR: [0.0, 1.0, 0.0, None, None],
        CLAIMS_HALLUCINATED: [0.0, 1.0, None, None, None],
    }
    assert {*columns, RETENTION} == RELIANCE.keys()
    retention = retention_of(records)
    assert (retention(None), retention.member_N.tolist()) == (
        3 / 3,
        [1, 1, 1, 0, 1],
    )  # blank: the second, third and fifth; own: all but the third
    assert retention([[1, 0, 1, 9, 0], [0, 0, 1, 0, 0]]).tolist() == pytest.approx([1.0, math.nan], nan_ok=True)


def test_without_controls_nothing_is_said():
    blind = record("yes", "yes", "no", "no") | {"controls": {}, "control_scores": {}}
    assert reliance_columns([blind]) == {}
    assert retention_of([blind]) is None
    assert reliance_sentences([]) == []


class Value:
    def __init__(self, name, value, ci_low=math.nan, ci_high=math.nan, n=50):
        self.name, self.value, self.ci_low, self.ci_high, self.n = name, value, ci_low, ci_high, n


@pytest.mark.parametrize(
    ("score", "sensitivity", "verdict"),
    [
        (Value(VRS, 0.0, 0.0, 0.0), 0.0, "ignores the image: none of its 50 answers changes"),
        (Value(VRS, 0.01, -0.02, 0.04), 0.1, "There is no sign that this model uses the image"),
        (
            Value(VRS, 0.2, 0.1, 0.3),
            0.4,
            r"uses the image \(visual reliance score \+0.200, 95% interval \+0.100 to \+0.300",
        ),
        (Value(VRS, -0.09, -0.15, -0.03), 0.4, "scores higher with other samples' images than with the right ones"),
        (Value(VRS, 0.2), 0.4, "is open, because there is no interval"),
    ],
)
def test_the_verdict_is_said_in_words(score, sensitivity, verdict):
    sentences = reliance_sentences([score, Value(SENSITIVITY, sensitivity)])
    assert len(sentences) == 1
    assert re.search(verdict, sentences[0])


def test_retention_and_claims_are_said_after_it():
    values = [Value(VRS, 0, -0.1, 0.1), Value(SENSITIVITY, 0.29), Value(RETENTION, 0.81)]
    values += [Value(CLAIMS, 0.7), Value(HVRR, 0.43)]
    assert reliance_sentences(values)[1:] == [
        "With blank images it keeps 81% of its accuracy.",
        "70% of its responses claim to see something; 43% of all responses do so although the answer stays the same with "
        "another image (hallucinated visual reasoning).",
    ]
    assert len(reliance_sentences([*values[:3], Value(CLAIMS, 0), Value(HVRR, 0)])) == 2
    for share, text in ((1.04, "104%"), (0.995, "99.5%"), (0.004, "0.4%"), (0.0, "0%")):
        assert f"keeps {text} of" in reliance_sentences([*values[:2], Value(RETENTION, share)])[1]
