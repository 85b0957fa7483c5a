"""Verdicts of judges as a page shows them."""

import pytest

from medvlp.report.run.judging import folded_verdicts, verdict_words


@pytest.mark.parametrize(
    ("verdict", "words", "responses"),
    [
        ({"grade": "correct", "reply": "Grade: correct"}, "correct", ["Grade: correct"]),
        ({"grade": "incorrect", "probabilities": {"incorrect": 0.75}}, "incorrect (0.75)", []),
        ({"grade": None, "reply": "Well."}, "no verdict that can be read", ["Well."]),
        (
            {"scores": [[9, 7.5], [8, 8]], "responses": ["9 7.5", "8 8"]},
            "7.5 for the answer, 9 for the right one; 8 for the answer, 8 for the right one",
            ["9 7.5", "8 8"],
        ),
        ({"scores": "x", "probabilities": 3, "responses": 4, "reply": 5}, "no verdict that can be read", []),
    ],
)
def test_a_verdict_and_its_words(verdict, words, responses):
    assert verdict_words({"judge": verdict}) == [("Judge", words)]
    assert verdict_words({"second_judge": verdict}) == [("Second judge", words)]
    assert [texts for _, texts in folded_verdicts({"judge": verdict})] == [responses] * bool(responses)
    assert verdict_words({}) == folded_verdicts({}) == []
