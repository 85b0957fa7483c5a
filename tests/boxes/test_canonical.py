"""The canonical form: conversions to it, and what moves it."""

import io

import numpy as np
import pytest
from PIL import Image

from medvlp.boxes.canonical import BadBox, beyond, box_of, boxes_of, cropped, published_box, turned, within
from medvlp.data.images.decode import ORIENTATION, open_image

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("numbers", "layout", "expected"),
    [
        ([10, 20, 50, 100], "xyxy", (0.05, 0.2, 0.25, 1.0)),
        ([10, 20, 40, 80], "xywh", (0.05, 0.2, 0.25, 1.0)),
        ([30, 60, 40, 80], "cxcywh", (0.05, 0.2, 0.25, 1.0)),
        ([20, 10, 100, 50], "yxyx", (0.05, 0.2, 0.25, 1.0)),
    ],
)
def test_every_layout_of_publishers_gives_the_same_box(numbers, layout, expected):
    box, was_cut = published_box(numbers, layout, 200, 100)
    assert box == pytest.approx(expected)
    assert not was_cut


def test_a_box_that_leaves_its_picture_by_rounding_is_cut_and_a_further_one_refused():
    assert published_box([-1, 0, 201, 100], "xyxy", 200, 100) == ((0.0, 0.0, 1.0, 1.0), True)
    with pytest.raises(BadBox, match="not within 200 × 100") as caught:
        published_box([0, 0, 400, 50], "xyxy", 200, 100)
    assert caught.value.reason == "box_outside_image"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([0.1, 0.2, 0.3], "box_not_numbers"),
        ([0.1, 0.2, 0.3, NAN], "box_not_numbers"),
        ([0.1, 0.2, INF, 0.4], "box_not_numbers"),
        ([0.1, 0.2, "0.3", 0.4], "box_not_numbers"),
        ([0.1, 0.2, True, 0.4], "box_not_numbers"),
        ("0.1 0.2 0.3 0.4", "box_not_numbers"),
        (None, "box_not_numbers"),
        ([0.3, 0.2, 0.1, 0.4], "box_negative_size"),
        ([0.1, 0.5, 0.3, 0.4], "box_negative_size"),
        ([0.1, 0.2, 0.1, 0.4], "box_empty"),
        ([-0.1, 0.2, 0.3, 0.4], "box_outside_image"),
        ([0.1, 0.2, 0.3, 1.001], "box_outside_image"),
        ([10, 20, 30, 40], "box_outside_image"),
    ],
)
def test_what_is_no_box_is_refused_by_name(value, reason):
    with pytest.raises(BadBox) as caught:
        box_of(value)
    assert caught.value.reason == reason
    with pytest.raises(BadBox):
        boxes_of([[0.1, 0.2, 0.3, 0.4], value])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_turns_as_the_pixels_do(orientation):
    """A white rectangle is drawn, the file is shown upright by the rules of images, and the box is where it is white."""
    pixels = np.zeros((20, 40), np.uint8)
    pixels[4:10, 8:30] = 255
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    image = np.asarray(open_image(file.getvalue(), 10**6))
    rows, columns = np.nonzero(image)
    height, width = image.shape
    drawn = columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height
    assert turned((8 / 40, 4 / 20, 30 / 40, 10 / 20), orientation) == pytest.approx(drawn)
    box, _ = published_box([8, 4, 30, 10], "xyxy", 40, 20, orientation)
    assert box == pytest.approx(drawn)


def test_a_crop_cuts_a_box_and_moves_it():
    assert cropped((0.25, 0.5, 0.75, 1.0), (0.5, 0.0, 1.0, 1.0)) == (0.0, 0.5, 0.5, 1.0)
    assert cropped((0.0, 0.0, 0.4, 0.4), (0.5, 0.5, 1.0, 1.0)) is None
    box, window = (0.1, 0.2, 0.3, 0.9), (-0.5, 0.25, 1.5, 0.75)
    assert beyond(within(box, window), window) == pytest.approx(box)
