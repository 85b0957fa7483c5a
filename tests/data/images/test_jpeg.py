import io

import numpy as np
import pytest
import torch
from PIL import Image

from medvlp.data.images.crop import RandomView, box_within
from medvlp.data.images.decode import ORIENTATION, open_image
from medvlp.data.images.jpeg import decoded, plain_size, reduction_for
from medvlp.data.images.pixels import ImageFile, open_pixels
from medvlp.shards import BadSample

CAP = 10**6


def picture(width: int = 181, height: int = 123, mode: str = "RGB") -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (12, 18, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(picture(), exif=exif)


FILES = {
    "420": encoded(picture(), subsampling="4:2:0"),
    "422": encoded(picture(), subsampling="4:2:2"),
    "444": encoded(picture(), subsampling="4:4:4", quality=30),
    "progressive": encoded(picture(), progressive=True),
    "restarts": encoded(picture(), restart_marker_rows=1),
    "no colour transform": encoded(picture(), keep_rgb=True),
    "grey": encoded(picture(mode="L")),
    "cmyk": encoded(picture(mode="CMYK")),
    "one pixel": encoded(picture(1, 1)),
    **{f"turned {orientation}": turned(orientation) for orientation in range(2, 9)},
    "png": encoded(picture(), "PNG"),
    "palette": encoded(picture().quantize(16), "PNG"),
    "transparent": encoded(picture(mode="RGBA"), "PNG"),
    "deep": encoded(Image.fromarray(np.arange(40_000, dtype=np.uint16).reshape(200, 200)), "PNG"),
}
PLAIN = {"cmyk": False, "png": False, "palette": False, "transparent": False, "deep": False}


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_that_pillow_gives_by_the_rules(name):
    file = ImageFile(FILES[name], CAP)
    picture = open_image(FILES[name], CAP)
    expected = np.asarray(picture).reshape(picture.height, picture.width, -1)
    assert file.is_plain is PLAIN.get(name, True)
    assert file.size == expected.shape[:2]
    assert np.array_equal(file.pixels().permute(1, 2, 0).numpy(), expected)


def test_a_truncated_file_is_no_image_wherever_it_ends():
    data = FILES["420"]
    assert decoded(data) is not None
    for end in range(200, len(data) - 2, 97):
        assert decoded(data[:end]) is None
        with pytest.raises(BadSample, match="undecodable_image"):
            open_pixels(data[:end], CAP)


def test_what_pillow_tolerates_is_decoded_by_pillow():
    data = FILES["420"].replace(b"\xff\xda", b"\x00\x00\xff\xda", 1)  # bytes that are no segment
    assert decoded(data) is None
    assert np.array_equal(open_pixels(data, CAP).permute(1, 2, 0).numpy(), np.asarray(open_image(data, CAP)))


@pytest.mark.parametrize("name", FILES)
def test_headers_that_say_all_are_read_without_pillow(name):
    is_bare = PLAIN.get(name, True) and not name.startswith("turned")
    assert plain_size(FILES[name]) == (ImageFile(FILES[name], CAP).size if is_bare else None)


def test_headers_that_pillow_reads_otherwise_are_left_to_it():
    data = FILES["420"]
    others = {
        "XMP": b"\xff\xe1\x00\x08http:/",
        "several pictures": b"\xff\xe2\x00\x06MPF\0",
        "half of a JFIF mark": b"\xff\xe0\x00\x07JFIF\0",
        "a second frame": data[data.index(b"\xff\xc0") :][:19],
        "no segment": b"\x00",
    }
    assert plain_size(data) == (123, 181)
    assert {name: plain_size(data[:2] + segment + data[2:]) for name, segment in others.items()} == dict.fromkeys(
        others
    )
    assert [plain_size(data[:end]) for end in (0, 1, 2, 100, 600)] == [None] * 5


def test_caps_are_checked_before_pixels():
    with pytest.raises(BadSample, match="too_many_pixels"):
        ImageFile(FILES["420"], 1000)
    with pytest.raises(BadSample, match="extreme_aspect"):
        ImageFile(encoded(picture(200, 2)), CAP)


@pytest.mark.parametrize(
    ("height", "width", "reduction"), [(63, 200, 1), (64, 200, 2), (127, 500, 2), (128, 128, 4), (600, 600, 8)]
)
def test_the_reduction_leaves_as_many_pixels_as_the_view(height, width, reduction):
    assert reduction_for(height, width, 32) == reduction


@pytest.mark.parametrize("name", ["420", "grey", "turned 6", "png"])
def test_a_scaled_view_is_the_whole_ones_up_to_a_little(name):
    views = [
        RandomView(32, [0.8, 1], [0.75, 1.33], CAP, is_scaled)(FILES[name], np.random.default_rng(7))
        for is_scaled in (False, True)
    ]
    assert torch.equal(*views) is (name == "png")
    assert (views[0].int() - views[1].int()).abs().float().mean() < 8  # a box in whole pixels moves by half of one


def test_reduced_pixels_are_those_of_pillows_draft():
    image = Image.open(io.BytesIO(FILES["444"]))
    image.draft(None, (45, 30))
    assert np.array_equal(decoded(FILES["444"], 4), np.asarray(image))


def test_a_box_stays_within_the_smaller_image():
    assert box_within((0, 0, 123, 181), (123, 181), (62, 91)) == (0, 0, 62, 91)
    top, start, height, width = box_within((122, 180, 1, 1), (123, 181), (16, 23))
    assert (top, start) == (15, 22)
    assert (height, width) == (1, 1)


def deep_file(values_HW: np.ndarray, **options) -> bytes:
    return encoded(Image.fromarray(values_HW.astype(np.uint16)), "PNG", **options)


GRADIENT = np.linspace(0, 4000, 60 * 80).reshape(60, 80)


@pytest.mark.parametrize(
    "data",
    [
        deep_file(GRADIENT),
        deep_file(GRADIENT * 16),
        deep_file(GRADIENT / 4 + 30_000),  # a narrow window: by percentiles
        deep_file(GRADIENT, exif=(exif := Image.Exif(), exif.__setitem__(ORIENTATION, 6))[0]),
        deep_file(GRADIENT, transparency=2000),
    ],
    ids=["12 bits", "16 bits", "percentiles", "turned", "transparent"],
)
def test_deep_pixels_are_those_of_8_bits_before_their_rounding(data):
    deep, eight = (ImageFile(data, CAP, is_deep).pixels() for is_deep in (True, False))
    assert deep.dtype == torch.float32
    assert deep.shape[1:] == eight.shape[1:]
    eight = eight[:1]  # on white it is colour
    assert (deep - eight).abs().max() <= 1
    assert len(deep.unique()) > len(eight.unique())
    view = RandomView(32, [0.8, 1], [0.75, 1.33], CAP, is_deep=True)
    pixels = view(data, np.random.default_rng(7))
    eight_view = RandomView(32, [0.8, 1], [0.75, 1.33], CAP)(data, np.random.default_rng(7))
    assert torch.equal(pixels, pixels[:1].expand(3, -1, -1))
    assert (pixels - eight_view).abs().max() <= 2.5  # of rounding in both directions, and of ours
    assert view.image_bytes == pixels.numel() * 4


def test_where_a_file_has_8_bits_deep_views_hold_the_same_values():
    for name in ("420", "grey", "png"):
        views = [
            RandomView(32, [0.8, 1], [0.75, 1.33], CAP, is_deep=is_deep)(FILES[name], np.random.default_rng(7))
            for is_deep in (False, True)
        ]
        assert torch.equal(views[0].float(), views[1])
