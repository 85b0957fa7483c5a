"""Token lengths cached next to the shards: what they are, when they are believed, what is skipped or wrong."""

import io

import numpy as np
import pytest

from medvlp.data.chat import lengths
from medvlp.data.chat.examples import Examples
from medvlp.data.chat.lengths import COLUMNS, Untrainable, cached_lengths, measure_lengths
from medvlp.data.chat.packing import shared_prefix
from medvlp.data.chat.splitting import split_long
from medvlp.shards import Conversation, Sample, ShardDataset, ShardError, Turn
from tests.assistants import vqa_samples
from tests.data.chat.conftest import TOKENS
from tests.data.chat.dialogues import DIALOGUE
from tests.datasets import jpeg, write_split


def lengths_of(dataset, encoder, max_length=500, too_long="split"):
    return measure_lengths(dataset, encoder, max_length, too_long)


def equal(first, second):
    same = all(np.array_equal(getattr(first, name), getattr(second, name)) for name in COLUMNS)
    return same and (first.skipped, first.faults) == (second.skipped, second.faults)


def test_lengths_are_those_of_the_encoded_conversations(dataset, encoder):
    lengths = lengths_of(dataset, encoder)
    expected = []
    for row in range(len(dataset)):
        sample = dataset.read(row)
        whole = [encoder.encode(conversation.turns, 1) for conversation in sample.conversations]
        shared = shared_prefix(whole)
        expected += [
            (row, i, -1, len(conversation.ids), conversation.supervised.sum(), shared)
            for i, conversation in enumerate(whole)
        ]
        assert shared >= TOKENS + 3 or len(whole) == 1  # <|im_start|>, the role, and the image
    assert list(zip(*(getattr(lengths, name) for name in COLUMNS), strict=True)) == expected
    assert (lengths.skipped, lengths.faults) == ([], [])


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
    return cached_lengths(ShardDataset(folder), encoder, max_length, too_long, identity)


def kept(folder):
    return sorted(folder.glob(".lengths-*.npz"))


def test_lengths_are_kept_beside_the_shards_and_used_again(folder, encoder):
    first = keep(folder, encoder, max_length=48)
    assert first.skipped
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


def flipped(content, offset):
    return content[:offset] + bytes([content[offset] ^ 0xFF]) + content[offset + 1 :]


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
def test_a_damaged_file_is_measured_again_and_replaced(folder, encoder, damage):
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
        **{name: np.load(io.BytesIO(content))[name][:-3] for name in COLUMNS.values()},
        left_out=np.array('[{"key": "made__other", "conversation": "", "reason": "too_long", "detail": ""}]'),
    ),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_table_is_not_believed_of_conversations_that_say_otherwise(folder, encoder, forge, capsys):
    first = keep(folder, encoder)
    (path,) = kept(folder)
    path.write_bytes(forge(path.read_bytes()))
    assert equal(keep(folder, encoder), first)
    assert "does not hold the token lengths of these conversations; they are measured again" in capsys.readouterr().out


def test_no_wrong_byte_is_trusted(folder, encoder):
    first = keep(folder, encoder)
    (path,) = kept(folder)
    good = path.read_bytes()
    for offset in range(0, len(good), 31):
        path.write_bytes(flipped(good, offset))
        assert equal(keep(folder, encoder), first)


def test_where_nothing_can_be_written_lengths_are_measured_in_each_run(folder, encoder, monkeypatch, capsys):
    def refuse(path, content):
        raise ShardError(f"{path} cannot be written (read-only)")

    monkeypatch.setattr(lengths, "write_whole", refuse)
    assert equal(keep(folder, encoder), lengths_of(ShardDataset(folder), encoder))
    assert "token lengths are measured again in each run" in capsys.readouterr().out
    assert kept(folder) == []


def test_a_conversation_too_long_is_split_at_turns_and_the_rest_counted(encoder, tmp_path):
    sample = Sample("s__a__0__0", {"jpg": jpeg(1)}, conversations=[Conversation(DIALOGUE, "q1")])
    dataset = ShardDataset(write_split(tmp_path / "train", [sample]))
    limit = len(encoder.encode(DIALOGUE[:4], 1).ids)
    lengths = lengths_of(dataset, encoder, limit)
    assert lengths.pieces.tolist() == [0, 1]
    assert (lengths.tokens <= limit).all()
    whole = len(encoder.encode(DIALOGUE, 1).ids)
    detail = f"{whole} tokens, objective.max_length={limit}; 1 answers are left out"
    assert lengths.skipped == [Untrainable("s__a__0__0", "q1", "too_long", detail)]
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
    assert [(record.conversation, record.reason) for record in lengths.skipped] == [("0", "too_long")]
    assert "4 answers are left out" in lengths.skipped[0].detail


def test_faults_are_told_from_damage(encoder, tmp_path):
    good = vqa_samples(4)
    good[1].conversations = []
    good[2].conversations = [Conversation([Turn("user", "no image"), Turn("assistant", "yes")], "q2")]
    split = write_split(tmp_path / "train", good)
    tar = split / "000000.tar"
    content = bytearray(tar.read_bytes())
    offset = content.find(f"{good[3].key}.json".encode())
    content[offset + 512] = ord("[")
    tar.write_bytes(content)
    lengths = lengths_of(ShardDataset(split), encoder)
    assert set(lengths.rows) == {0}
    assert [(record.key, record.reason) for record in lengths.skipped] == [(good[3].key, "checksum_mismatch")]
    assert [(record.key, record.conversation, record.reason) for record in lengths.faults] == [
        (good[1].key, "", "no_conversation"),
        (good[2].key, "q2", "placeholder_count"),
    ]
