"""Replies about a text of four sentences: what a careful reader reads."""

import pytest

from medvlp.eval.error_check.verdicts import CORRECT, Verdict, read_verdict

SENTENCES = {
    0: "The heart is large.",
    1: "8 mg of insulin were given.",
    8: "There is a left effusion.",
    9: "The lungs are clear.",
}
FIX = Verdict(True, 8, "There is a right effusion.")
LISTED = "0 The heart is large.\n1 8 mg of insulin were given.\n8 {}\n9 The lungs are clear."


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        # the form that MEDEC's prompt asks for
        ("CORRECT", CORRECT),
        ("Correct.", CORRECT),
        ("**CORRECT**\n\nEvery sentence agrees with the others.", CORRECT),
        ("8 There is a right effusion.", FIX),
        ("8. There is a right effusion.", FIX),
        ('8 "There is a right effusion."', FIX),
        ("Sentence 8: There is a right effusion.", FIX),
        ("8 There is a right effusion.\n\nExplanation: the side is wrong.", FIX),
        ("<think>9 The lungs are not clear. No.</think>8 There is a right effusion.", FIX),
        ("Final answer: 8 There is a right effusion.", FIX),
        ("The side contradicts the history.\nAnswer: CORRECT", CORRECT),
        (r"\boxed{8 There is a right effusion.}", FIX),
        # MEDIQA-CORR's line of a submission
        ("ms-test-3 1 8 There is a right effusion.", FIX),
        ("ms-test-3 0 -1 NA", CORRECT),
        ("0 -1 NA", CORRECT),
        ("1 9 The lungs are not clear.", Verdict(True, 9, "The lungs are not clear.")),
        ("1 8 mg of glucose were given.", None),  # a flag and sentence 8, or sentence 1?
        # objects and labels
        ('{"error_flag": 1, "error_sentence_id": 8, "corrected_sentence": "There is a right effusion."}', FIX),
        ('```json\n{"error": 1, "sentence": "There is a left effusion.", "corrected": "There is a right effusion."}\n```', FIX),
        ('{"has_error": false, "sentence_id": -1, "corrected_sentence": "NA"}', CORRECT),
        ('{"is_correct": "yes"}', CORRECT),
        ('{"error_flag": 0, "sentence_id": 8, "corrected_sentence": "There is a right effusion."}', None),
        ("Error Flag: 1\nError Sentence ID: 8\nCorrected Sentence: There is a right effusion.", FIX),
        ("Error flag: 0\nSentence ID: -1\nCorrected sentence: NA", CORRECT),
        # yes and no, and a number alone
        ("Yes.", Verdict(True)),
        ("No, there is no medical error.", CORRECT),
        ("There are no errors in the text.", CORRECT),
        ("All sentences are correct.", CORRECT),
        ("The caption is not correct.", Verdict(True)),
        ("The sentence is correct.", None),  # which of four?
        ("Sentence 8", Verdict(True, 8)),
        ("-1", CORRECT),
        ("1", None),
        # the text repeated: the line that differs
        (LISTED.format("There is a right effusion."), FIX),
        (LISTED.format("There is a left effusion."), None),
        ("8 There is a right effusion.\n9 The lungs are not clear.", None),
        # what says nothing, or not this
        ("", None),
        ("2 errors were found in the text.", None),
        ("8 findings are wrong.", None),
        ("Sentence 8 contains an error about the side of an effusion.", None),
        ("I cannot help with medical advice.", None),
        ("The patient has pneumonia.", None),
        ("77 There is a right effusion.", None),
        ("没有错误", None),
    ],
)  # fmt: skip
def test_verdicts(reply, expected):
    extraction = read_verdict(reply, SENTENCES)
    assert extraction.answer == expected
    assert 0 <= extraction.start <= extraction.end <= len(reply)


def test_what_has_two_readings_says_so():
    assert read_verdict("1 8 mg of glucose were given.", SENTENCES).rule == "contradiction"
    assert read_verdict("I cannot help with medical advice.", SENTENCES).rule == "refusal"
    alone = {1: "8 mg of insulin were given."}  # no sentence 8: the flag reading is none
    assert read_verdict("The sentence is CORRECT.", alone).answer == CORRECT
    assert read_verdict("The sentence is incorrect.", alone).answer == Verdict(True)
    assert read_verdict("The sentence is incorrect. It should read: 8 units.", alone).answer == Verdict(True)
    assert read_verdict("The sentence is incorrect. It should read: 8 units.", SENTENCES).answer is None
    assert read_verdict("1 8 mg of glucose were given.", alone).answer == Verdict(
        True, 1, "8 mg of glucose were given."
    )
