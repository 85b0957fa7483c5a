import pytest

from medvlp.data.chat.examples import Worded
from medvlp.shards import BadSample, Conversation, Sample, ShardDataset, Turn
from tests.datasets import jpeg, write_split

CASES = [
    ("", "{rationale} The answer: {answer}", "<image>\nQ?", "It is blunted. The answer: yes"),
    ("", "{answer} Because {rationale}", "<image>\nQ?", "yes Because It is blunted."),
    ("{question} Region: {box}", "", "<image>\nQ? Region: [0.10, 0.25, 0.50, 1.00]", "yes"),
    ("Look at {box}: {question}", "{answer}", "<image>\nLook at [0.10, 0.25, 0.50, 1.00]: Q?", "yes"),
]


def worded(tmp_path, question, answer, turns=None, metadata=None):
    turns = turns or [Turn("user", "<image>\nQ?"), Turn("assistant", "yes")]
    known = {"rationale": "It is blunted.", "box": [0.1, 0.25, 0.5, 1.0]} if metadata is None else metadata
    sample = Sample("made__a", images={"jpg": jpeg(1)}, conversations=[Conversation(turns, "7", known)])
    return Worded(ShardDataset(write_split(tmp_path / "train", [sample])), question, answer)


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
    one, other = worded(tmp_path / "a", "", "{answer}."), worded(tmp_path / "b", "", "{answer}!")
    assert one.manifest_hash != other.manifest_hash
    assert one.manifest_hash == worded(tmp_path / "c", "", "{answer}.").manifest_hash
