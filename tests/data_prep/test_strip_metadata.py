import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from data_prep.stages import Draft, Drop
from data_prep.stages.strip_metadata import strip_metadata, stripped
from medvlp.shards import Sample

SECRET = b"DOE JANE 1970"


def picture():
    coarse = np.random.default_rng(3).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((48, 40), Image.Resampling.BICUBIC)


def encoded(kind, orientation=1, **options):
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()  # ImageDescription
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    if kind == "png":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Patient", SECRET.decode())
        texts.add_itxt("XML:com.adobe.xmp", SECRET.decode())
        options["pnginfo"] = texts
    if kind in ("jpg", "webp"):
        options["xmp"] = b"<x>" + SECRET + b"</x>"
    if kind == "jpg":
        options["comment"] = SECRET
    picture().save(buffer, {"jpg": "JPEG"}.get(kind, kind.upper()), exif=exif, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("jpg", {}),
        ("jpg", {"progressive": True}),
        ("jpg", {"restart_marker_blocks": 2}),
        ("jpg", {"icc_profile": b"a profile" * 9}),
        ("png", {}),
        ("webp", {}),
        ("webp", {"lossless": True}),
    ],
)
def test_only_pixels_are_left(kind, options):
    data = encoded(kind, **options) + (SECRET if kind == "jpg" else b"")
    assert SECRET in data
    draft = strip_metadata(Draft(Sample("k", {kind: data})))
    left = draft.sample.images[kind]
    assert SECRET not in left
    assert left != data
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(left))
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert after.info.get("icc_profile") == options.get("icc_profile")
    assert dict(after.getexif()) == {}
    assert draft.counts == {("strip_metadata", "images with metadata"): 1}
    assert stripped(kind, left) == left


def test_a_turned_picture_is_turned_for_good():
    draft = strip_metadata(Draft(Sample("k", {"left.jpg": encoded("jpg", orientation=6)})))
    assert list(draft.sample.images) == ["left.png"]
    data = draft.sample.images["left.png"]
    assert SECRET not in data
    upright = Image.open(io.BytesIO(encoded("jpg"))).transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(upright))
    assert draft.pictures["left.png"].size == (40, 48)


def test_clean_files_keep_their_bytes():
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG")
    sample = Sample("k", {"jpg": buffer.getvalue(), "nii.gz": b"a volume"})
    draft = strip_metadata(Draft(sample))
    assert draft.sample.images == {"jpg": buffer.getvalue(), "nii.gz": b"a volume"}
    assert draft.counts == {}


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_structure_that_leads_nowhere_is_a_drop(kind):
    with pytest.raises(Drop, match="structure cannot be followed"):
        stripped(kind, encoded(kind)[:60])
