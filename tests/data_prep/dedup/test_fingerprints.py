"""What a sample is recognised by."""

import hashlib
import io

import imagehash
import numpy as np
import pytest
from PIL import Image

from data_prep.dedup.fingerprints import Fingerprints, fingerprint, normalised, text_digest, tilted_hash, unsigned
from data_prep.dedup.similarity import SIDE
from data_prep.draft import Draft
from data_prep.stages.images import measure
from medvlp.shards import Conversation, Sample, Turn
from tests.data_prep.dedup.fingerprinted import fingerprints_of, png, sample_of, scene
from tests.data_prep.planted import cropped


def fingerprint_sample(sample):
    return fingerprint(measure(Draft(sample)))


def test_a_picture_leaves_its_bytes_two_hashes_and_a_thumbnail():
    data = png(scene(1))
    labels = {"view": "AP", "finding": [1]}
    row = fingerprint_sample(
        sample_of("a", data, caption="Chest CT.", group="g", source="s", article="pmc12 ", labels=labels)
    )
    whole = Image.open(io.BytesIO(data))
    assert row["sha256"] == [hashlib.sha256(data).digest()]
    assert (len(row["thumbnail"][0]), row["side"]) == (SIDE * SIDE, [160])
    assert (row["key"], row["source"], row["group"], row["article"]) == ("a", "s", "g", "PMC12")
    assert (row["text"], row["words"]) == ([text_digest("chest ct")], [2])
    assert row["labels"] == '{"finding": [1], "view": "AP"}'
    assert (row["hash"][0] ^ tilted_hash(whole)).bit_count() <= 2
    inner = tilted_hash(cropped(whole, 0.03))
    assert (row["inner_hash"][0] ^ inner).bit_count() <= 2 < (row["hash"][0] ^ inner).bit_count()


def test_a_symmetric_picture_has_a_hash_that_noise_does_not_change():
    """Of a plain perceptual hash, the bits of odd coefficients are those of the noise."""
    half = np.asarray(scene(1)).astype(np.float64)[:, :80]
    mirrored = np.concatenate([half, half[:, ::-1]], 1)
    noisy = [mirrored + np.random.default_rng(seed).normal(0, 2, mirrored.shape) for seed in range(6)]
    pictures = [Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)) for pixels in noisy]
    plain = [int(str(imagehash.phash(picture)), 16) for picture in pictures]
    tilted = [tilted_hash(picture) for picture in pictures]
    assert max((plain[0] ^ hash).bit_count() for hash in plain[1:]) > 10
    assert max((tilted[0] ^ hash).bit_count() for hash in tilted[1:]) <= 2


def test_a_caption_that_a_template_made_is_no_text_of_its_own():
    long = "This is a photograph of a chest radiograph that shows no finding."
    assert fingerprint_sample(sample_of("a", caption=long))["words"] == [12]
    assert fingerprint_sample(sample_of("a", caption=long, templated=["caption"]))["words"] == []
    assert fingerprint_sample(sample_of("a", caption=long, templated=["caption_1"]))["words"] == [12]
    assert fingerprint_sample(sample_of("a", caption=long, templated="caption"))["words"] == [12]  # no list: not ours


@pytest.mark.parametrize("value", [0, 255])
def test_an_even_picture_and_a_volume_are_known_by_their_bytes_alone(value):
    nearly_even = Image.new("L", (200, 200), value)
    nearly_even.putpixel((3, 3), 128)
    row = fingerprint_sample(Sample("a", {"1.png": png(nearly_even), "2.nii.gz": b"volume"}))
    assert [row[name] for name in ("hash", "inner_hash", "thumbnail", "side")] == [[None] * 2] * 4
    assert row["sha256"][1] == hashlib.sha256(b"volume").digest()


def test_sixteen_bits_look_like_their_upper_eight():
    eight = scene(3)
    sixteen = Image.fromarray(np.asarray(eight).astype(np.uint16) * 256 + 77)
    first, second = fingerprint_sample(sample_of("a", png(eight))), fingerprint_sample(sample_of("b", png(sixteen)))
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
    row = fingerprint_sample(Sample("a", conversations=[Conversation([Turn(*turn) for turn in turns])]))
    assert row["text"] == [text_digest("is it large yes"), text_digest("where left lobe")]
    assert row["words"] == [4, 3]


def test_tables_come_back_in_order_over_files(tmp_path):
    samples = [sample_of(f"k{n}", *[png(scene(n + i)) for i in range(n % 3)]) for n in range(5)]
    marks = fingerprints_of(tmp_path / "marks", samples, per_file=2)
    assert len(marks) == 5
    assert [key for table in marks.columns("key") for key in table["key"].to_pylist()] == ["k0", "k1", "k2", "k3", "k4"]
    lengths = np.concatenate([lengths for lengths, _ in marks.lists("hash")])
    hashes = np.concatenate([unsigned(column) for _, (column,) in marks.lists("hash")])
    assert lengths.tolist() == [0, 1, 2, 0, 1]
    assert hashes.tolist() == [fingerprint_sample(sample_of("k", png(scene(n))))["hash"][0] for n in (1, 2, 3, 4)]
    assert len(Fingerprints([])) == 0
