"""Fields of items, and of the records of every kind of task."""

import math

import pytest

from medvlp.config import ConfigError
from medvlp.config.evaluation.groupings import parse_groupings
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.embeddings import CachedEncoder
from medvlp.eval.retrieval.image_text import Retrieval
from medvlp.eval.statistics.fields import check_fields, fields_of
from medvlp.eval.vqa.questions import QuestionFilter, question_of
from medvlp.eval.zero_shot import ZeroShot
from medvlp.shards import BadSample, Conversation, Turn
from tests.eval.colour_world import ColourEncoder, FakeDataset, sample


@pytest.mark.parametrize(
    ("mappings", "expected"),
    [
        (({"sex": "F", "age": 41, "inverted": False},), {"age": 41, "inverted": False, "sex": "F"}),
        (({"modality": "unknown"}, {"modality": "CT"}), {"modality": "CT"}),
        (({"modality": "CT"}, {"modality": None}), {"modality": "CT"}),
        (({"concepts": ["C1"], "report": "x" * 201, "note": " ", "width": math.nan},), {}),
        (({"count": 2**63, "low": -(2**63)},), {"low": -(2**63)}),
        (({"site": "x" * 200, "group": "p1", "group_kind": "patient"},), {"site": "x" * 200}),
    ],
)
def test_scalars_are_fields(mappings, expected):
    assert fields_of(*mappings) == expected


def test_records_carry_labels_and_metadata():
    rows = [sample("a", "red", "p1", "red", hue="red"), sample("b", "green", "p2", "green", hue="green")]
    rows[0].metadata |= {"sex": "F", "hue": "not this"}
    quick = Bootstrap(resamples=0)
    classes = {"red": ["red"], "green": ["green"]}
    for task in (
        ZeroShot("hues", FakeDataset(rows), "hue", classes, ["{}"], quick),
        Retrieval("captions", FakeDataset(rows), bootstrap=quick),
    ):
        records = task.run(CachedEncoder(ColourEncoder(), 4, 0, 10_000)).records
        expected = [{"hue": "red", "sex": "F"}, {"hue": "green"}]
        assert [record["fields"] for record in records] == expected * (len(records) // 2)


def test_a_class_may_be_metadata():
    rows = [sample("a", "red"), sample("b", "green")]
    for row, organ in zip(rows, ("HEAD", "CHEST"), strict=True):
        row.metadata["organ"] = organ
    task = ZeroShot("organs", FakeDataset(rows), "organ", {"HEAD": ["red"], "CHEST": ["green"]}, ["{}"], Bootstrap(0))
    task.check()
    result = task.run(CachedEncoder(ColourEncoder(), 4, 0, 10_000))
    assert [record["target"] for record in result.records] == ["HEAD", "CHEST"]
    assert result.metrics[0].value == 1


def test_a_question_has_its_metadata_and_its_answer_type():
    turns = [Turn("user", "Is it a lung?"), Turn("assistant", "yes")]
    question = question_of(
        "a#0", Conversation(turns, None, {"question_type": "ORGAN", "options": {}}), QuestionFilter()
    )
    assert question.fields == {"answer_type": "closed", "question_type": "ORGAN"}


def test_a_field_that_no_data_have_is_refused_before_anything_runs():
    rows = [BadSample("undecodable_image"), sample("a", "red", hue="red"), sample("b", "red", "p1")]
    rows[2].metadata["patient_sex"] = "F"
    for row in rows[1:]:
        row.conversations = []
    rows[1].conversations.append(Conversation([], None, {"question_type": "SIZE"}))
    dataset = FakeDataset(rows)
    check_fields([dataset], parse_groupings(["hue", "patient_sex", "question_type", "answer_type"]))
    check_fields([dataset], [])
    message = r"patient_sx: no sample of .* has .*did you mean .patient_sex.\?.* Fields there: answer_type, hue,"
    with pytest.raises(ConfigError, match=message):
        check_fields([dataset, FakeDataset([rows[1]])], parse_groupings(["hue", "patient_sx"]))
