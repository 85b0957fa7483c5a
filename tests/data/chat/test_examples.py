"""Token lengths kept beside the shards, conversations as examples, captions as answers, images in their order."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medvlp.data.chat import lengths
from medvlp.data.chat.encoder import ChatEncoder, split_long
from medvlp.data.chat.examples import Asked, Examples
from medvlp.data.chat.images import Processed
from medvlp.data.chat.lengths import COLUMNS, LeftOut, measure, measured
from medvlp.data.chat.packing import lay_out, shared_prefix
from medvlp.data.chat.templates import chat_template
from medvlp.shards import BadSample, Conversation, Sample, ShardDataset, ShardError, Turn
from tests.assistants import vqa_samples
from tests.data.chat.tiny_tokenizer import tiny_tokenizer
from tests.datasets import jpeg, pairs, write_split

TOKENS = 4


@pytest.fixture(scope="module")
def encoder():
    tokenizer = tiny_tokenizer("chatml")
    _, template = chat_template(tokenizer)
    return ChatEncoder(tokenizer, template, tokenizer.convert_tokens_to_ids("<image>"), TOKENS)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return ShardDataset(write_split(tmp_path_factory.mktemp("made") / "train", vqa_samples(9)))


def lengths_of(dataset, encoder, max_length=500, too_long="split"):
    return measure(dataset, encoder, max_length, too_long, shared_prefix)


def equal(one, other):
    same = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)
    return same and (one.left_out, one.faults) == (other.left_out, other.faults)


# --- lengths ----------------------------------------------------------------------------------------------------------


def test_lengths_are_those_of_the_encoded_conversations(dataset, encoder):
    lengths = lengths_of(dataset, encoder)
    expected = []
    for row in range(len(dataset)):
        sample = dataset.read(row)
        whole = [encoder.encode(one.turns, 1) for one in sample.conversations]
        shared = shared_prefix(whole)
        expected += [(row, i, -1, len(one.ids), one.supervised.sum(), shared) for i, one in enumerate(whole)]
        assert shared >= TOKENS + 3 or len(whole) == 1  # <|im_start|>, the role, and the image
    assert list(zip(*(getattr(lengths, name) for name in COLUMNS), strict=True)) == expected
    assert (lengths.left_out, lengths.faults) == ([], [])


@pytest.fixture
def folder(tmp_path):
    return write_split(tmp_path / "train", vqa_samples(5))


class Deaf:
    """An encoder that must not be asked."""

    def encode(self, *args):
        raise AssertionError("measured again")


class Sparing:
    """An encoder that counts what it is asked."""

    def __init__(self, encoder):
        self.encoder, self.asked = encoder, 0

    def encode(self, *args):
        self.asked += 1
        return self.encoder.encode(*args)


def encodings(folder, encoder, **options):
    """What it takes to measure all."""
    sparing = Sparing(encoder)
    lengths_of(ShardDataset(folder), sparing, **options)
    return sparing.asked


def keep(folder, encoder, max_length=500, too_long="split", identity="a"):
    return measured(ShardDataset(folder), encoder, max_length, too_long, shared_prefix, identity)


def kept(folder):
    return sorted(folder.glob(".lengths-*.npz"))


def test_lengths_are_kept_beside_the_shards_and_used_again(folder, encoder):
    first = keep(folder, encoder, max_length=48)
    assert first.left_out
    assert len(kept(folder)) == 1
    sparing = Sparing(encoder)
    assert equal(keep(folder, sparing, max_length=48), first)
    assert 0 < sparing.asked < encodings(folder, encoder, max_length=48)
    assert equal(lengths_of(ShardDataset(folder), encoder, 48), first)


@pytest.mark.parametrize("change", [{"max_length": 47}, {"too_long": "drop"}, {"identity": "b"}], ids=str)
def test_what_lengths_depend_on_names_their_file(folder, encoder, change):
    keep(folder, encoder)
    with pytest.raises(AssertionError, match="measured again"):
        keep(folder, Deaf(), **change)
    keep(folder, encoder, **change)
    assert len(kept(folder)) == 2


def test_other_data_have_lengths_of_their_own(folder, encoder, tmp_path):
    keep(folder, encoder)
    other = write_split(tmp_path / "other/train", vqa_samples(6))
    (kept_file,) = kept(folder)
    (other / kept_file.name).write_bytes(kept_file.read_bytes())
    assert len(set(keep(other, encoder).rows)) == 6


def resaved(content, **changed):
    """The table's file with other arrays; None leaves one out."""
    with np.load(io.BytesIO(content)) as file:
        arrays = {**dict(file), **changed}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: value for name, value in arrays.items() if value is not None})
    return buffer.getvalue()


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


DAMAGED = {
    "empty": lambda content: b"",
    "garbage": lambda content: b"no table",
    "cut off": lambda content: content[: len(content) // 2],
    "its end cut off": lambda content: content[:-1],
    "one byte": lambda content: flipped(content, len(content) // 2),
    "a column missing": lambda content: resaved(content, tokens=None),
    "a column too short": lambda content: resaved(content, tokens=np.zeros(1)),
    "rows of other data": lambda content: resaved(content, rows=np.full(9, 99)),
    "rows below 0": lambda content: resaved(content, rows=np.full(9, -1)),
    "tokens below 0": lambda content: resaved(content, tokens=np.full(9, -1)),
    "text for numbers": lambda content: resaved(content, tokens=np.full(9, "x")),
    "a pickle": lambda content: resaved(content, tokens=np.array([{}] * 9, object)),
    "notes that are no list": lambda content: resaved(content, left_out=np.array("1")),
    "notes of something else": lambda content: resaved(content, faults=np.array('[{"what": 1}]')),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_measured_anew_and_replaced(folder, encoder, damage):
    first = keep(folder, encoder)
    assert len(first.rows) == 9
    (path,) = kept(folder)
    good = path.read_bytes()
    path.write_bytes(damage(good))
    assert equal(keep(folder, encoder), first)
    sparing = Sparing(encoder)
    assert equal(keep(folder, sparing), first)
    assert 0 < sparing.asked < encodings(folder, encoder)


FORGED = {
    "answers that are not trained on": lambda content: resaved(content, supervised=np.zeros(9, np.int64)),
    "shorter than they are": lambda content: resaved(content, tokens=np.ones(9, np.int64)),
    "samples that are left out": lambda content: resaved(
        content,
        **{name: np.load(io.BytesIO(content))[name][:-3] for name in COLUMNS},
        left_out=np.array('[{"key": "made__other", "conversation": "", "reason": "too_long", "detail": ""}]'),
    ),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_table_is_not_believed_of_conversations_that_say_otherwise(folder, encoder, forge, capsys):
    first = keep(folder, encoder)
    (path,) = kept(folder)
    path.write_bytes(forge(path.read_bytes()))
    assert equal(keep(folder, encoder), first)
    assert "does not hold the token lengths of these conversations; they are measured anew" in capsys.readouterr().out


def test_no_wrong_byte_is_trusted(folder, encoder):
    first = keep(folder, encoder)
    (path,) = kept(folder)
    good = path.read_bytes()
    for place in range(0, len(good), 31):
        path.write_bytes(flipped(good, place))
        assert equal(keep(folder, encoder), first)


def test_where_nothing_can_be_written_lengths_are_measured_in_each_run(folder, encoder, monkeypatch, capsys):
    def refuse(path, content):
        raise ShardError(f"{path} cannot be written (read-only)")

    monkeypatch.setattr(lengths, "write_whole", refuse)
    assert equal(keep(folder, encoder), lengths_of(ShardDataset(folder), encoder))
    assert "token lengths are measured anew in each run" in capsys.readouterr().out
    assert kept(folder) == []


# --- what is left out, and what is wrong ------------------------------------------------------------------------------


def talk(*words):
    """A conversation about one image, of questions and answers in turn."""
    turns = [Turn(("user", "assistant")[i % 2], text) for i, text in enumerate(words)]
    return [Turn("user", "<image>\n" + turns[0].text), *turns[1:]]


LONG = "no fracture is seen and the mediastinum is not widened " * 3
DIALOGUE = talk("Is it large?", "yes", "Where?", "left", LONG, "no", "Why?", "the heart is enlarged")


def test_a_conversation_too_long_is_split_at_turns_and_the_rest_counted(encoder, tmp_path):
    sample = Sample("s__a__0__0", {"jpg": jpeg(1)}, conversations=[Conversation(DIALOGUE, "q1")])
    dataset = ShardDataset(write_split(tmp_path / "train", [sample]))
    limit = len(encoder.encode(DIALOGUE[:4], 1).ids)
    lengths = lengths_of(dataset, encoder, limit)
    assert lengths.pieces.tolist() == [0, 1]
    assert (lengths.tokens <= limit).all()
    whole = len(encoder.encode(DIALOGUE, 1).ids)
    detail = f"{whole} tokens, objective.max_length={limit}; 1 answers are left out"
    assert lengths.left_out == [LeftOut("s__a__0__0", "q1", "too_long", detail)]
    made = Examples(dataset, lengths, encoder, limit, grouped=False)
    assert [made.key(i) for i in range(len(made))] == ["s__a__0__0#0.0", "s__a__0__0#0.1"]
    texts = [[turn.text for turn in made.read(i).conversations[0].turns] for i in range(2)]
    assert texts == [
        ["<image>\nIs it large?", "yes", "Where?", "left"],
        ["<image>\nWhy?", "the heart is enlarged"],
    ]
    pieces, dropped = split_long(DIALOGUE, 1, encoder, limit)
    assert ([[turn.text for turn in piece] for piece in pieces], dropped) == (texts, 1)


def test_or_dropped_as_a_whole(encoder, tmp_path):
    kept_one = Conversation(DIALOGUE[:2])
    sample = Sample("s__a__0__0", {"jpg": jpeg(1)}, conversations=[Conversation(DIALOGUE), kept_one])
    dataset = ShardDataset(write_split(tmp_path / "train", [sample]))
    limit = len(encoder.encode(DIALOGUE[:4], 1).ids)
    lengths = lengths_of(dataset, encoder, limit, "drop")
    assert lengths.conversations.tolist() == [1]
    assert [(one.conversation, one.reason) for one in lengths.left_out] == [("0", "too_long")]
    assert "4 answers are left out" in lengths.left_out[0].detail


def test_faults_are_told_from_damage(encoder, tmp_path):
    good = vqa_samples(4)
    good[1].conversations = []
    good[2].conversations = [Conversation([Turn("user", "no image"), Turn("assistant", "yes")], "q2")]
    split = write_split(tmp_path / "train", good)
    tar = split / "000000.tar"
    content = bytearray(tar.read_bytes())
    place = content.find(f"{good[3].key}.json".encode())
    content[place + 512] = ord("[")
    tar.write_bytes(content)
    lengths = lengths_of(ShardDataset(split), encoder)
    assert set(lengths.rows) == {0}
    assert [(one.key, one.reason) for one in lengths.left_out] == [(good[3].key, "checksum_mismatch")]
    assert [(one.key, one.conversation, one.reason) for one in lengths.faults] == [
        (good[1].key, "", "no_conversation"),
        (good[2].key, "q2", "placeholder_count"),
    ]


# --- examples ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.integers(30, 160), st.booleans())
def test_every_piece_is_in_one_example_and_fits(dataset, encoder, max_length, grouped):
    lengths = lengths_of(dataset, encoder, max_length)
    made = Examples(dataset, lengths, encoder, max_length, grouped)
    assert len({made.key(i) for i in range(len(made))}) == len(made)
    found = []
    for i, sample in enumerate(made.samples()):
        whole = [encoder.encode(one.turns, 1) for one in sample.conversations]
        assert made.conversations[i] == len(whole)
        assert made.supervised[i] == sum(one.supervised.sum() for one in whole)
        documents = (
            [lay_out(whole, encoder.image_id)] if grouped else [lay_out([one], encoder.image_id) for one in whole]
        )
        tokens = sum(len(document.ids_L) for document in documents)
        assert tokens <= made.lengths[i] <= max_length
        assert sample.key == made.key(i)
        assert made.locate(i) == dataset.locate(int(lengths.rows[made.starts[i]]))
        found += [(sample.key.split("#")[0], one.id, [turn.text for turn in one.turns]) for one in sample.conversations]
        assert len(whole) == 1 or grouped
    expected = []
    for sample in (dataset.read(row) for row in range(len(dataset))):
        for one in sample.conversations:
            pieces, _ = split_long(one.turns, 1, encoder, max_length)
            expected += [(sample.key, one.id, [turn.text for turn in piece]) for piece in pieces]
    assert found == expected


def test_all_questions_of_an_image_are_one_example_where_they_fit(dataset, encoder):
    lengths = lengths_of(dataset, encoder)
    made = Examples(dataset, lengths, encoder, 500, grouped=True)
    assert made.conversations.tolist() == [1 + row % 3 for row in range(9)]
    exact = [
        len(lay_out([encoder.encode(one.turns, 1) for one in dataset.read(row).conversations], encoder.image_id).ids_L)
        for row in range(9)
    ]
    assert made.lengths.tolist() == exact
    alone = Examples(dataset, lengths, encoder, 500, grouped=False)
    assert alone.lengths.tolist() == lengths.tokens.tolist()
    assert alone.manifest_hash != made.manifest_hash  # another order of other examples
    assert made.manifest_hash == Examples(dataset, lengths, encoder, 500, grouped=True).manifest_hash


# --- captions as answers ----------------------------------------------------------------------------------------------

QUESTIONS = ["What does the image show?", "Describe it.", "What is seen?"]


def asked(folder, samples, fields=("caption",), questions=QUESTIONS):
    return Asked(ShardDataset(write_split(folder / "train", samples)), fields, questions)


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
    assert [(one.id, one.turns[1].text) for one in data.read(0).conversations] == [
        ("findings", "a nodule"),
        ("caption", first.texts["caption"]),
    ]
    assert data.read(1).conversations == second.conversations
    assert data.read(2).conversations == []


def test_another_question_is_other_data(tmp_path, encoder):
    shards = ShardDataset(write_split(tmp_path / "train", pairs(6)))
    one, other = Asked(shards, ["caption"], QUESTIONS), Asked(shards, ["caption"], [*QUESTIONS, "Why?"])
    assert len({shards.manifest_hash, one.manifest_hash, other.manifest_hash}) == 3
    for data in (one, other):
        measured(data, encoder, 500, "split", shared_prefix, "a")
    assert len(kept(tmp_path / "train")) == 2


# --- images -----------------------------------------------------------------------------------------------------------


class Brightness:
    """A processor that tells which image it got."""

    def __call__(self, images, return_tensors):
        return {"pixel_values": np.array([np.asarray(image).mean() for image in images])}


def test_images_come_in_the_order_of_their_names():
    def grey(level):
        buffer = io.BytesIO()
        Image.new("RGB", (20, 20), (level,) * 3).save(buffer, "PNG")
        return buffer.getvalue()

    sample = Sample("k", {"10.png": grey(30), "02.png": grey(20), "00.png": grey(10)})
    assert Processed(Brightness(), 10_000)(sample).tolist() == [10, 20, 30]
    assert Processed(Brightness(), 10_000)(Sample("k")).shape == (0,)
    with pytest.raises(BadSample, match="20 × 20 pixels, the cap is 399"):
        Processed(Brightness(), 399)(sample)
