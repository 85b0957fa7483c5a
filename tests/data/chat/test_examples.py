"""Conversations as examples: every piece in one of them, and all questions of an image together where they fit."""

from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.data.chat.examples import Examples
from medvlp.data.chat.lengths import measure_lengths
from medvlp.data.chat.packing import lay_out
from medvlp.data.chat.splitting import split_long


def lengths_of(dataset, encoder, max_length=500, too_long="split"):
    return measure_lengths(dataset, encoder, max_length, too_long)


@settings(deadline=None, max_examples=20)
@given(st.integers(30, 160), st.booleans())
def test_every_piece_is_in_one_example_and_fits(dataset, encoder, max_length, grouped):
    lengths = lengths_of(dataset, encoder, max_length)
    made = Examples(dataset, lengths, encoder, max_length, grouped)
    assert len({made.key(i) for i in range(len(made))}) == len(made)
    pieces_read = []
    for i, sample in enumerate(made.read(i) for i in range(len(made))):
        whole = [encoder.encode(conversation.turns, 1) for conversation in sample.conversations]
        assert made.conversations[i] == len(whole)
        assert made.supervised[i] == sum(conversation.supervised.sum() for conversation in whole)
        documents = (
            [lay_out(whole, encoder.image_id)]
            if grouped
            else [lay_out([conversation], encoder.image_id) for conversation in whole]
        )
        tokens = sum(len(document.ids_L) for document in documents)
        assert tokens <= made.lengths[i] <= max_length
        assert sample.key == made.key(i)
        assert made.locate(i) == dataset.locate(int(lengths.rows[made.starts[i]]))
        pieces_read += [
            (sample.key.split("#")[0], conversation.id, [turn.text for turn in conversation.turns])
            for conversation in sample.conversations
        ]
        assert len(whole) == 1 or grouped
    expected = []
    for sample in (dataset.read(row) for row in range(len(dataset))):
        for conversation in sample.conversations:
            pieces, _ = split_long(conversation.turns, 1, encoder, max_length)
            expected += [(sample.key, conversation.id, [turn.text for turn in piece]) for piece in pieces]
    assert pieces_read == expected


def test_all_questions_of_an_image_are_one_example_where_they_fit(dataset, encoder):
    lengths = lengths_of(dataset, encoder)
    made = Examples(dataset, lengths, encoder, 500, grouped=True)
    assert made.conversations.tolist() == [1 + row % 3 for row in range(9)]
    exact = [
        len(
            lay_out(
                [encoder.encode(conversation.turns, 1) for conversation in dataset.read(row).conversations],
                encoder.image_id,
            ).ids_L
        )
        for row in range(9)
    ]
    assert made.lengths.tolist() == exact
    alone = Examples(dataset, lengths, encoder, 500, grouped=False)
    assert alone.lengths.tolist() == lengths.tokens.tolist()
    assert alone.manifest_hash != made.manifest_hash  # another order of other examples
    assert made.manifest_hash == Examples(dataset, lengths, encoder, 500, grouped=True).manifest_hash
