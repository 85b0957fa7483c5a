"""Panels found in figures of which it is known where they are."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from data_prep.panels.gutters import READINGS, find_panels, read_panels
from tests.data_prep.panels.compound import compose, synthetic_picture


def gray(figure):
    return np.asarray(figure.picture.convert("L"))


def is_close(boxes, expected, pixels=4):
    """Reduction, JPEG and letters that touch a panel move an edge by a few pixels."""
    return (
        boxes is not None and len(boxes) == len(expected) and bool(np.abs(np.subtract(boxes, expected)).max() <= pixels)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 9),
    st.integers(0, 10_000),
    st.sampled_from(["white", "black", "#b0b0b0"]),
    st.sampled_from([4, 9, 20]),
)
def test_panels_are_found_in_reading_order(count, seed, ground, gutter):
    light = 1 if ground in ("white", "black") else 0.5  # a gutter has to differ from most of what it parts
    pictures = [synthetic_picture(seed + number, light=light) for number in range(count)]
    figure = compose(pictures, ["x"] * count, Random(seed), ground, gutter, letters=False)
    assert is_close(find_panels(gray(figure), count), figure.boxes)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10_000))
def test_letters_in_corners_above_and_below_change_nothing(count, seed):
    pictures = [synthetic_picture(seed + number) for number in range(count)]
    figure = compose(pictures, ["x"] * count, Random(seed), "white", 10)
    assert is_close(find_panels(gray(figure), count), figure.boxes)


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_panels_that_touch_are_told_apart_or_left(count):
    right = 0
    for seed in range(10):
        pictures = [synthetic_picture(20 * seed + number, light=(1, 0.3, 0.6)[number % 3]) for number in range(count)]
        figure = compose(pictures, ["x"] * count, Random(seed), "none", letters=False)
        boxes = find_panels(gray(figure), count)
        assert boxes is None or is_close(boxes, figure.boxes)
        right += boxes is not None
    assert right >= 6  # the rest have pictures of one brightness above each other


def test_another_number_of_panels_is_not_found():
    figure = compose([synthetic_picture(n) for n in range(4)], ["x"] * 4, Random(0), "white", 10)
    assert [find_panels(gray(figure), count) is not None for count in (2, 3, 4, 5)] == [False, False, True, False]


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("seed", range(5))
def test_a_single_picture_is_one_panel(reading, seed):
    picture_HW = np.asarray(synthetic_picture(seed, side=300))
    assert read_panels(picture_HW, reading) == [(0, 0, 300, 300)]


def test_white_margins_are_trimmed_and_black_ones_kept():
    figure_HW = np.full((300, 300), 255, np.uint8)
    figure_HW[40:250, 20:290] = 0
    figure_HW[80:200, 60:250] = 150
    assert read_panels(figure_HW, "light gutters") == [(20, 40, 290, 250)]


@pytest.mark.parametrize("reading", READINGS)
def test_a_plot_is_not_cut_into_its_parts(reading):
    page = Image.new("L", (600, 400), "white")
    draw = ImageDraw.Draw(page)
    draw.line((60, 20, 60, 340), 0, 2)
    draw.line((60, 340, 580, 340), 0, 2)
    for number in range(6):
        draw.rectangle((90 + 80 * number, 340 - 45 * (number + 1), 130 + 80 * number, 340), fill=90)
        draw.text((100 + 80 * number, 350), str(number), fill=0)
        draw.text((35, 320 - 50 * number), str(number), fill=0)
    draw.text((250, 375), "Months after surgery", fill=0)
    assert len(read_panels(np.asarray(page), reading)) == 1


def test_a_plot_beside_a_picture_is_a_panel_with_its_axis():
    page = Image.new("L", (700, 300), "white")
    page.paste(synthetic_picture(1, side=280), (10, 10))
    draw = ImageDraw.Draw(page)
    draw.line((360, 20, 360, 260), 0, 2)
    draw.line((360, 260, 680, 260), 0, 2)
    draw.line([(360 + 4 * x, 240 - (x % 17) * 9) for x in range(80)], 60, 2)
    first, second = find_panels(np.asarray(page), 2)
    assert first == (10, 10, 290, 290)
    assert second[0] <= 360
    assert second[2] >= 680
    assert second[3] >= 260


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        # rows whose gutters do not meet the columns': row by row
        ([(0, 0, 180, 180), (200, 10, 380, 190), (0, 200, 180, 380), (200, 210, 380, 390)], [0, 1, 2, 3]),
        # a tall panel beside two: the tall one first
        ([(0, 0, 180, 380), (200, 0, 380, 180), (200, 200, 380, 380)], [0, 1, 2]),
        # a wide one under two
        ([(0, 0, 180, 180), (200, 0, 380, 180), (0, 200, 380, 380)], [0, 1, 2]),
    ],
)
def test_reading_order(boxes, expected):
    page = Image.new("L", (400, 400), "white")
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        page.paste(synthetic_picture(number).resize((x1 - x0, y1 - y0)), (x0, y0))
    assert find_panels(np.asarray(page), len(boxes)) == [boxes[number] for number in expected]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255))
def test_blank_and_tiny_images_have_no_panels_to_split(width, height, value):
    for reading in READINGS:
        assert len(read_panels(np.full((height, width), value, np.uint8), reading)) <= 1
