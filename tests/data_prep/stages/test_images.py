"""How images are shown: what is changed once in preparation, and that a reader sees the same before and after."""

import io
import itertools
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data_prep.draft import Draft, Drop
from data_prep.errors import BadRow
from data_prep.pipeline import prepare
from data_prep.png import encode_png
from data_prep.readers.image_files import shard_image
from data_prep.stages.images import check_images, measure, png_names
from medvlp.data.images.decode import decode_image, open_image
from medvlp.data.images.pixels import ImageFile
from medvlp.shards import Sample, ShardDataset

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation → what brings the pixels upright."""

RAMP = np.linspace(0, 1, 64 * 48).reshape(48, 64)


def picture():
    coarse = np.random.default_rng(3).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((48, 40), Image.Resampling.BICUBIC)


def encoded(image, form="PNG", orientation=None, **options):
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def checked(images, metadata=None, **options):
    return check_images(
        Draft(Sample("k", images, metadata=metadata or {})), max_pixels=10_000, min_side=1, max_aspect=50, **options
    )


def only(draft):
    """The one image's bytes, and what was done to it."""
    (data,) = draft.sample.images.values()
    return data, next(iter(draft.sample.metadata.get("rendered", {}).values()), {})


@pytest.mark.parametrize(("mode", "orientation"), [*itertools.product(["L", "RGB"], TURNS), ("CMYK", 5)])
def test_every_turn(mode, orientation):
    image = picture().convert(mode)
    data = encoded(image, "JPEG", orientation)
    draft = checked({"jpg": data})
    upright = decode_image(encoded(image, "JPEG"), 10_000).transpose(TURNS[orientation])
    after = Image.open(io.BytesIO(draft.sample.images["png"]))
    assert np.array_equal(np.asarray(after.convert("RGB")), np.asarray(upright))
    assert np.array_equal(np.asarray(decode_image(data, 10_000)), np.asarray(upright))  # `ask` sees it so as well
    assert dict(after.getexif()) == {}
    assert only(draft)[1] == {"orientation": orientation}
    assert draft.counts == {("check_images", "images turned as their EXIF says"): 1}
    measured = measure(draft)
    assert (measured.width, measured.height) == upright.size


@pytest.mark.parametrize("orientation", [None, 1, 0, 9, 6543])
@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_what_any_reader_shows_alike_keeps_its_bytes(kind, orientation):
    data = encoded(picture(), {"jpg": "JPEG"}.get(kind, kind.upper()), orientation)
    draft = checked({kind: data})
    assert draft.sample.images[kind] is data
    assert (draft.sample.metadata, draft.counts) == ({}, {})


def test_exif_that_cannot_be_read_turns_nothing():
    data = encoded(picture(), "WEBP", orientation=6, lossless=True)
    header = data.index(b"MM\0*")
    damaged = data[:header] + b"QQ" + data[header + 2 :]
    assert np.array_equal(np.asarray(open_image(damaged, 10_000)), np.asarray(picture()))


@pytest.mark.parametrize(
    ("names", "turned", "expected"),
    [
        (["left.jpg", "right.jpg"], ["left.jpg"], ["left.png", "right.jpg"]),
        (["left.jpg", "left.png"], ["left.jpg"], ["left-jpg.png", "left.png"]),
        (["jpg", "png"], ["jpg"], ["jpg.png", "png"]),
        (["jpg", "lat.jpg"], ["jpg"], ["jpg.png", "lat.jpg"]),
        (["left.png", "left.webp"], ["left.webp"], ["0.png", "1.png"]),
        (["left.jpeg", "left.jpg"], ["left.jpeg"], ["left-jpeg.png", "left.jpg"]),
        (["left.jpeg", "left.jpg", "left.png"], ["left.jpg"], ["0.jpeg", "1.png", "2.png"]),
        (["a-name-of-20-letters.jpg", "a-name-of-20-letters.png"], ["a-name-of-20-letters.jpg"], ["0.png", "1.png"]),
        (["a.nii.gz", "jpg", "png"], ["jpg"], ["a.nii.gz", "jpg.png", "png"]),
        (["left.png", "left.jpeg", "left.jpg"], ["left.png"], ["left.jpeg", "left.jpg", "left.png"]),
    ],
)
def test_images_keep_apart_and_in_order(names, turned, expected):
    assert list(png_names(names, set(turned)).values()) == expected


def test_the_turned_one_of_several_images():
    upright = encoded(picture(), "JPEG")
    draft = checked({"left.jpg": encoded(picture(), "JPEG", 3), "right.jpg": upright})
    assert sorted(draft.sample.images) == ["left.png", "right.jpg"]
    assert draft.sample.images["right.jpg"] is upright
    assert draft.sample.metadata == {"rendered": {"left.png": {"orientation": 3}}}


@pytest.mark.parametrize("form", ["RGBA", "LA", "P", "I;16", "L"])
def test_what_is_transparent_lies_on_white(form):
    """A black drawing on nothing, as figures are drawn; only its surround is transparent."""
    ink = np.zeros((40, 48), bool)
    ink[10:20, 5:40] = True
    zero, alpha = np.zeros((40, 48), np.uint8), np.where(ink, 255, 0).astype(np.uint8)
    options = {}
    if form in ("RGBA", "LA"):
        image = Image.fromarray(np.dstack([zero, alpha] if form == "LA" else [zero, zero, zero, alpha]))
    elif form == "P":
        image = Image.fromarray(np.where(ink, 1, 0).astype(np.uint8), "P")
        image.putpalette([90, 90, 90, 0, 0, 0])
        options["transparency"] = 0
    elif form == "L":
        image, options["transparency"] = Image.fromarray(np.where(ink, 0, 7).astype(np.uint8)), 7
    else:
        image, options["transparency"] = Image.fromarray(np.where(ink, 0, 65535).astype(np.uint16)), 65535
    data = encoded(image, **options)
    draft = checked({"png": data})
    after, changes = only(draft)
    expected = np.where(ink, 0, 255)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(after)).convert("L")), expected)
    assert np.array_equal(np.asarray(decode_image(data, 10_000))[:, :, 1], expected)
    assert changes["ground"] == "white"
    assert draft.counts["check_images", "images with transparent pixels, laid on white"] == 1


def test_an_opaque_alpha_channel_changes_nothing():
    data = encoded(picture().convert("RGBA"))
    draft = checked({"png": data})
    assert draft.sample.images["png"] is data
    assert np.array_equal(np.asarray(open_image(data, 10_000)), np.asarray(picture()))


def sbit(values, bits):
    return encode_png(values.astype(np.uint16), bits)


@pytest.mark.parametrize(
    ("data", "changes"),
    [
        (sbit(RAMP * 4095, 0), {"values": [0, 4095], "rule": "bits"}),
        (sbit(RAMP * 4095, 12), {"values": [0, 4095], "rule": "header"}),
        (sbit(RAMP * 2000, 14), {"values": [0, 16383], "rule": "header"}),
        (sbit(RAMP * 65535, 12), {}),  # as PNG wants it: scaled up, and 12 bits are what was before
        (sbit(RAMP * 65535, 0), {}),
        (sbit(RAMP * 9000, 16), {}),
        (sbit(RAMP * 900, 0), {"values": [0, 1023], "rule": "bits"}),
    ],
)
def test_sixteen_bits_of_which_fewer_are_used(data, changes):
    draft = checked({"png": data})
    after, said = only(draft)
    assert said == changes
    values = np.asarray(Image.open(io.BytesIO(data))).astype(np.float64)
    low, high = changes.get("values", [0, 65535])
    expected = np.clip((values - low) / (high - low) * 255, 0, 255)
    for view in (open_image(after, 10_000), open_image(data, 10_000)):
        assert np.abs(np.asarray(view) - expected).max() <= 1
    if not changes:
        assert after is data


@pytest.mark.parametrize("values", [32768 + RAMP * 4095, 1000 + RAMP * 200])
def test_an_offset_is_taken_off(values):
    draft = checked({"png": sbit(values, 0)})
    after, said = only(draft)
    assert said["rule"] == "percentiles"
    assert said["values"] == pytest.approx([values.min(), values.max()], abs=np.ptp(values) / 100)
    view = np.asarray(open_image(after, 10_000))
    assert (view.min(), view.max()) == (0, 255)
    assert draft.counts == {
        ("check_images", "images of more than 8 bits, scaled from 0.1% to 99.9% of their own values"): 1
    }


def test_a_hot_pixel_does_not_make_the_rest_black():
    values = RAMP * 4095
    values[0, 0] = 65535
    view = np.asarray(open_image(only(checked({"png": sbit(values, 0)}))[0], 10_000))
    assert np.median(view) == pytest.approx(128, abs=2)


def test_limits_that_somebody_chose():
    draft = checked({"png": sbit(RAMP * 4095, 0)}, intensity=[1000, 2000])
    after, said = only(draft)
    assert said == {"values": [1000, 2000], "rule": "option"}
    view = np.asarray(open_image(after, 10_000)).ravel()
    assert view[RAMP.ravel() * 4095 < 1000].max() == 0
    assert view[RAMP.ravel() * 4095 > 2001].min() == 255


@pytest.mark.parametrize(("intensity", "offset"), [((), 0), ((), 30_000), ((1000, 2000), 0)])
def test_grey_that_is_scaled_may_keep_16_bits(intensity, offset):
    data = sbit(RAMP * 4095 + offset, 0)
    eight, sixteen = (only(checked({"png": data}, intensity=intensity, grey_bits=bits)) for bits in (8, 16))
    assert sixteen[1] == {**eight[1], "bits": 16}
    views = [np.asarray(open_image(after, 10_000)).astype(int) for after, _ in (eight, sixteen)]
    assert np.abs(views[0] - views[1]).max() <= 1
    deep = ImageFile(sixteen[0], 10_000, is_deep=True).pixels()
    assert len(deep.unique()) > 700


def tiff(values, **options):
    return encoded(Image.fromarray(values), "TIFF", **options)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (tiff(RAMP.astype(np.float32)), {"values": [0, 1], "rule": "bits"}),
        (tiff((RAMP * 200).astype(np.float32)), {"values": [0, 255], "rule": "bits"}),
        (tiff((RAMP * 4095).astype(np.uint16)), {"values": [0, 4095], "rule": "bits"}),
        (tiff(np.rint(RAMP * 2000 - 1000).astype(np.int32)), {"values": [-998, 998], "rule": "percentiles"}),
        (tiff((RAMP * 1e6).astype(np.int32)), {"values": [1000, 999000], "rule": "percentiles"}),
        (tiff((RAMP - 0.5).astype(np.float32)), {"values": [-0.499, 0.499], "rule": "percentiles"}),
        (tiff((RAMP * 65535).astype(np.uint16)), {}),
    ],
)
def test_tiff_of_any_depth(data, said):
    """Floats, signed and 32 bits, which PNG does not hold: the ramp is shown as a ramp, and the record is in its own values."""
    read = shard_image("a.tif", data)
    assert (read.extension, read.reencoded_from) == ("png", "tif")
    draft = checked({"png": read.data}, metadata=read.metadata)
    after, changes = only(draft)
    assert changes.get("rule") == said.get("rule")
    assert changes.get("values", []) == pytest.approx(said.get("values", []), rel=0.002, abs=1)
    values = np.asarray(Image.open(io.BytesIO(data))).astype(np.float64)
    low, high = changes.get("values", [0, 65535])
    expected = np.clip((values - low) / (high - low) * 255, 0, 255)
    assert np.abs(np.asarray(open_image(after, 10_000)) - expected).max() <= 2
    assert "rescale" not in draft.sample.metadata


def test_tiff_in_which_zero_is_white():
    data = tiff((RAMP * 4095).astype(np.uint16), tiffinfo={262: 0})
    view = np.asarray(open_image(shard_image("a.tif", data).data, 10_000))
    assert (view[0, 0], view[-1, -1]) == (255, 0)


def test_a_tiff_that_is_turned():
    read = shard_image("a.tif", encoded(picture(), "TIFF", tiffinfo={0x0112: 6}))
    assert Image.open(io.BytesIO(read.data)).size == (40, 48)


def sixteen_bit_colour(top):
    """A PNG of 16 bits a colour."""
    rows = np.repeat((RAMP * top).astype(">u2")[:, :, None], 3, axis=2)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 64, 48, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def test_sixteen_bits_a_colour_are_refused_where_only_the_lower_ones_are_used():
    with pytest.raises(Drop) as dropped:
        checked({"png": sixteen_bit_colour(4095)})
    assert (dropped.value.stage, dropped.value.reason) == ("check_images", "deep_colour")
    assert "scale it to 8 bits" in dropped.value.detail
    checked({"png": sixteen_bit_colour(65535)})


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray((127 + (RAMP > 0.999)).astype(np.uint8)),
        Image.fromarray(np.random.default_rng(0).normal(90, 1.2, (48, 64)).astype(np.uint8)),
        Image.fromarray((1000 + (RAMP * 5)).astype(np.uint16)),
        Image.fromarray(np.dstack([np.full((48, 64), 255, np.uint8)] * 3 + [(RAMP * 255).astype(np.uint8)])),
    ],
)
def test_what_shows_nothing_is_blank(image):
    """One grey level apart, noise, a few steps of 16 bits, white on transparent."""
    with pytest.raises(Drop) as dropped:
        checked({"png": encoded(image)})
    assert dropped.value.reason == "blank_image"


def test_a_nearly_black_image_stays_and_is_counted():
    draft = checked({"png": encoded(Image.fromarray((RAMP * 15).astype(np.uint8)))})
    assert draft.counts == {("check_images", "nearly black images"): 1}


@pytest.mark.parametrize(("kind", "form"), [("png", "PNG"), ("webp", "WEBP")])
def test_several_frames_are_a_drop(kind, form):
    data = encoded(picture(), form, save_all=True, append_images=[picture().rotate(180)], lossless=True)
    with pytest.raises(Drop) as dropped:
        checked({kind: data})
    assert dropped.value.reason == "several_frames"


def test_a_strip_is_a_drop_whatever_max_aspect_says():
    with pytest.raises(Drop) as dropped:
        check_images(Draft(Sample("k", {"png": encoded(Image.new("L", (2, 102)))})), 10_000, 1, max_aspect=1e9)
    assert dropped.value.reason == "extreme_aspect"


def test_colour_tiff_that_pillow_cannot_read():
    data = bytearray(tiff(RAMP.astype(np.float32)))
    offset = data.index(struct.pack("<HHIH", 262, 3, 1, 1))  # min is black → a kind that there is not
    data[offset + 8 : offset + 10] = struct.pack("<H", 99)
    with pytest.raises(BadRow) as bad:
        shard_image("a.tif", bytes(data))
    assert (bad.value.reason, "save it as PNG" in bad.value.detail) == ("broken_image", True)


def test_prepared(tmp_path):
    """Table, metadata and ledger say it, and training's decoder sees in the shards what `ask` sees in the files."""
    folder = tmp_path / "in" / "mass"
    folder.mkdir(parents=True)
    files = {
        "deep.png": sbit(RAMP * 4095, 0),
        "drawing.png": encoded(
            Image.fromarray(np.dstack([np.zeros((40, 48, 3), np.uint8), np.eye(40, 48, dtype=np.uint8) * 255]))
        ),
        "float.tif": tiff(RAMP.astype(np.float32)),
        "plain.jpg": encoded(picture(), "JPEG"),
        "turned.jpg": encoded(picture(), "JPEG", 6),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    prepare("image_folder", tmp_path / "in", tmp_path / "out", workers=1)
    dataset = ShardDataset(tmp_path / "out/train")
    samples = [dataset.read(row) for row in range(len(dataset))]
    rendered = {s.metadata["original_name"]: s.metadata.get("rendered") for s in samples}
    assert rendered == {
        "mass/deep.png": {"png": {"values": [0, 4095], "rule": "bits"}},
        "mass/drawing.png": {"png": {"ground": "white"}},
        "mass/float.tif": {"png": {"values": [0, 1], "rule": "bits"}},
        "mass/plain.jpg": None,
        "mass/turned.jpg": {"png": {"orientation": 6}},
    }
    assert list(zip(dataset.column("width"), dataset.column("height"), strict=True))[-1] == (40, 48)
    for sample, (name, data) in zip(samples, sorted(files.items()), strict=True):
        (shard,) = sample.images.values()
        if not name.endswith("tif"):
            assert np.array_equal(np.asarray(open_image(shard, 10_000)), np.asarray(open_image(data, 10_000))), name
        if name == "plain.jpg":
            assert shard == data
    assert json.loads((tmp_path / "out/ledger.json").read_text())["counts"]["check_images"] == {
        "images of more than 8 bits, of which fewer than 16 are used, scaled by these": 2,
        "images turned as their EXIF says": 1,
        "images with transparent pixels, laid on white": 1,
    }
