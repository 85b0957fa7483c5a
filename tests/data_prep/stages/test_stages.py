import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_prep.draft import Draft, Drop
from data_prep.stages import apply_stages, build_stages
from data_prep.stages.images import check_images, measure
from data_prep.stages.text import clean_text, need_text
from data_prep.vocabulary.text import tidy
from medvlp.shards import Conversation, Sample, Turn
from tests.data_prep.folders import jpeg


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  two \t lines \r\n here ", "two lines here"),
        ("u\u0308ber", "über"),
        ("bell\x07 and nul\x00", "bell and nul"),
        ("\u202eright-to-left\u202c \u2066isolate\u2069", "right-to-left isolate"),
        ("\ufeffmark zero\u200bwidth soft\u00adhyphen", "mark zerowidth softhyphen"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("5\u00a0mm × 3\u2009mm", "5 mm × 3 mm"),
        ("", ""),
    ],
)
def test_tidy(text, expected):
    assert tidy(text) == expected


@given(st.text())
def test_tidy_twice_is_tidy_once(text):
    assert tidy(tidy(text)) == tidy(text)


def test_lines_of_answers_are_kept():
    sample = Sample("k", conversations=[Conversation([Turn("assistant", "one  \n\n two\u200e ")])])
    assert clean_text(Draft(sample)).sample.conversations[0].turns[0].text == "one\n\ntwo"


def reason(stage, sample, **parameters):
    with pytest.raises(Drop) as caught:
        stage(Draft(sample), **parameters)
    return caught.value.stage, caught.value.reason


def test_text_is_needed_unless_there_is_a_conversation():
    assert reason(need_text, Sample("k", texts={"caption": ""})) == ("need_text", "empty_caption")
    need_text(Draft(Sample("k", conversations=[Conversation([Turn("user", "?")])])))


@pytest.mark.parametrize("caption", ["None", "nan", "-", ".", "…"])
def test_captions_without_words(caption):
    assert reason(need_text, Sample("k", texts={"caption": caption, "note": "x"})) == ("need_text", "wordless_caption")
    draft = need_text(Draft(Sample("k", texts={"caption": caption, "caption_1": "A mass.", "note": caption})))
    assert draft.sample.texts == {"caption": "A mass.", "note": caption}
    assert draft.counts == {("need_text", "captions without words taken away"): 1}
    asked = [Conversation([Turn("user", "?")])]
    assert need_text(Draft(Sample("k", texts={"caption": caption}, conversations=asked))).sample.texts == {}


def png(size=(32, 32), value=None):
    pixels = np.arange(size[0] * size[1], dtype=np.uint8).reshape(size[::-1])
    buffer = io.BytesIO()
    Image.fromarray(np.full_like(pixels, value) if value is not None else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def png_header(width, height):
    """A PNG that claims a size and has no pixels."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), b"IDAT"]
    framed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def palette(*colours):
    image = Image.new("P", (32, 32))
    image.putpalette([value for colour in colours for value in colour])
    image.putpixel((3, 3), 1)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ({"jpg": jpeg(1)[:-200]}, "broken_image"),
        ({"jpg": jpeg(1)[:40]}, "broken_image"),
        ({"jpg": b""}, "broken_image"),
        ({"jpg": b"<svg/>"}, "broken_image"),
        ({"jpg": png()}, "broken_image"),  # what the name says is what is decoded
        ({"left.jpg": jpeg(1), "right.jpg": jpeg(2)[:-200]}, "broken_image"),
        ({"png": png((32, 15))}, "too_small"),
        ({"png": png((17, 52))}, "extreme_aspect"),
        ({"png": png((101, 100))}, "too_many_pixels"),
        ({"png": png_header(60_000, 60_000)}, "too_many_pixels"),
        ({"png": png(value=7)}, "blank_image"),
        ({"png": palette((9, 9, 9), (9, 9, 9))}, "blank_image"),
        ({"png": palette((9, 9, 9), (8, 9, 9))}, "blank_image"),
    ],
)
def test_images_that_are_dropped(images, expected):
    dropped = reason(check_images, Sample("k", images), max_pixels=10_000, min_side=16, max_aspect=3)
    assert dropped == ("check_images", expected)


@pytest.mark.parametrize(
    "images",
    [{}, {"nii.gz": b"a volume"}, {"jpg": jpeg(1)}, {"png": png((100, 100))}, {"png": palette((9, 9, 9), (199, 9, 9))}],
)
def test_images_that_stay(images):
    draft = Draft(Sample("k", images))
    assert check_images(draft, max_pixels=10_000, min_side=16, max_aspect=3) is draft
    assert draft.sample.images == images


def test_measures_of_the_first_image():
    import imagehash

    draft = measure(Draft(Sample("k", {"left.jpg": jpeg(1, side=64), "right.jpg": jpeg(2)})))
    assert (draft.width, draft.height) == (64, 64)
    assert draft.perceptual_hash == str(imagehash.phash(Image.open(io.BytesIO(jpeg(1, side=64)))))
    assert len(draft.perceptual_hash) == 16
    assert measure(Draft(Sample("k", {"nii.gz": b""}))).perceptual_hash == ""


def test_stages_are_what_the_configuration_says():
    limits = {"max_pixels": 100, "min_side": 2, "max_aspect": 20.0}
    stages = [{"stage": "clean_text"}, {"stage": "need_text"}, {"stage": "check_images", **limits}]
    clean, need, check = build_stages(stages)
    draft = need(clean(Draft(Sample("k", {"png": png()}, {"caption": " c "}))))
    assert draft.sample.texts["caption"] == "c"
    with pytest.raises(Drop, match="max_pixels is 100"):
        check(draft)


def test_one_sample_may_become_several():
    def halve(draft):
        draft.count("halve", "halved")
        return [Draft(Sample(f"{draft.sample.key}-{side}"), draft.counts) for side in "ab"]

    def refuse(draft):
        if draft.sample.key.endswith("b"):
            raise Drop("refuse", "b", "it is the second half")
        return draft

    draft = Draft(Sample("k", metadata={"original_name": "k.jpg"}))
    whole, first, second = apply_stages([halve, refuse], draft)
    assert (whole.stage, whole.reason, whole.detail, whole.name) == (
        "split_panels",
        "replaced_by_panels",
        "2 panels",
        "k.jpg",
    )
    assert first.sample.key == "k-a"
    assert (second.reason, second.name) == ("b", "k-b")
    assert draft.counts == {("halve", "halved"): 1}


def test_the_hash_of_16_bits_is_that_of_their_upper_8():
    import imagehash

    deep = (np.random.default_rng(0).integers(0, 256, (8, 8)).repeat(8, 0).repeat(8, 1) * 256 + 77).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(deep).save(buffer, "PNG")
    draft = measure(Draft(Sample("k", {"png": buffer.getvalue()})))
    assert draft.perceptual_hash == str(imagehash.phash(Image.fromarray((deep // 256).astype(np.uint8))))
