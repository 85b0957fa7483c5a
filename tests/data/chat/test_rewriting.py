"""Captions as answers, questions and answers in other words."""

import pytest

from medvlp.data.chat.lengths import cached_lengths
from medvlp.data.chat.rewriting import CaptionQuestions, RewordedConversations
from medvlp.shards import BadSample, Conversation, Sample, ShardDataset, Turn
from tests.data.chat.dialogues import talk
from tests.datasets import jpeg, pairs, write_split

CASES = [
    ("", "{rationale} The answer: {answer}", "<image>\nQ?", "It is blunted. The answer: yes"),
    ("", "{answer} Because {rationale}", "<image>\nQ?", "yes Because It is blunted."),
    ("{question} Sizes: {sizes}", "", "<image>\nQ? Sizes: [0.10, 12.00]", "yes"),
    ("Of {sizes}: {question}", "{answer}", "<image>\nOf [0.10, 12.00]: Q?", "yes"),
]


def worded(tmp_path, question, answer, turns=None, metadata=None):
    turns = turns or [Turn("user", "<image>\nQ?"), Turn("assistant", "yes")]
    fields = {"rationale": "It is blunted.", "sizes": [0.1, 12.0]} if metadata is None else metadata
    sample = Sample("made__a", images={"jpg": jpeg(1)}, conversations=[Conversation(turns, "7", fields)])
    return RewordedConversations(ShardDataset(write_split(tmp_path / "train", [sample])), question, answer)


@pytest.mark.parametrize(("question", "answer", "asked", "answered"), CASES)
def test_questions_and_answers_in_other_words(tmp_path, question, answer, asked, answered):
    (conversation,) = worded(tmp_path, question, answer).read(0).conversations
    assert [turn.text for turn in conversation.turns] == [asked, answered]


def test_the_last_pair_only_and_values_are_no_templates(tmp_path):
    turns = [Turn("user", "<image>\nA?"), Turn("assistant", "a"), Turn("user", "B?"), Turn("assistant", "{rationale}")]
    (conversation,) = worded(tmp_path, "Then {question}", "{answer}!", turns).read(0).conversations
    assert [turn.text for turn in conversation.turns] == ["<image>\nA?", "a", "Then B?", "{rationale}!"]


def test_a_field_that_is_not_there_is_a_bad_sample_by_name(tmp_path):
    with pytest.raises(BadSample, match=r"missing_field in made__a: conversation 7: no 'rationale' in its metadata"):
        worded(tmp_path, "", "{rationale} {answer}", metadata={}).read(0)


def test_another_wording_is_another_dataset(tmp_path):
    first, second = worded(tmp_path / "a", "", "{answer}."), worded(tmp_path / "b", "", "{answer}!")
    assert first.manifest_hash != second.manifest_hash
    assert first.manifest_hash == worded(tmp_path / "c", "", "{answer}.").manifest_hash


QUESTIONS = ["What does the image show?", "Describe it.", "What is seen?"]


def asked(folder, samples, fields=("caption",), questions=QUESTIONS):
    return CaptionQuestions(ShardDataset(write_split(folder / "train", samples)), fields, questions)


def test_captions_become_answers_to_a_question_that_stays(tmp_path):
    many = asked(tmp_path / "many", pairs(40))
    few = asked(tmp_path / "few", pairs(12)[4:])
    said = {}
    for i in range(len(many)):
        sample = many.read(i)
        (made,) = sample.conversations
        question, answer = made.turns
        assert (question.role, answer.role, answer.text) == ("user", "assistant", sample.texts["caption"])
        assert question.text.startswith("<image>\n")
        said[sample.key] = question.text.removeprefix("<image>\n")
    assert set(said.values()) == set(QUESTIONS)
    for i in range(len(few)):  # in whatever company
        assert few.read(i).conversations[0].turns[0].text == "<image>\n" + said[few.key(i)]
    assert said["made__a0000__f1__0"] == QUESTIONS[0]  # and in every version of the package


def test_several_texts_are_asked_for_one_by_one_and_conversations_are_left_alone(tmp_path):
    first, second, third = pairs(3)
    first.texts |= {"findings": " a nodule\n", "impression": "  "}
    second.conversations = [Conversation(talk("Is it large?", "yes"), "own")]
    third.texts, third.images = {}, {}
    data = asked(tmp_path, [first, second, third], ("findings", "impression", "caption"))
    assert [(conversation.id, conversation.turns[1].text) for conversation in data.read(0).conversations] == [
        ("findings", "a nodule"),
        ("caption", first.texts["caption"]),
    ]
    assert data.read(1).conversations == second.conversations
    assert data.read(2).conversations == []


def test_another_question_is_other_data(tmp_path, encoder):
    shards = ShardDataset(write_split(tmp_path / "train", pairs(6)))
    first = CaptionQuestions(shards, ["caption"], QUESTIONS)
    second = CaptionQuestions(shards, ["caption"], [*QUESTIONS, "Why?"])
    assert len({shards.manifest_hash, first.manifest_hash, second.manifest_hash}) == 3
    for data in (first, second):
        cached_lengths(data, encoder, 500, "split", "a")
    assert len(list((tmp_path / "train").glob(".lengths-*.npz"))) == 2
