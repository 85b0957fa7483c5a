"""What a sample is recognised by."""

import hashlib
import io

import imagehash
import numpy as np
import pytest
from PIL import Image

from data_prep.settle.marks import Marks, describe, normalised, text_digest, unsigned
from data_prep.stages.draft import Draft
from data_prep.stages.images import measure
from medvlp.shards import Conversation, Sample, Turn
from tests.data_prep.planted import cropped
from tests.data_prep.settle.marked import marks_of, png, sample_of, scene


def described(sample):
    return describe(measure(Draft(sample)))


def test_a_picture_leaves_its_bytes_two_hashes_and_a_thumbnail():
    data = png(scene(1))
    row = described(sample_of("a", data, caption="Chest CT.", group="g", source="s", article="pmc12 "))
    whole = Image.open(io.BytesIO(data))
    assert row["sha256"] == [hashlib.sha256(data).digest()]
    assert row["hash"] == [int(str(imagehash.phash(whole)), 16)]
    assert len(row["thumbnail"][0]) == 64 * 64
    assert (row["key"], row["source"], row["group"], row["article"]) == ("a", "s", "g", "PMC12")
    assert (row["text"], row["words"]) == ([text_digest("chest ct")], [2])
    inner = int(str(imagehash.phash(cropped(whole, 0.03))), 16)
    assert (row["inner_hash"][0] ^ inner).bit_count() <= 2 < (row["hash"][0] ^ inner).bit_count()


def test_each_image_counts_and_the_measured_hash_is_taken_over():
    draft = measure(Draft(sample_of("a", png(scene(1)), png(scene(2)))))
    draft.perceptual_hash = "00000000000000ff"
    assert describe(draft)["hash"] == [255, int(str(imagehash.phash(scene(2))), 16)]


@pytest.mark.parametrize("value", [0, 255])
def test_an_even_picture_and_a_volume_are_known_by_their_bytes_alone(value):
    nearly_even = Image.new("L", (200, 200), value)
    nearly_even.putpixel((3, 3), 128)
    row = described(Sample("a", {"1.png": png(nearly_even), "2.nii.gz": b"volume"}))
    assert (row["hash"], row["inner_hash"], row["thumbnail"]) == ([None] * 2, [None] * 2, [None] * 2)
    assert row["sha256"][1] == hashlib.sha256(b"volume").digest()


def test_sixteen_bits_look_like_their_upper_eight():
    eight = scene(3)
    sixteen = Image.fromarray(np.asarray(eight).astype(np.uint16) * 256 + 77)
    first, second = described(sample_of("a", png(eight))), described(sample_of("b", png(sixteen)))
    assert first["thumbnail"] == second["thumbnail"]
    assert first["inner_hash"] == second["inner_hash"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Axial  CT (T2-weighted), 3.5 cm.", "axial ct t2 weighted 3 5 cm"),
        ("ﬁbrosis – Straße", "fibrosis strasse"),
        ("胸部CT", "胸 部 ct"),
        ("…", ""),
    ],
)
def test_texts_are_compared_by_their_words(text, expected):
    assert normalised(text) == expected


def test_each_question_is_a_text_with_its_answer():
    turns = [("user", "<image>\nIs it large?"), ("assistant", "Yes"), ("user", "Where?"), ("assistant", "Left lobe")]
    row = described(Sample("a", conversations=[Conversation([Turn(*turn) for turn in turns])]))
    assert row["text"] == [text_digest("is it large yes"), text_digest("where left lobe")]
    assert row["words"] == [4, 3]


def test_tables_come_back_in_order_over_files(tmp_path):
    samples = [sample_of(f"k{n}", *[png(scene(n + i)) for i in range(n % 3)]) for n in range(5)]
    marks = marks_of(tmp_path / "marks", samples, per_file=2)
    assert len(marks) == 5
    assert [key for table in marks.columns("key") for key in table["key"].to_pylist()] == ["k0", "k1", "k2", "k3", "k4"]
    lengths = np.concatenate([lengths for lengths, _ in marks.lists("hash")])
    hashes = np.concatenate([unsigned(column) for _, (column,) in marks.lists("hash")])
    assert lengths.tolist() == [0, 1, 2, 0, 1]
    assert hashes.tolist() == [int(str(imagehash.phash(scene(n))), 16) for n in (1, 2, 3, 4)]
    assert len(Marks([])) == 0
