import io
import pickle

import numpy as np
import pytest
from PIL import Image

from medvlp.data.decode import decode_image, open_image
from medvlp.shards import BadSample
from tests.datasets import jpeg

CAP = 10_000


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_pixels_are_pils_own():
    data = jpeg(3)
    assert np.array_equal(np.array(open_image(data, CAP)), np.array(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize(
    ("image", "mode", "pixel"),
    [
        (Image.new("L", (4, 4), 77), "L", 77),
        (Image.new("1", (4, 4), 1), "RGB", (255, 255, 255)),
        (Image.new("LA", (4, 4), (200, 0)), "RGB", (0, 0, 0)),
        (Image.new("RGBA", (4, 4), (100, 50, 25, 255)), "RGB", (100, 50, 25)),
        (Image.fromarray(np.full((4, 4), 0x8100, np.uint16)), "L", 0x81),
        (Image.fromarray(np.full((4, 4), 300, np.uint16)), "L", 1),
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
        (encoded(Image.new("1", (30_000, 30_000))), "too_many_pixels"),
    ],
)
def test_what_is_damaged_foreign_or_too_large_is_a_bad_sample(data, reason):
    with pytest.raises(BadSample) as caught:
        open_image(data, CAP)
    assert caught.value.reason == reason
