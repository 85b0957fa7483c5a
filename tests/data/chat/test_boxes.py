"""Boxes of training conversations: in the model's form, of what the processor shows of the image."""

import io

import pytest
from PIL import Image

from medvlp.boxes.forms import BoxStyle
from medvlp.boxes.views import Geometry
from medvlp.data.chat.boxes import WrittenBoxes, tokens_identity
from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.lengths import measure_lengths
from medvlp.data.chat.templates import chat_template
from medvlp.shards import BadSample, Conversation, Sample, ShardDataset, Turn
from tests.data.chat.tiny_tokenizer import tiny_tokenizer
from tests.datasets import write_split

BOX, MIDDLE = [0.0, 0.0, 0.125, 1.0], [0.25, 0.5, 0.75, 1.0]
CROP = Geometry("crop", 32, 32, 32)
PAD = Geometry("pad", 32, 32)


def wide_png():
    file = io.BytesIO()
    Image.new("L", (80, 40), 100).save(file, "PNG")
    return file.getvalue()


WIDE = wide_png()


def sample(*boxes, question="Where is it?", answer="<box>", **metadata):
    turns = [Turn("user", f"<image>\n{question}"), Turn("assistant", answer)]
    metadata = {"answer_type": "boxes", "boxes": list(boxes), **metadata}
    return Sample("made__1__0__0", {"png": WIDE}, conversations=[Conversation(turns, "1", metadata)])


class Shards:
    """Two samples: one to see through every view, one whose second box is at the edge."""

    folder, shards_hash, manifest_hash = None, "", "a hash"
    key, locate = str, divmod

    def __init__(self, *samples):
        self.samples = samples

    def read(self, i):
        return self.samples[i]


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (BoxStyle(), "[0.250, 0.500, 0.750, 1.000]"),
        (BoxStyle("thousandths", CROP), "[0, 500, 1000, 1000]"),  # the middle half of the width is all that is seen
        (BoxStyle("pixels", CROP), "[0, 16, 32, 32]"),
        (BoxStyle("thousandths", PAD), "[250, 500, 750, 750]"),
        (BoxStyle("paligemma", PAD), "<loc0512><loc0256><loc0768><loc0768>"),
        (BoxStyle("qwen2_5_vl", Geometry(factor=8, least=64, most=10**6)), '[{"bbox_2d": [20, 20, 60, 40]}]'),
    ],
)
def test_a_box_is_written_after_what_the_processor_does(style, text):
    (conversation,) = WrittenBoxes(Shards(sample(MIDDLE)), style).read(0).conversations
    assert conversation.turns[-1].text == text
    assert conversation.turns[0].text.startswith("<image>\nWhere is it?\nGive each box as ")


def test_boxes_of_questions_and_in_sentences_are_written_and_others_stay_text():
    written = WrittenBoxes(
        Shards(sample(MIDDLE, BOX, question="Is <box> large?", answer="Yes, as <box>.", answer_type="open")), BoxStyle()
    )
    (conversation,) = written.read(0).conversations
    texts = [turn.text for turn in conversation.turns]
    assert texts == ["<image>\nIs [0.250, 0.500, 0.750, 1.000] large?", "Yes, as [0.000, 0.000, 0.125, 1.000]."]
    plain = Sample("k", conversations=[Conversation([Turn("user", "What is <box>?"), Turn("assistant", "A word")])])
    assert WrittenBoxes(Shards(plain), BoxStyle()).read(0) is plain


@pytest.mark.parametrize(
    ("made", "style", "reason"),
    [
        (sample(BOX), BoxStyle(geometry=CROP), "box_not_seen"),
        (sample(BOX), BoxStyle("qwen2_5_vl"), "no_pixels"),
        (sample(BOX, MIDDLE), BoxStyle(), "box_count"),
        (sample([0, 0, 2, 1]), BoxStyle(), "bad_boxes"),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(made, style, reason):
    with pytest.raises(BadSample) as caught:
        WrittenBoxes(Shards(made), style).read(0)
    assert caught.value.reason == reason


def test_a_box_that_a_crop_cuts_away_is_skipped_and_named_and_the_order_of_samples_is_that_of_the_shards(tmp_path):
    shards = ShardDataset(write_split(tmp_path / "train", [sample(BOX)]))
    dataset = WrittenBoxes(shards, BoxStyle(geometry=CROP))
    tokenizer = tiny_tokenizer("chatml")
    encoder = ChatEncoder(tokenizer, chat_template(tokenizer)[1], tokenizer.convert_tokens_to_ids("<image>"), 2)
    lengths = measure_lengths(dataset, encoder, 500, "split")
    assert [(item.key, item.reason) for item in lengths.skipped] == [("made__1__0__0", "box_not_seen")]
    assert not lengths.faults
    assert dataset.manifest_hash == shards.manifest_hash
    assert tokens_identity("e", BoxStyle()) != tokens_identity("e", BoxStyle("pixels"))
