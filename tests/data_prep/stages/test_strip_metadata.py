import io
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from data_prep.draft import Draft, Drop
from data_prep.stages.images import check_images
from data_prep.stages.strip_metadata import strip_metadata, stripped
from medvlp.shards import Sample

SECRET = b"DOE JANE 1970"


def picture():
    coarse = np.random.default_rng(3).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((48, 40), Image.Resampling.BICUBIC)


def plain(form, image=None, orientation=None, **options):
    buffer = io.BytesIO()
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    (image or picture()).save(buffer, form, **options)
    return buffer.getvalue()


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)))


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
        ("jpg", {"icc_profile": b"a profile of " + SECRET}),
        ("png", {}),
        ("png", {"icc_profile": b"a profile of " + SECRET}),
        ("webp", {}),
        ("webp", {"icc_profile": b"a profile of " + SECRET}),
        ("webp", {"lossless": True}),
    ],
)
def test_only_pixels_are_left(kind, options):
    data = encoded(kind, **options) + (SECRET if kind == "jpg" else b"")
    assert SECRET in data
    draft = strip_metadata(Draft(Sample("k", {kind: data})))
    stripped_data = draft.sample.images[kind]
    assert SECRET not in stripped_data
    assert stripped_data != data
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(stripped_data))
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert "icc_profile" not in after.info
    assert dict(after.getexif()) == {}
    profiles = {("strip_metadata", "colour profiles taken out"): 1} if options.get("icc_profile") else {}
    assert draft.counts == {("strip_metadata", "images with metadata"): 1, **profiles}
    assert stripped(kind, stripped_data) == stripped_data
    if kind == "webp":
        assert (stripped_data[12:16], stripped_data[20]) == (b"VP8X", 0)  # its header promises nothing


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


@pytest.mark.parametrize("orientation", [None, 1, 0, 9, 6543])
@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_what_is_not_turned_stays_encoded_as_it_is(kind, orientation):
    form = {"jpg": "JPEG"}.get(kind, kind.upper())
    data, clean = plain(form, orientation=orientation), plain(form)
    draft = strip_metadata(Draft(Sample("k", {kind: data})))
    if kind == "webp":  # its extended header stays
        assert np.array_equal(decoded(draft.sample.images[kind]), decoded(clean))
        assert clean[12:] in draft.sample.images[kind]
    else:
        assert draft.sample.images == {kind: clean}


def test_only_changed_images_are_counted():
    images = {"left.jpg": plain("JPEG", orientation=6), "left.png": plain("PNG"), "right.jpg": plain("JPEG")}
    draft = strip_metadata(Draft(Sample("k", dict(images))))
    assert draft.counts == {("strip_metadata", "images with metadata"): 1}
    assert {name: draft.sample.images[name] for name in ("left.png", "right.jpg")} == {
        name: images[name] for name in ("left.png", "right.jpg")
    }


def segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize(
    "extra",
    [
        segment(0xE0, b"JFXX\0\x10" + SECRET),
        segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\5\1" + SECRET),
        segment(0xE0, b"JFIF\0" + SECRET[:8]),
        segment(0xE2, b"MPF\0" + SECRET),
        segment(0xED, b"Photoshop 3.0\0" + SECRET),
        segment(0xF0, SECRET),
        segment(0xFE, SECRET),
    ],
)
def test_jpeg_segments_that_decoding_does_not_need(extra):
    clean = plain("JPEG")
    assert stripped("jpg", clean) == clean
    assert stripped("jpg", clean[:20] + extra + clean[20:]) == clean  # behind JFIF
    assert stripped("jpg", clean[:2] + extra + clean[2:]) == clean


def test_a_thumbnail_in_the_jfif_header():
    clean = plain("JPEG")
    header = segment(0xE0, clean[6:18] + bytes([3, 2]) + bytes(range(18)) + SECRET)
    data = clean[:2] + header + clean[20:]
    assert np.array_equal(decoded(data), decoded(clean))
    assert stripped("jpg", data) == clean


def test_what_stands_behind_adobes_transform():
    clean = plain("JPEG", picture().convert("CMYK"))
    position = clean.index(b"\xff\xee\0\x0eAdobe")
    longer = clean[:position] + segment(0xEE, clean[position + 4 : position + 16] + SECRET) + clean[position + 16 :]
    assert stripped("jpg", longer) == clean == stripped("jpg", clean)


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"tIME", b"\x07\xb2\1\2\3\4\5"),
        chunk(b"iCCP", SECRET + b"\0\0" + zlib.compress(b"a profile")),
        chunk(b"sPLT", SECRET + b"\0\x08"),
        chunk(b"pHYs", SECRET),
        chunk(b"gAMA", SECRET),
        chunk(b"juNk", SECRET),
    ],
)
def test_png_chunks_that_decoding_does_not_need(extra):
    clean = plain("PNG")
    assert stripped("png", clean[:33] + extra + clean[33:]) == clean  # behind IHDR
    assert stripped("png", clean + SECRET) == clean


def test_png_chunks_that_display_needs():
    clean = plain("PNG")
    needed = chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"pHYs", struct.pack(">IIB", 2835, 2835, 1))
    assert stripped("png", clean[:33] + needed + clean[33:]) == clean[:33] + needed + clean[33:]


def test_a_second_image_in_webp_goes():
    clean = plain("WEBP", lossless=True)
    body = clean[8:] + b"VP8L" + struct.pack("<I", len(SECRET)) + SECRET + b"\0"
    assert stripped("webp", b"RIFF" + struct.pack("<I", len(body)) + body) == clean


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("kind", "form"), [("png", "PNG"), ("webp", "WEBP")])
def test_animations_are_let_go(kind, form, orientation):
    other = [picture().rotate(180)]
    data = plain(form, orientation=orientation, save_all=True, append_images=other, lossless=True)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    with pytest.raises(Drop) as dropped:
        strip_metadata(Draft(Sample("k", {kind: data})))
    assert (dropped.value.stage, dropped.value.reason) == ("deidentify_pixels", "several_frames")


def test_an_animation_of_one_frame_is_let_go():
    image = plain("WEBP", lossless=True)[12:]
    frame = bytes(6) + struct.pack("<HBHB", 47, 0, 39, 0) + bytes(4) + image
    body = b"WEBPVP8X" + struct.pack("<IIHBHB", 10, 2, 47, 0, 39, 0)
    body += b"ANIM" + struct.pack("<I", 6) + bytes(6) + b"ANMF" + struct.pack("<I", len(frame)) + frame
    data = b"RIFF" + struct.pack("<I", len(body)) + body
    assert Image.open(io.BytesIO(data)).n_frames == 1
    with pytest.raises(Drop) as dropped:
        strip_metadata(Draft(Sample("k", {"webp": data})))
    assert (dropped.value.stage, dropped.value.reason) == ("deidentify_pixels", "several_frames")


def test_of_several_pictures_in_a_jpeg_the_first_is_left():
    other = picture().rotate(180)
    data = plain("MPO", save_all=True, append_images=[other])
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as both:
        assert (both.format, both.n_frames) == ("MPO", 2)
    after = strip_metadata(Draft(Sample("k", {"jpg": data}))).sample.images["jpg"]
    assert np.array_equal(decoded(after), decoded(data))
    assert after.count(b"\xff\xd8\xff") == 1


def damaged(rng, data):
    """Some bytes changed, a third cut; half of the PNGs with checksums that fit, or the first of them would end it."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        changed[rng.integers(len(data) if rng.random() < 0.5 else min(300, len(data)))] = rng.integers(256)
    if data.startswith(b"\x89PNG") and rng.random() < 0.5:
        position = 8
        while position + 12 <= len(data):
            end = position + 8 + int.from_bytes(data[position : position + 4], "big")
            changed[position : position + 4] = data[position : position + 4]
            changed[end : end + 4] = struct.pack(">I", zlib.crc32(changed[position + 4 : end]))
            position = end + 4
    return bytes(changed[: rng.integers(len(data)) if rng.random() < 0.3 else None])


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, over damaged EXIF and animations
@pytest.mark.parametrize(
    ("checked", "kind"), [(checked, kind) for checked in (True, False) for kind in ("jpg", "png", "webp")]
)
def test_damaged_files_come_through_or_are_drops(kind, checked):
    """Nothing but Drop is raised, and what comes through carries nothing."""
    rng = np.random.default_rng(7)
    image = picture()
    whole = {
        "jpg": [encoded("jpg", 6), encoded("jpg", progressive=True), plain("JPEG", image.convert("CMYK"), 3)],
        "png": [
            encoded("png", 6),
            plain("PNG", image.convert("P"), 8),
            plain("PNG", save_all=True, append_images=[image]),
        ],
        "webp": [encoded("webp", 6, lossless=True), plain("WEBP", image.convert("RGBA"), 5)],
    }[kind]
    ends = Counter()
    for _ in range(300):
        draft = Draft(Sample("k", {kind: damaged(rng, whole[rng.integers(len(whole))])}))
        try:
            draft = strip_metadata(check_images(draft, 10_000, 1, 50) if checked else draft)
        except Drop as drop:
            ends[drop.stage] += 1
        else:
            ends["through"] += 1
            assert SECRET[:6] not in b"".join(draft.sample.images.values())
    assert ends.keys() <= {"through", "check_images", "strip_metadata", "deidentify_pixels"}
    assert min(ends["through"], 300 - ends["through"]) >= 5
