"""The gallery of an error check."""

from medvlp.report.run.details import EXAMPLES
from medvlp.report.run.error_check import error_examples
from medvlp.report.thumbnails import Thumbnails
from medvlp.shards import ShardDataset

TRUE, RIGHT = (
    {"has_error": True, "sentence": 1, "correction": "A right one."},
    {"has_error": False, "sentence": None, "correction": ""},
)
SENTENCES = {"1": "A left one.", "2": "Clear lungs."}


def record(number, verdict, truth, **more):
    return {
        "id": f"figures__a1#{number}", "question": "0 Large.\n1 A left one.\n2 Clear lungs.", "prediction": "a reply",
        "target": "1 A right one.", "verdict": verdict, "truth": truth, "sentences": SENTENCES, "controls": {},
        "scores": {"flag_accuracy": 1.0}, **more,
    }  # fmt: skip


RECORDS = [
    record(0, TRUE, TRUE),
    record(1, {"has_error": True, "sentence": 2, "correction": "Dark lungs."}, TRUE),
    record(2, {"has_error": True, "sentence": None, "correction": ""}, TRUE),
    record(3, RIGHT, TRUE),
    record(4, {"has_error": True, "sentence": 2, "correction": ""}, RIGHT),
    record(5, RIGHT, RIGHT),
    record(6, None, TRUE, extraction={"rule": "refusal"}),
]


def test_a_reply_stands_next_to_the_sentence_that_it_names_and_the_right_one(prepared):
    thumbnails = Thumbnails(str(prepared / "test"), ShardDataset(prepared / "test").manifest_hash, None)
    galleries = dict(error_examples(RECORDS, {}, thumbnails).questions)
    assert {title: len(rows) for title, rows in galleries.items()} == {
        "Error found, in its sentence": 1,
        "Error seen, in another sentence or in none": 2,
        "Error overlooked": 1,
        "Right text, said to have an error": 1,
        "Right text, said to be right": 1,
        "No verdict that can be read": 1,
    }
    words = {title: [example.words for example in rows] for title, rows in galleries.items()}
    right = ("Right", "an error in sentence 1: A left one.")
    correction = ("Right correction", "A right one.")
    assert [
        ("Read as", "an error in sentence 2: Clear lungs."),
        right,
        ("Its correction", "Dark lungs."),
        correction,
    ] in words["Error seen, in another sentence or in none"]
    assert [("Read as", "an error, in no sentence that is named"), right, correction] in words[
        "Error seen, in another sentence or in none"
    ]
    assert words["Error overlooked"] == [[("Read as", "the text is right"), right, correction]]
    assert words["Right text, said to have an error"] == [
        [("Read as", "an error in sentence 2: Clear lungs."), ("Right", "the text is right")]
    ]
    assert words["No verdict that can be read"] == [[("Read as", "no verdict: refusal"), right, correction]]
    assert len(dict(error_examples(RECORDS * 9, {}, thumbnails, 3).questions)["Error overlooked"]) == 3
    assert error_examples(RECORDS, {}, None).questions == []


def test_shapes_of_records():
    problem_of = EXAMPLES["error_check"].problem_of
    assert [problem_of(row) for row in RECORDS] == [""] * len(RECORDS)
    older = {name: value for name, value in RECORDS[0].items() if name != "sentences"}
    assert problem_of(older) == ""
    assert "truth is" in problem_of({**RECORDS[0], "truth": {"has_error": 1, "sentence": 1, "correction": ""}})
    assert "sentences is" in problem_of({**RECORDS[0], "sentences": {"1": 2}})
