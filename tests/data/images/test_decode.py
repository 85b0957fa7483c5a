import ast
import io
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import medvlp
from medvlp.data.images.decode import changes_in_words, decode_image, decode_with_changes, open_image
from medvlp.shards import BadSample, Sample
from tests.datasets import jpeg

CAP = 10_000


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def claiming(side: int) -> bytes:
    """A small PNG whose header says that it is as wide and as high as `side`."""
    data = bytearray(encoded(Image.new("1", (4, 4))))
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_pixels_are_pils_own():
    data = jpeg(3)
    assert np.array_equal(np.array(open_image(data, CAP)), np.array(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize(
    ("image", "mode", "pixel"),
    [
        (Image.new("L", (4, 4), 77), "L", 77),
        (Image.new("1", (4, 4), 1), "RGB", (255, 255, 255)),
        (Image.new("LA", (4, 4), (0, 0)), "RGB", (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (100, 50, 25, 255)), "RGB", (100, 50, 25)),
        (Image.fromarray(np.full((4, 4), 0x8100, np.uint16)), "L", 0x81),
        (Image.fromarray(np.full((4, 4), 300, np.uint16)), "L", 75),
    ],
)
def test_every_mode_becomes_8_bit_grey_or_rgb(image, mode, pixel):
    opened = open_image(encoded(image), CAP)
    assert (opened.mode, opened.getpixel((0, 0))) == (mode, pixel)
    assert decode_image(encoded(image), CAP).mode == "RGB"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (jpeg(1)[:-200], "undecodable_image"),
        (b"", "undecodable_image"),
        (b"not an image", "undecodable_image"),
        (pickle.dumps([1, 2]), "undecodable_image"),
        (encoded(Image.new("RGB", (4, 4)), "GIF"), "undecodable_image"),
        (encoded(Image.new("RGB", (4, 4)), "TIFF"), "undecodable_image"),
        (encoded(Image.new("1", (101, 100))), "too_many_pixels"),
        (claiming(30_000), "too_many_pixels"),
    ],
)
def test_what_is_damaged_foreign_or_too_large_is_a_bad_sample(data, reason):
    with pytest.raises(BadSample) as caught:
        open_image(data, CAP)
    assert caught.value.reason == reason


@pytest.mark.parametrize("size", [(1, 65_000), (65_000, 1), (51, 1)])
def test_strips_are_refused_before_anything_resizes_them(size):
    """Resized to a tower's 224, the first would have 3 billion pixels."""
    with pytest.raises(BadSample) as caught:
        open_image(encoded(Image.new("L", size)), 100_000)
    assert caught.value.reason == "extreme_aspect"
    assert open_image(encoded(Image.new("L", (50, 1))), CAP).size == (50, 1)


def test_what_was_changed_is_said():
    deep = Image.fromarray(np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16))
    assert (
        changes_in_words(decode_with_changes(encoded(deep), CAP)[1])
        == "more than 8 bits: values from 0 (black) to 4095 (white), by bits"
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    assert changes_in_words(decode_with_changes(encoded(Image.new("RGB", (4, 4)), "JPEG", exif=exif), CAP)[1]) == (
        "turned upright (EXIF orientation 6)"
    )
    assert changes_in_words(decode_with_changes(jpeg(1), CAP)[1]) == ""


def test_users_of_a_loaded_model_read_images_alike(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(encoded(Image.new("L", (6, 4)), "JPEG", exif=exif))
    image = medvlp.read_image(tmp_path / "a.jpg")
    assert (image.mode, image.size) == ("RGB", (4, 6))


def test_images_are_opened_nowhere_else():
    """One decoder for all: who opens an image by other means leaves its caps, turning, ground and scaling out."""
    root = Path(__file__).resolve().parents[3]
    openers = set()
    for path in [*(root / "medvlp").rglob("*.py"), *(root / "data_prep").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called == "Image.open" or called.endswith((".imread", ".imdecode", "io.read_image", "decode_png")):
                openers.add(path.relative_to(root).as_posix())
    assert openers == {
        "medvlp/data/images/decode.py",
        "data_prep/draft.py",  # whose pictures `check_images` shows by the rules
        "data_prep/readers/image_files.py",  # GIF, TIFF and BMP to PNG
        "data_prep/sources/own_files/dicom_studies/pixels.py",  # the size of an encoded frame
    }


@pytest.mark.parametrize(("size", "reason"), [((1, 65_000), "extreme_aspect"), ((400, 300), "too_many_pixels")])
def test_every_path_to_a_tower_refuses_them(size, reason):
    from medvlp.data.chat.images import Processed
    from medvlp.data.images.crop import RandomView
    from medvlp.data.pairs import PreparePairs
    from medvlp.data.texts import FieldTexts
    from medvlp.report.thumbnails import thumbnail

    data = encoded(Image.new("L", size))
    sample = Sample("k", {"png": data}, {"caption": "c"})
    pairs = PreparePairs([FieldTexts(("caption",))], lambda text: [1], RandomView(8, (0.5, 1), (0.9, 1.1), 100_000))
    for refuses in (
        lambda: pairs(sample, 0, np.random.default_rng(0)),
        lambda: Processed(None, 100_000)(sample),
        *([lambda: thumbnail(data)] if reason == "extreme_aspect" else []),
    ):
        with pytest.raises(BadSample) as caught:
            refuses()
        assert caught.value.reason == reason
