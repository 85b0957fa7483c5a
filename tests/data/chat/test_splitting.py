from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.data.chat.splitting import split_long
from medvlp.shards.vocabulary import IMAGE_TOKEN
from tests.data.chat.test_encoder import CHATML, conversations, dialogue, length


def test_what_fits_is_not_split():
    turns = dialogue(f"{IMAGE_TOKEN}\nIs it?", "Yes.", "Where?", "Left.")
    assert split_long(turns, 1, CHATML, length(turns, 1)) == ([turns], 0)


def test_pieces_keep_the_system_turn_and_every_image():
    turns = dialogue(
        f"Look: {IMAGE_TOKEN}\nIs it?", "Yes.", f"And {IMAGE_TOKEN}here?", "No.", "Sure?", "Yes.", system="Be brief."
    )
    pieces, dropped = split_long(turns, 2, CHATML, length(turns, 2) - 1)
    both = f"{IMAGE_TOKEN}\n{IMAGE_TOKEN}\n"
    assert pieces == [
        dialogue(f"{both}Look: Is it?", "Yes.", "And here?", "No.", system="Be brief."),
        dialogue(f"{both}Sure?", "Yes.", system="Be brief."),
    ]
    assert dropped == 0


def test_a_pair_that_is_too_long_alone_is_dropped_and_counted():
    turns = dialogue("A?", "1.", "B?", "very long " * 40, "C?", "3.", "D?", "4.")
    assert split_long(turns, 0, CHATML, 60) == ([dialogue("A?", "1."), dialogue("C?", "3.", "D?", "4.")], 1)
    assert split_long(turns, 0, CHATML, 3) == ([], 4)


@settings(max_examples=30, deadline=None)
@given(drawn=conversations(pairs=5), max_length=st.integers(10, 120))
def test_splitting_loses_only_what_it_counts(drawn, max_length):
    turns, images = drawn
    pieces, dropped = split_long(turns, images, CHATML, max_length)
    assert all(length(piece, images) <= max_length for piece in pieces)  # which also checks the placeholders
    answers = [turn.text for piece in pieces for turn in piece[1::2]]
    assert len(answers) + dropped == len(turns) // 2
    expected = iter(turn.text for turn in turns[1::2])
    assert all(answer in expected for answer in answers)  # in the same order
    too_long = 0
    for question, answer in zip(turns[0::2], turns[1::2], strict=True):
        words = question.text.replace(f"{IMAGE_TOKEN}\n", "")
        too_long += length(dialogue(f"{IMAGE_TOKEN}\n" * images + words, answer.text), images) > max_length
    assert dropped == too_long
