"""Open questions as multiple choice: which options are drawn, and in which order."""

import random

import pytest

from data_prep.conversations.drawn_options import folded, kind_of, with_options
from data_prep.errors import PrepError
from data_prep.source import Dropped
from data_prep.sources import open_source
from medvlp.shards import Conversation, Turn
from tests.data_prep.sources.questions import test_vqa_rad

ANSWERS = ["Left lung", "Right kidney", "the liver", "Pancreas", "pancreas.", "Right", "yes", "cecum", ""]
POSITION = {"question_type": "POS", "answer_type": "open"}


def question(answer, id="7", **metadata):
    return Conversation([Turn("user", "<image>\nWhere?"), Turn("assistant", answer)], id, {**POSITION, **metadata})


def pools_of(answers):
    pools = {}
    for answer in answers:
        pools.setdefault(kind_of(question(answer)), {}).setdefault(folded(answer), answer)
    return pools


def test_options_are_other_answers_that_share_no_word():
    exam = with_options(question("Right lung"), pools_of(ANSWERS), 3)
    options = exam.metadata["options"]
    assert list(options) == ["A", "B", "C", "D"]
    assert set(options.values()) == {"Right lung", "the liver", "Pancreas", "cecum"}  # not Left lung, Right kidney, yes
    assert options[exam.metadata["answer_letter"]] == exam.turns[-1].text == "Right lung"
    assert (exam.metadata["answer_type"], exam.metadata["drawn_from"]) == ("multiple_choice", "open")
    assert with_options(question("Right lung"), pools_of(ANSWERS), 4) is None


def test_what_is_drawn_does_not_depend_on_the_order_of_the_answers():
    answers = [f"place{number}" for number in range(40)]
    shuffled = random.Random(3).sample(answers, len(answers))
    exams = [with_options(question("liver"), pools_of(order), 3) for order in (answers, shuffled)]
    assert exams[0] == exams[1]
    more = with_options(question("liver"), pools_of(answers), 5).metadata["options"].values()
    assert set(exams[0].metadata["options"].values()) < set(more)
    letters = [
        with_options(question("liver", str(n)), pools_of(answers), 3).metadata["answer_letter"] for n in range(400)
    ]
    assert all(75 < letters.count(letter) < 125 for letter in "ABCD")


@pytest.mark.parametrize("answer", ["Yes", "no."])
def test_yes_and_no_are_the_two_options(answer):
    exam = with_options(question(answer), {}, 3)
    assert sorted(exam.metadata["options"].values()) == ["no", "yes"]
    assert exam.turns[-1].text == exam.metadata["options"][exam.metadata["answer_letter"]] == folded(answer)


def test_a_source_draws_from_all_its_splits_and_names_what_it_cannot_ask(tmp_path):
    row = {**test_vqa_rad.ROW, "answer_type": "OPEN", "question_type": "POS"}
    train = [{**row, "qid": number, "answer": answer} for number, answer in enumerate(("lung", "brain", "liver"))]
    test = [{**row, "qid": 10, "answer": "kidney"}, {**row, "qid": 11, "answer": "12 cm", "question_type": "SIZE"}]
    folder = test_vqa_rad.write(tmp_path, train, test)
    source = open_source("vqa_rad", str(folder), options={"distractors": 3})
    assert source.options()["distractors"] == 3
    items = [item for unit in source.units() if unit.split == "test" for item in source.read(unit)]
    sample, drop = items
    assert set(sample.conversations[0].metadata["options"].values()) == {"lung", "brain", "liver", "kidney"}
    assert isinstance(drop, Dropped)
    assert (drop.reason, "qid 11" in drop.name) == ("few_options", True)
    assert "distractors" not in open_source("vqa_rad", str(folder)).options()
    with pytest.raises(PrepError, match=r"options\.distractors=26, expected 0 to 25"):
        open_source("vqa_rad", str(folder), options={"distractors": 26})
