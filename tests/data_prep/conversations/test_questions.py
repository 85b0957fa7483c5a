import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.conversations.questions import (
    QuestionRow,
    answer_type_of,
    ask,
    choose,
    gather,
    member_names,
    yes_no_is_closed,
)
from data_prep.errors import BadRow
from data_prep.readers.fields import text_of
from data_prep.readers.image_files import image_format
from data_prep.source import Dropped
from medvlp.shards import Conversation, Turn

NAMES = st.sampled_from([(), ("a",), ("b",), ("a", "b"), ("b", "a")])


@given(st.lists(st.one_of(NAMES, st.none())))
def test_gathering(plan):
    """Nothing is lost or doubled; groups stand at their first row, and rows in a group keep their order."""
    rows = [
        Dropped(str(n), "bad", "") if names is None else QuestionRow(str(n), names, "", Conversation([]))
        for n, names in enumerate(plan)
    ]
    gathered = gather(rows)
    groups = [[item] if isinstance(item, Dropped) else item for item in gathered]
    assert sorted(int(row.name) for group in groups for row in group) == list(range(len(rows)))
    assert all([int(row.name) for row in group] == sorted(int(row.name) for row in group) for group in groups)
    firsts = [int(group[0].name) for group in groups]
    assert firsts == sorted(firsts)
    images = [group[0].images for group in gathered if not isinstance(group, Dropped) and group[0].images]
    assert len(images) == len(set(images))
    assert all(len(group) == 1 for group in gathered if not isinstance(group, Dropped) and not group[0].images)


@given(st.lists(st.sampled_from(["jpg", "png", "webp"]), max_size=120))
def test_names_of_members_sort_in_the_order_of_the_images(extensions):
    names = member_names(extensions)
    assert names == sorted(names)
    assert [name.rpartition(".")[2] for name in names] == extensions


def test_names_of_members():
    assert member_names(["png"]) == ["png"]
    assert member_names(["jpg", "png"]) == ["0.jpg", "1.png"]
    assert member_names(["jpg"] * 11)[-2:] == ["09.jpg", "10.jpg"]


def test_ask_leaves_out_what_is_not_known():
    conversation = ask("Where?", "Here.", None, {"language": "en", "question_type": "", "triple": None})
    assert conversation == Conversation(
        [Turn("user", "<image>\nWhere?"), Turn("assistant", "Here.")], None, {"language": "en"}
    )


@pytest.mark.parametrize(("question", "answer"), [("<image>?", "x"), ("x", "the <image>")])
def test_ask_refuses_a_placeholder_in_the_publishers_text(question, answer):
    with pytest.raises(BadRow) as caught:
        ask(question, answer, None, {})
    assert caught.value.reason == "placeholder_count"


OPTIONS = {"A": "Cyst", "B": "Abscess", "C": "cyst"}


@pytest.mark.parametrize(
    ("letter", "answer", "expected"),
    [("B", "abscess", "B"), ("B", "", "B"), ("", "Abscess", "B"), ("", "cyst", "A"), ("C", "Cyst", "C")],
)
def test_choose(letter, answer, expected):
    text, metadata = choose(OPTIONS, letter, answer)
    assert text == OPTIONS[expected]
    assert metadata == {"answer_type": "multiple_choice", "options": OPTIONS, "answer_letter": expected}


@pytest.mark.parametrize(("letter", "answer"), [("A", "Abscess"), ("D", ""), ("", "tumour"), ("a", "Cyst")])
def test_answers_that_are_no_option(letter, answer):
    with pytest.raises(BadRow) as caught:
        choose(OPTIONS, letter, answer)
    assert caught.value.reason == "answer_mismatch"
    assert str(OPTIONS) in caught.value.detail


@pytest.mark.parametrize(
    ("answer", "kind"), [("yes", "closed"), ("No", "closed"), ("yes, both", "open"), ("none", "open"), ("", "open")]
)
def test_answer_types_where_none_is_published(answer, kind):
    assert yes_no_is_closed(answer) == kind


@pytest.mark.parametrize(("published", "kind"), [("OPEN", "open"), ("CLOSED ", "closed"), (" Open", "open")])
def test_published_answer_types(published, kind):
    assert answer_type_of({"answer_type": published}) == kind


@pytest.mark.parametrize(
    ("value", "text"), [(" two words ", "two words"), (4, "4"), (0, "0"), (-1.5, "-1.5"), ("é", "é"), ("0", "0")]
)
def test_texts(value, text):
    assert text_of({"answer": value}, "answer") == text


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({}, "missing_choice_a"),
        ({"Choice A": None}, "missing_choice_a"),
        ({"Choice A": "\t"}, "empty_choice_a"),
        ({"Choice A": True}, "bad_choice_a"),
        ({"Choice A": float("inf")}, "bad_choice_a"),
        ({"Choice A": {}}, "bad_choice_a"),
        ({"Choice A": "caf\udce9"}, "not_utf8"),
    ],
)
def test_values_that_are_no_text(entry, reason):
    with pytest.raises(BadRow) as caught:
        text_of(entry, "Choice A")
    assert caught.value.reason == reason
    assert "Choice A" in caught.value.detail


@pytest.mark.parametrize(
    ("data", "extension"),
    [
        (b"\xff\xd8\xff\xe0rest", "jpg"),
        (b"\x89PNG\r\n\x1a\nrest", "png"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", None),
        (b"GIF89a", None),
        (b"II*\x00", None),
        (b"", None),
    ],
)
def test_formats_by_content(data, extension):
    assert image_format(data) == extension
